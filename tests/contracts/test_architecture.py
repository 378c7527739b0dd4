"""The shape of the house, read from the syntax trees of the four packages; nothing is imported.

Each rule is a function from the tree to sentences that say what is wrong where; no sentence, no violation. The tables
of exceptions stand first: an entry needs a reason, and one that is no longer needed is itself a violation.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MAY_IMPORT = {
    "agent": {"agent", "drivers", "sync", "firmware_profiles"},
    "drivers": {"drivers", "firmware_profiles"},
    "sync": {"sync"},
    "firmware_profiles": {"firmware_profiles"},
}
CORE = "agent.core"
CORE_LIBRARIES = {"cryptography"}  # where a certificate must be read
IMPURE = {
    "asyncio", "concurrent", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "select",
    "selectors", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip

# A library lives in one file, so that it can be replaced there. These live in more.
SHARED_LIBRARIES: dict[str, tuple[set[str], str]] = {
    "cryptography": (
        {
            "agent/card_keys.py",
            "agent/certificates.py",
            "agent/contracts/software_keys.py",
            "agent/core/contracts/certificates.py",
            "agent/core/contracts/key_transport.py",
            "agent/core/contracts/path.py",
            "agent/core/contracts/revocation.py",
            "agent/core/contracts/signatures.py",
            "agent/ocmf_signatures.py",
            "agent/signed_meter.py",
            "drivers/cards/aes.py",
            "sync/signing.py",
        },
        "certificates, paths, papers about them, wrapped keys, key files, meters' and our signatures, cards' AES, "
        "boxes: one file each",
    ),
    "pydantic": (
        {
            "agent/api.py",
            "agent/cache/budget_documents.py",
            "agent/cache/documents.py",
            "agent/config.py",
            "agent/fleet/trial.py",
            "agent/wire.py",
            "firmware_profiles/profile.py",
        },
        "each is the one file where a kind of foreign text becomes values",
    ),
    "tuf": (
        {"sync/backend/publisher.py", "sync/documents.py", "sync/vouching.py"},
        "one file signs at the fleet, one verifies on the device, one proves later what was published once",
    ),
}

# The wall clock is read in agent/clock.py, which knows how far it can be believed. These read it, too.
WALL_CLOCK_READERS: dict[str, str] = {
    "agent/clock.py": "is the place",
    "agent/cli/budget.py": "the backend's desk: which periods are over",
    "sync/backend/lending.py": "the backend lends by its own clock, and signs when",
    "agent/cli/fleet.py": "the publisher's desk: it dates what it signs by its own clock",
    "agent/cli/policy.py": "the fleet office's desk: whether a calendar has ended, at what time a question is asked",
    "agent/demo/fleet.py": "writes a policy whose window is closed while the demonstration runs",
    "sync/backend/answering.py": "a server: an answer says when it was given, by its own host's clock",
    "agent/cli/fleet_dispatch.py": "the dispatcher's desk: an override is dated by its own clock",
    "sync/backend/receiver.py": "a server: the date in its acknowledgements is its own host's",
}
WALL_CLOCK = {
    "time.time", "time.time_ns", "time.localtime", "time.gmtime", "datetime.now", "datetime.utcnow", "datetime.today",
    "date.today", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today",
}  # fmt: skip
WALL_CLOCK_ENDS = {each.rpartition(".")[2] for each in WALL_CLOCK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    module: str
    line: int
    for_types_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One module of ours: `drivers.chargers.line` in `drivers/chargers/line.py`."""

    module: str
    path: str
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def house(self) -> str:
        return self.module.partition(".")[0]


Sources = dict[str, Source]


def directions(sources: Sources) -> Iterator[str]:
    for source in sources.values():
        allowed = MAY_IMPORT[source.house]
        for each in source.imports:
            target = top(each.module)
            if target in MAY_IMPORT and target not in allowed:
                names = ", ".join(sorted(allowed))
                yield f"{where(source, each)}, but of our packages {source.house} may import only {names}"


def purity(sources: Sources) -> Iterator[str]:
    for source in in_core(sources):
        for each in source.imports:
            if each.module == CORE or each.module.startswith(CORE + "."):
                continue
            if top(each.module) in IMPURE:
                yield f"{where(source, each)}, but the core has no clock, files, network or log"
            elif top(each.module) not in sys.stdlib_module_names | CORE_LIBRARIES:
                yield f"{where(source, each)}, but the core knows only itself and the standard library"
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith):
                yield f"{source.path}:{node.lineno} waits, but nothing waits in the core"


def cycles(sources: Sources) -> Iterator[str]:
    """Imports inside functions count, imports for types only do not."""
    graph = {
        source.module: {each.module for each in source.imports if each.module in sources and not each.for_types_only}
        for source in sources.values()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "these modules import each other in a circle: " + " <- ".join(error.args[1])


def libraries(sources: Sources) -> Iterator[str]:
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for source in sources.values():
        for each in source.imports:
            if top(each.module) not in sys.stdlib_module_names | set(MAY_IMPORT):
                homes[top(each.module)].add(source.path)
    for library, paths in sorted(homes.items()):
        known, _reason = SHARED_LIBRARIES.get(library, (set(), ""))
        if len(paths) > 1 and not paths <= known:
            yield f"{library} lives in one file, but these import it: {', '.join(sorted(paths - known))}"
    for library, (known, _reason) in SHARED_LIBRARIES.items():
        if gone := known - homes[library]:
            yield f"SHARED_LIBRARIES says that {', '.join(sorted(gone))} imports {library}, but it does not"


def wall_clock(sources: Sources) -> Iterator[str]:
    readers = set()
    for source in sources.values():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and node.attr in WALL_CLOCK_ENDS and ast.unparse(node) in WALL_CLOCK:
                readers.add(source.path)
                if source.path not in WALL_CLOCK_READERS:
                    yield (
                        f"{source.path}:{node.lineno} reads the wall clock, but only agent/clock.py does; "
                        "take the time as an argument"
                    )
    for path in WALL_CLOCK_READERS.keys() - readers:
        yield f"WALL_CLOCK_READERS names {path}, but it does not read the wall clock"


RULES: tuple[Callable[[Sources], Iterator[str]], ...] = (directions, purity, cycles, libraries, wall_clock)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_shape(rule):
    found = list(rule(our_sources()))
    assert not found, "\n".join(["", *found])


def test_every_exception_has_a_reason():
    reasons = [*(reason for _, reason in SHARED_LIBRARIES.values()), *WALL_CLOCK_READERS.values()]
    assert all(reasons)


def test_no_folder_of_tests_or_units_is_a_package():
    assert [str(path) for folder in ("tests", "systemd") for path in (ROOT / folder).rglob("__init__.py")] == []


def test_every_test_file_has_a_name_of_its_own():
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    assert [name for name, times in names.items() if times > 1 and name != "conftest.py"] == []


@pytest.mark.parametrize(
    ("path", "code", "complaint"),
    [
        ("drivers/a.py", "from agent.core import rules", "drivers may import only drivers, firmware_profiles"),
        ("drivers/a.py", "def late():\n    import agent.clock", "imports agent.clock"),
        ("sync/a.py", "import drivers.readers", "sync may import only sync"),
        ("firmware_profiles/a.py", "from drivers import readers", "firmware_profiles may import only"),
        ("agent/core/a.py", "import time", "imports time, but the core has no clock"),
        ("agent/core/a.py", "from logging import getLogger", "imports logging"),
        ("agent/core/a.py", "import pydantic", "knows only itself"),
        ("agent/core/a.py", "from agent import journal", "knows only itself"),
        ("agent/core/a.py", "async def f() -> None: ...", "nothing waits in the core"),
        ("agent/a.py", "import agent.b", "in a circle"),
        ("agent/a.py", "from . import b", "in a circle"),
        ("agent/a.py", "def late():\n    from agent import b", "in a circle"),
        ("agent/a.py", "import tinydb", "tinydb lives in one file, but these import it: agent/a.py, sync/c.py"),
        ("agent/a.py", "import time\nnow = time.time()", "agent/a.py:2 reads the wall clock"),
        ("agent/a.py", "from datetime import datetime\nnow = datetime.now", "agent/a.py:2 reads the wall clock"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, path, code, complaint):
    plant(tmp_path, "agent/b.py", "from agent import a")
    plant(tmp_path, "sync/c.py", "import tinydb")
    plant(tmp_path, path, code)
    found = [sentence for rule in RULES for sentence in rule(read_sources(tmp_path))]
    assert any(complaint in sentence for sentence in found), found


def test_an_import_for_types_only_closes_no_circle(tmp_path):
    plant(tmp_path, "agent/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from agent import b")
    plant(tmp_path, "agent/b.py", "from agent import a")
    assert list(cycles(read_sources(tmp_path))) == []


def plant(root: Path, path: str, code: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(code)


@cache
def our_sources() -> Sources:
    return read_sources(ROOT)


def read_sources(root: Path) -> Sources:
    trees = {}
    for house in MAY_IMPORT:
        for file in sorted((root / house).rglob("*.py")):
            path = file.relative_to(root)
            module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
            trees[module] = (path.as_posix(), ast.parse(file.read_text("utf-8"), filename=str(path)))
    return {
        module: Source(module=module, path=path, tree=tree, imports=tuple(imports_of(module, path, tree, set(trees))))
        for module, (path, tree) in trees.items()
    }


def imports_of(module: str, path: str, tree: ast.Module, ours: set[str]) -> Iterator[Import]:
    """`from a import b` is an import of a.b where that is a module of ours, and of a otherwise."""
    package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and isinstance(node.test, ast.Name | ast.Attribute)
        and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for child in node.body
        for inner in ast.walk(child)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                targets = [alias.name for alias in names]
            case ast.ImportFrom(module=name, names=names, level=level):
                base = absolute(package, name, level)
                targets = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in ours else base for alias in names]
            case _:
                continue
        for target in targets:
            yield Import(module=target, line=node.lineno, for_types_only=id(node) in typing_only)


def absolute(package: str, name: str | None, level: int) -> str:
    if level == 0:
        return name or ""
    base = package.split(".")[: len(package.split(".")) - (level - 1)]
    return ".".join([*base, *([name] if name else [])])


def where(source: Source, each: Import) -> str:
    return f"{source.path}:{each.line} imports {each.module}"


def in_core(sources: Sources) -> Iterator[Source]:
    return (source for source in sources.values() if f"{source.module}.".startswith(CORE + "."))


def top(module: str) -> str:
    return module.partition(".")[0]
