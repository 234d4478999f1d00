"""Every key of `balancer.toml`, read from the models: path, default, bounds, unit, meaning, variable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

from balancer.config.model import Process
from balancer.core.settings import PoolSettings

Path = tuple[str, ...]

#: Stands for any name in a path: roles, types and categories are the user's own words.
ANY = "*"
#: Variables that are named by hand, because they are older than the rule.
_SPECIAL: dict[Path, str] = {
    ("redis", "url"): "BALANCER_REDIS_URL",
    ("pool", "name"): "BALANCER_POOL",
}
_UNITS = {"_s": "seconds", "_ms": "milliseconds", "_min": "minutes"}
_NAMES = "^[A-Za-z0-9]"


@dataclass(frozen=True)
class Key:
    """One key that holds a value."""

    path: Path
    schema: Mapping[str, Any]
    default: Any

    @property
    def name(self) -> str:
        """The path as it is written."""
        return ".".join(self.path)

    @property
    def variable(self) -> str | None:
        """The variable that gives it; None where the path holds a name of the user's."""
        if ANY in self.path:
            return None
        return _SPECIAL.get(self.path, "BALANCER_" + "_".join(self.path).upper())

    @property
    def kind(self) -> str:
        """number, integer, boolean, string or array."""
        return str(self.schema.get("type", "string"))

    @property
    def means(self) -> str:
        """What it is for."""
        return str(self.schema.get("description", ""))

    @property
    def unit(self) -> str:
        """The unit that the name of the key (or of its table) ends with."""
        for part in reversed(self.path):
            for ending, unit in _UNITS.items():
                if part.endswith(ending):
                    return unit
        return ""

    @property
    def bounds(self) -> str:
        """What values there may be, for people."""
        schema = self.schema
        if words := schema.get("enum") or schema.get("examples"):
            return ", ".join(map(str, words))
        if self.kind == "array":
            return "names"
        if self.kind in ("number", "integer"):
            low = schema.get("minimum", schema.get("exclusiveMinimum"))
            above = "above " if "exclusiveMinimum" in schema else ""
            high = schema.get("maximum", schema.get("exclusiveMaximum"))
            if low is None or high is None:
                return "a whole number" if self.kind == "integer" else "a number"
            return f"{above}{low:,} to {high:,}"
        if str(schema.get("pattern", "")).startswith(_NAMES):
            return "a name"
        return {"boolean": "true, false"}.get(self.kind, "text")


@cache
def every_key() -> tuple[Key, ...]:
    """All keys, in the order of the models."""
    return (*_keys(Process, own_path), *_keys(PoolSettings, file_path))


def key_at(path: Path) -> Key | None:
    """The key of a path in which names stand where the catalogue has `*`."""
    for key in every_key():
        if len(key.path) == len(path) and all(
            own in (ANY, part) for own, part in zip(key.path, path, strict=True)
        ):
            return key
    return None


def own_path(path: Path) -> Path:
    """Where a key of the process stands in the file."""
    return path


def file_path(setting: Path) -> Path:
    """Where a setting of the pool stands in the file: tables by name at the top, all else below [pool]."""
    return setting if setting[0] in named_tables() else ("pool", *setting)


@cache
def named_tables() -> tuple[str, ...]:
    """The settings that are a table from names to values."""
    return tuple(
        name
        for name, field in PoolSettings.model_fields.items()
        if getattr(field.annotation, "__origin__", None) is dict
    )


def _keys(model: type[BaseModel], place: Callable[[Path], Path]) -> Iterator[Key]:
    schema = model.model_json_schema()
    defaults = model().model_dump(mode="json")
    for path, node in _leaves(schema, schema.get("$defs", {}), ()):
        yield Key(place(path), node, _default(defaults, path))


def _leaves(
    node: Mapping[str, Any], definitions: Mapping[str, Any], path: Path
) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    if "$ref" in node:
        node = {**definitions[node["$ref"].rpartition("/")[2]], **node}
    if "anyOf" in node:  # optional, or one of several forms: the first says the most
        node = {**node["anyOf"][0], **{k: v for k, v in node.items() if k != "anyOf"}}
    if "properties" in node:
        for name, child in node["properties"].items():
            yield from _leaves(child, definitions, (*path, name))
        return
    inner = [*node.get("patternProperties", {}).values()]
    if isinstance(node.get("additionalProperties"), dict):
        inner.append(node["additionalProperties"])
    if node.get("type") == "object":
        for child in inner:
            told = {"description": node["description"]} if "description" in node else {}
            yield from _leaves({**told, **child}, definitions, (*path, ANY))
        return
    yield path, node


def _default(defaults: Any, path: Path) -> Any:
    for part in path:
        if part == ANY:
            return None
        defaults = defaults[part]
    return defaults
