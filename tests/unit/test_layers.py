"""The rooms of docs/architecture.md: who may import whom, read from the table and held against the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What stands beside the rooms, directly in balancer/: small helpers that know the core at most.
HELPER = "helper"
FRONT_DOOR = {"balancer", "balancer.__main__"}


def _table() -> dict[str, str]:
    """Room (a folder or a module, dotted) to what the table says it may import."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.split("## Rooms")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    return {
        path.strip("/").removesuffix(".py").replace("/", "."): allowed
        for rooms, _, allowed in rows
        for path in re.findall(r"`([^`]+)`", rooms)
    }


TABLE = _table()


def _allowed(room: str) -> set[str]:
    says = TABLE[room]
    above = list(TABLE)[: list(TABLE).index(room)]
    if says == "nothing of ours":
        return set()
    if says == "everything":
        return {*TABLE, HELPER, "balancer"}
    if says == "`balancer.protocol` only":
        return {"balancer.protocol"}
    helpers = (
        set()
        if room.startswith(("balancer.core", "balancer.protocol", "balancer.ledger"))
        else {HELPER}
    )
    if says == "all of the above":
        return {*above, *helpers}
    named = {f"balancer.{name.strip()}" for name in says.split(",")}
    assert named <= TABLE.keys(), f"{room}: the table allows rooms that it does not list: {says}"
    return named | helpers


def _room_of(module: str) -> str:
    for room in TABLE:
        if module == room or module.startswith(f"{room}."):
            return room
    return module if module in FRONT_DOOR else HELPER


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file; of `from x import y`, x."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module or ""


def _submodules(path: Path) -> Iterator[str]:
    """Of `from x import y`, x.y where that is a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                place = ROOT / node.module.replace(".", "/") / alias.name
                if place.is_dir() or place.with_suffix(".py").is_file():
                    yield f"{node.module}.{alias.name}"


FILES = sorted([*ROOT.glob("balancer/**/*.py"), *ROOT.glob("worker/**/*.py")])
#: All but the front door, which leads everywhere.
INSIDE = [path for path in FILES if _module(path) not in FRONT_DOOR]
OURS = ("balancer", "worker")


def test_the_table_lists_the_rooms() -> None:
    assert {
        "balancer.core",
        "balancer.protocol",
        "balancer.ledger",
        "balancer.loops",
        "worker",
    } <= TABLE.keys()
    assert {_room_of(_module(path)) for path in FILES} >= TABLE.keys()


@pytest.mark.parametrize("path", INSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_the_table(path: Path) -> None:
    room = _room_of(_module(path))
    allowed = {"balancer.core"} if room == HELPER else _allowed(room)
    used = {name for name in (*_imports(path), *_submodules(path)) if name.split(".")[0] in OURS}

    assert not {name for name in used if _room_of(name) not in {room, *allowed}}


@pytest.mark.parametrize("path", sorted(ROOT.glob("worker/**/*.py")), ids=lambda path: path.name)
def test_agent_knows_the_protocol_package_and_nothing_deeper(path: Path) -> None:
    assert {name for name in _imports(path) if name.split(".")[0] == "balancer"} <= {
        "balancer.protocol"
    }


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("balancer/core/**/*.py")), ids=lambda path: path.name
)
def test_core_is_pure(path: Path) -> None:
    """No Redis, no clock, no logging."""
    outside = {name.split(".")[0] for name in _imports(path)}

    assert not outside & {
        "redis",
        "rq",
        "structlog",
        "logging",
        "time",
        "socket",
        "threading",
        "subprocess",
    }
    # Points in time are data; the present one is not.
    assert not re.search(r"\.(now|utcnow|today)\(", path.read_text(encoding="utf-8"))


def test_only_the_ledger_holds_scripts() -> None:
    ledger = ROOT / "balancer/ledger"
    assert {path.parent for path in ROOT.glob("balancer/**/*.lua")} == {ledger, ledger / "parts"}
