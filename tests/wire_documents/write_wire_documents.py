"""`make docs`: the tables in docs/wire.md, docs/asyncapi.yaml and docs/schemas/ are made anew from the models."""

from __future__ import annotations

import json
from pathlib import Path

from tests.wire_documents import wire_asyncapi, wire_schemas, wire_tables

DOCS = Path(__file__).parents[2] / "docs"


def documents() -> dict[Path, str]:
    """Every made file and what belongs into it."""
    made = {
        DOCS / "schemas" / name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in wire_schemas.schemas().items()
    }
    wire = DOCS / "wire.md"
    return {
        **made,
        DOCS / "asyncapi.yaml": wire_asyncapi.text(),
        wire: wire_tables.refreshed(wire.read_text(encoding="utf-8")),
    }


def main() -> None:
    made = documents()
    (DOCS / "schemas").mkdir(exist_ok=True)
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
    for path in (DOCS / "schemas").glob("*.json"):
        if path not in made:
            path.unlink()


if __name__ == "__main__":
    main()
