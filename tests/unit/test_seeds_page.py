"""docs/seeds.md: every line of both documents has a row, and every row names what exists."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Lines of each document.
LENGTHS = {"TAK-043": 308, "TANK-036": 541}


class Row(NamedTuple):
    """One row of the page."""

    document: str
    first: int
    last: int
    homes: list[str]
    tests: list[str]


def _rows() -> list[Row]:
    rows, document = [], ""
    for line in (ROOT / "docs/seeds.md").read_text().splitlines():
        if line.startswith("## "):
            document = line[3:].partition(":")[0]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if document and re.fullmatch(r"\d+(-\d+)?", cells[0]):
            first, _, last = cells[0].partition("-")
            homes, tests = (re.findall(r"`([^`]+)`", cell) for cell in cells[-2:])
            rows.append(Row(document, int(first), int(last or first), homes, tests))
    return rows


@cache
def _tests_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("document", LENGTHS)
def test_every_line_has_a_row(document: str) -> None:
    at = 1
    for row in _rows():
        if row.document == document:
            assert (row.first, row.last >= row.first) == (at, True)
            at = row.last + 1
    assert at == LENGTHS[document] + 1


def test_every_name_on_the_page_exists() -> None:
    missing = []
    for row in _rows():
        assert row.homes, f"{row.document} {row.first}: it lives nowhere"
        for home in row.homes:
            module, colon, name = home.partition(":")
            try:
                found = attrgetter(name)(import_module(module)) if colon else (ROOT / home).exists()
            except (AttributeError, ImportError):
                found = None
            if not found:
                missing.append(f"{row.document} {row.first}: {home}")
    assert missing == []


def test_every_row_is_proved_by_a_test_that_exists() -> None:
    missing = []
    for row in _rows():
        assert row.tests, f"{row.document} {row.first}: no test"
        for test in row.tests:
            path, _, name = test.partition("::")
            if not (ROOT / path).is_file() or name not in _tests_of(path):
                missing.append(f"{row.document} {row.first}: {test}")
    assert missing == []


def test_types_are_checked() -> None:
    assert "$(BIN)/mypy" in (ROOT / "Makefile").read_text()
    assert "make check" in (ROOT / ".ci/run").read_text()
    mypy = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert (mypy["strict"], {"balancer", "worker"} <= {*mypy["files"]}) == (True, True)


def test_coverage_is_asked_for() -> None:
    assert "--cov-fail-under=90" in (ROOT / "Makefile").read_text()
    assert "make test COV=1" in (ROOT / ".ci/run").read_text()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["run"]
    assert settings == {"branch": True, "source": ["balancer", "worker"]}
