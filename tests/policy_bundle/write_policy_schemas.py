"""`make docs`: the JSON Schemas of a fleet's files, as docs/schemas/fleet keeps them."""

from __future__ import annotations

import json
from pathlib import Path

from agent.fleet.schemas import schemas

FOLDER = Path(__file__).parents[2] / "docs" / "schemas" / "fleet"


def texts() -> dict[Path, str]:
    return {FOLDER / f"{name}.json": json.dumps(schema, indent=2) + "\n" for name, schema in schemas().items()}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
