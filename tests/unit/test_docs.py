"""What the documentation states must be what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from balancer.config import load
from balancer.config.keys import every_key
from balancer.config.model import PoolPlace, Process
from balancer.config.sources import unknown_variables
from balancer.core.model import Task
from balancer.core.settings import PoolSettings

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading of a page."""
    text = (ROOT / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def fence(page: str, info: str) -> str:
    """The first code block whose info string is this."""
    found = re.search(rf"^```{re.escape(info)}\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    assert found, f"{page} has no block {info!r}"
    return found[1]


def settings() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every setting that is one value, by path, with its schema; `*` stands for any name."""
    schema = PoolSettings.model_json_schema()

    def walk(path: str, node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        node = (
            {**schema["$defs"][node["$ref"].rpartition("/")[2]], **node} if "$ref" in node else node
        )
        for name, child in node.get("properties", {}).items():
            yield from walk(f"{path}.{name}" if path else name, child)
        if "additionalProperties" in node and isinstance(node["additionalProperties"], dict):
            yield from walk(f"{path}.*", node["additionalProperties"])
        elif "patternProperties" in node:
            yield from walk(f"{path}.*", *node["patternProperties"].values())
        elif "properties" not in node:
            yield path, node

    return walk("", schema)


def bounds(node: dict[str, Any]) -> str:
    """The bounds of a schema, in the words of the page."""
    if "anyOf" in node:  # optional
        node = node["anyOf"][0]
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if "examples" in node:
        return ", ".join(f"`{value}`" for value in node["examples"])
    if node["type"] == "array":
        return "names"
    if node["type"] == "boolean":
        return "`true`, `false`"
    low = (
        f"above {node['exclusiveMinimum']:,}"
        if "exclusiveMinimum" in node
        else f"{node['minimum']:,}"
    )
    return f"{low} to {node['maximum']:,}"


def default(path: str) -> str:
    """The default of a setting, in the words of the page."""
    value: Any = PoolSettings().model_dump(mode="json")
    for name in path.split("."):
        if name == "*":
            return {0: "-", 4: "four types", 6: "six categories"}[len(value)]
        value = value[name]
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def test_the_table_of_settings_is_the_model() -> None:
    stated = {
        path.strip("`"): cells
        for path, *cells in rows("docs/configuration.md", "Settings of a pool")
    }
    actual = {path: [default(path), bounds(node)] for path, node in settings()}
    assert {path: cells[:2] for path, cells in stated.items()} == actual
    assert all(cells[2] for cells in stated.values())


def test_the_table_of_keys_is_the_model() -> None:
    stated = {
        cells[0].strip("`"): [cell.replace("`", "") for cell in cells[1:3]]
        for cells in rows("docs/configuration.md", "Keys of a process")
    }
    own = {key.path[0] for key in every_key()} & set(Process.model_fields)
    actual = {
        key.name: ["-" if key.default is None else str(key.default), key.bounds]
        for key in every_key()
        if key.path[0] in own and (key.path[0] != "pool" or key.path[1] in PoolPlace.model_fields)
    }
    assert stated == actual


def test_the_example_of_a_file_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "balancer.toml"
    file.write_text(fence("docs/configuration.md", "toml"))
    assert load(str(file), (), {}).settings.roles["reviewer"].agents == 2


def test_the_table_of_task_fields_is_the_model() -> None:
    stated = {
        cells[0].strip("`"): cells[1].strip("`")
        for cells in rows("docs/configuration.md", "Fields of a task")
    }
    assert list(stated) == list(Task.model_fields)
    words = {"random", "-", "empty", "none"}
    defaults = {name: text.replace(",", "") for name, text in stated.items() if text not in words}
    assert defaults == {name: str(Task.model_fields[name].default) for name in defaults}


def test_every_exit_code_is_documented() -> None:
    from balancer.cli.errors import EXIT_CODES, FAILURE, INTERRUPTED, OK

    stated = {int(cells[0]) for cells in rows("docs/operations.md", "Exit codes")}
    assert stated == {OK, FAILURE, INTERRUPTED, *EXIT_CODES.values()}


def test_every_variable_is_documented() -> None:
    read = {
        name
        for package in ("balancer", "worker")
        for file in (ROOT / package).rglob("*.py")
        for name in re.findall(r'"(BALANCER_[A-Z_]+|NO_COLOR)"', file.read_text())
    }
    stated = {
        name
        for cells in rows("docs/configuration.md", "Environment")
        for name in re.findall(r"`(\w+)`", cells[0])
    }
    assert stated == read
    assert not unknown_variables(dict.fromkeys(read, "x"))


@pytest.mark.parametrize("name", ["producer.py", "agent.py"])
def test_the_examples_are_those_of_the_readme(name: str) -> None:
    assert (ROOT / "examples" / name).read_text() == fence("README.md", f"python {name}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.M)
            assert anchor in {
                re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings
            }
