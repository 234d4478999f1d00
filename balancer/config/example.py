"""`balancer.toml` to begin with: every key with its default, unit, bounds and meaning, each commented out."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from balancer.config.keys import ANY, Key, every_key
from balancer.core.settings import PoolSettings

_WIDTH = 100
_HEAD = """\
# What `balancer` is told to begin with. `balancer config check` looks for mistakes, `balancer config show` has every
# value and its origin: a flag wins over the environment, that over this file, that over the default.
#
# Every key stands here with its default, behind a `#` without a space: take that away to change the value. Units are in
# the names of the keys; a value is a plain number. What stands below [pool], [roles], [specializations] and
# [estimate_min] is stored with a pool when it is created, and kept from then on.
"""
#: What a key without a default is shown with.
_SAMPLES = {
    "redis.url_file": "/run/secrets/redis_url",
    "pool.genesis": "0123456789abcdef0123456789abcdef",
    "roles.*.max_concurrent": 3,
    "roles.*.specializations": ["documentation"],
    "roles.*.agents": 2,
}
_KIND_SAMPLES = {"integer": 1, "number": 1.0, "array": ["name"], "boolean": True, "string": "text"}
#: Stands for the user's own names of roles.
_ROLE = "reviewer"


def example() -> str:
    """The text of the file."""
    tables: dict[tuple[str, ...], list[Key]] = {}
    for key in every_key():
        tables.setdefault(key.path[:-1], []).append(key)
    order = sorted(tables, key=lambda table: (list(_first_parts()).index(table[0]), len(table)))
    return _HEAD + "".join(
        f"\n{text}\n" for table in order for text in _table(table, tables[table])
    )


def _first_parts() -> dict[str, None]:
    return dict.fromkeys(key.path[0] for key in every_key())


def _table(table: tuple[str, ...], keys: list[Key]) -> Iterator[str]:
    if ANY in table:
        name = ".".join(_ROLE if part == ANY else part for part in table)
        yield "\n".join(
            ["# One table for each role that differs, as an example:", f"#[{name}]"]
            + [line for key in keys for line in _lines(key, _sample(key))]
        )
    elif keys[0].path[-1] == ANY:  # a table from the user's names to values
        (name,) = table
        default = PoolSettings().model_dump(mode="json")[name]
        lines = [*_prose(keys[0], "a table given here replaces the whole of the default")]
        lines += [
            f"#[{name}]",
            *(f"#{_toml_key(own)} = {_toml(value)}" for own, value in default.items()),
        ]
        yield "\n".join(lines)
    else:
        yield "\n".join(
            [f"[{'.'.join(table)}]"] + [line for key in keys for line in _lines(key, key.default)]
        )


def _lines(key: Key, value: Any) -> Iterator[str]:
    yield from _prose(key)
    if value is None:
        yield f"#{key.path[-1]} = {_toml(_sample(key))}"
    else:
        yield f"#{key.path[-1]} = {_toml(value)}"


def _prose(key: Key, more: str = "") -> list[str]:
    said = [key.means or key.path[-1].replace("_", " ")]
    said.append(f"{key.bounds} {key.unit}".strip())
    if key.default is None and ANY not in key.path:
        said.append("without one by default")
    if key.variable:
        said.append(key.variable)
    if more:
        said.append(more)
    return textwrap.wrap("; ".join(said), _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _sample(key: Key) -> Any:
    return _SAMPLES.get(key.name, _KIND_SAMPLES[key.kind])


def _toml_key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else json.dumps(name)


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
