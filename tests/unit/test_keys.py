"""Key names: the Python table, the Lua table and the table of docs/architecture.md are one."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from balancer.ledger.script import part
from balancer.protocol.keys import Keys

KEYS = Keys("p")
PRELUDE = part("prelude")
#: Python's name for what Lua calls otherwise.
RENAMED = {"fc": "free_units"}
#: Keys that no script needs under a name: the first is KEYS[1], the others belong to the loops.
NOT_IN_LUA = {"meta", "consumer"}

ATTRIBUTES = {name: value for name, value in vars(KEYS).items() if name != "prefix"}
METHODS = {
    name for name, _ in inspect.getmembers(Keys, inspect.isfunction) if not name.startswith("_")
}


def lua_names() -> dict[str, str]:
    """The table K, evaluated."""
    (table,) = re.findall(r"^local K = \{(.*?)^\}", PRELUDE, re.MULTILINE | re.DOTALL)
    pairs = re.findall(r"(\w+) = P \.\. '(\w+)',", table)
    assert len(pairs) == table.count("="), "an entry of another form"
    return {name: KEYS.prefix + suffix for name, suffix in pairs}


def lua_functions() -> dict[str, str]:
    """The functions k_..., each called with "x"."""
    found = re.findall(
        r"^local function k_(\w+)\((\w+)\) return P \.\. '([\w:]+)' \.\. (\w+) end$",
        PRELUDE,
        re.MULTILINE,
    )
    assert len(found) == PRELUDE.count("local function k_"), "a function of another form"
    assert all(argument == used for _, argument, _, used in found)
    return {RENAMED.get(name, name): f"{KEYS.prefix}{suffix}x" for name, _, suffix, _ in found}


def test_lua_and_python_name_the_same_keys() -> None:
    assert lua_names() == {
        name: value for name, value in ATTRIBUTES.items() if name not in NOT_IN_LUA
    }


def test_lua_and_python_build_the_same_keys() -> None:
    python = {name: getattr(KEYS, name)("x") for name in METHODS - NOT_IN_LUA}

    assert lua_functions() == python


def test_lua_takes_its_prefix_from_the_meta_key() -> None:
    assert "local P = string.sub(KEYS[1], 1, -5)" in PRELUDE
    assert KEYS.meta[:-4] == KEYS.prefix


def test_documented_keys_are_the_keys() -> None:
    text = Path(__file__).parents[2].joinpath("docs/architecture.md").read_text(encoding="utf-8")
    section = text.split("\n## Keys")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = {
        re.sub(r"\{\w+\}", "1", name) for cell in cells for name in re.findall(r"`([^`]+)`", cell)
    }

    built = {getattr(KEYS, name)(1).removeprefix(KEYS.prefix) for name in METHODS}
    assert documented == built | {value.removeprefix(KEYS.prefix) for value in ATTRIBUTES.values()}


def test_all_keys_of_a_pool_share_one_hash_tag() -> None:
    names = [*ATTRIBUTES.values(), *(getattr(KEYS, name)(1) for name in METHODS)]

    assert all(name.startswith("wb:{p}:") and name.count("{") == 1 for name in names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("pool", ["", "a b", "a}b", "{a}", "a:b", "x" * 65, "a\n", "ä"])
def test_pool_that_is_no_name_is_refused(pool: str) -> None:
    with pytest.raises(ValueError, match=r"^pool: .* is not a name"):
        Keys(pool)
