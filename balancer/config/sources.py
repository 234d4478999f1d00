"""What was said, and where: flags, variables, the file. Nothing is judged here beyond what cannot be read."""

from __future__ import annotations

import codecs
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path as File
from typing import Any, NamedTuple

from balancer.config.keys import Key, Path, every_key
from balancer.config.origin import Origin
from balancer.core.errors import Misconfigured
from balancer.inputs import NOT_UNICODE
from balancer.log import printable, without_secrets
from balancer.protocol.place import said

#: The file that is looked for in the current directory, and the variable that names another.
FILE_NAME, FILE_VARIABLE = "balancer.toml", "BALANCER_CONFIG"
#: Largest file, bytes.
MAX_BYTES = 1 << 20
#: Tables and lists within each other; the deepest key there is has three.
DEEPEST = 8
#: Variables that are no key of the file.
OTHER_VARIABLES = {
    *(FILE_VARIABLE, "BALANCER_DEBUG", "BALANCER_REDIS_SERVER", "BALANCER_AGENT_ID"),
    *("BALANCER_GUARD", "BALANCER_TASK_ID", "BALANCER_TASK_ATTEMPT", "BALANCER_TASK_CATEGORY"),
}

_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_WHOLE = re.compile(r"-?[0-9]{1,15}", re.ASCII)
_FLAGS = {"true": True, "false": False}


class Flag(NamedTuple):
    """What an option of the command line said."""

    path: Path
    option: str
    value: Any


@dataclass(frozen=True)
class Problem:
    """A broken rule."""

    key: str
    value: Any
    rule: str
    origin: Origin

    def __str__(self) -> str:
        shown = "" if self.value is NOTHING else f" {_shown(self.value)}"
        key = printable(self.key, 200)
        if self.origin.kind == "flag":
            return f"{self.origin.place}:{shown} {self.rule}"
        return f"{key}:{shown} {self.rule} ({printable(str(self.origin))})"


#: The value of a problem that is not about a value.
NOTHING = object()


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return printable(repr(without_secrets(value)), 80)
    return printable(str(value).lower() if isinstance(value, bool) else str(value), 80)


def find_file(given: str | None, environment: Mapping[str, str]) -> tuple[File | None, str]:
    """The file to read, and what named it.

    Raises:
        Misconfigured: the variable is set but empty.
    """
    if given is not None:
        return File(given), "--config"
    if (named := said(FILE_VARIABLE, environment)) is not None:
        return File(named), FILE_VARIABLE
    return (File(FILE_NAME), FILE_NAME) if os.path.lexists(FILE_NAME) else (None, "")


def read_file(path: File, named_by: str) -> tuple[dict[str, Any], bool]:
    """What the file holds, and whether every user of the machine can read it.

    Raises:
        Misconfigured: it cannot be read, is too large, or is not TOML in UTF-8.
    """
    shown = repr(str(path))
    try:
        opened = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or error
        raise Misconfigured(f"{named_by}: cannot read {shown}: {why}") from None
    with opened:
        mode = os.fstat(opened.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise Misconfigured(f"{named_by}: {shown} is not a file")
        data = opened.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise Misconfigured(f"{named_by}: {shown} is larger than {MAX_BYTES >> 20} MiB")
    if data.startswith(codecs.BOM_UTF8):
        raise Misconfigured(f"{named_by}: {shown} begins with a byte order mark; TOML has none")
    try:
        found = tomllib.loads(data.decode("utf-8"))
        if _is_deep(found):
            raise RecursionError
    except UnicodeDecodeError as error:
        raise Misconfigured(
            f"{named_by}: {shown} is not UTF-8 at byte {error.start}; it may be UTF-16"
        ) from None
    except RecursionError:
        raise Misconfigured(f"{named_by}: {shown} is nested too deep") from None
    except ValueError as error:  # tomllib's own, and integers of thousands of digits
        why = without_secrets(str(error))
        raise Misconfigured(f"{named_by}: {shown} is not TOML: {why}") from None
    return found, bool(mode & stat.S_IROTH)


def _is_deep(tree: Mapping[str, Any]) -> bool:
    """Whether it is nested deeper than any key is; dotted keys can nest for ever."""
    level: list[Any] = [tree]
    for _ in range(DEEPEST):
        inner = (list(node.values()) if isinstance(node, dict) else node for node in level)
        level = [node for nodes in inner for node in nodes if isinstance(node, dict | list)]
    return bool(level)


def leaves(tree: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value of a tree with its path; an empty table is a value, too."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def unfit(value: Any) -> str:
    """The rule that a value breaks whatever its key is; empty when it breaks none."""
    if isinstance(value, list | dict):
        inner = value if isinstance(value, list) else [*value, *value.values()]
        return next(filter(None, map(unfit, inner)), "")
    if isinstance(value, date | time):  # TOML knows them, we know none
        return "is a date or a time; no key takes one"
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        return NOT_UNICODE
    return ""


def from_environment(environment: Mapping[str, str]) -> Iterator[tuple[Key, Origin, Any]]:
    """Every key that a variable gives, with its value; NOTHING for a variable that is set but empty."""
    for key in every_key():
        if key.variable is not None and key.variable in environment:
            text = environment[key.variable].strip()
            origin = Origin("environment", key.variable)
            yield key, origin, parsed(key, text) if text else NOTHING


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Variables that begin like ours and are none of ours. An orchestrator sets such for a service of our name."""
    ours = {key.variable for key in every_key()} | OTHER_VARIABLES
    return sorted(name for name in environment if name.startswith("BALANCER_") and name not in ours)


def parsed(key: Key, text: str) -> Any:
    """The value that a text of a variable or an option stands for; the text itself when it is none of that kind."""
    if key.kind == "integer" and _WHOLE.fullmatch(text):
        return int(text)
    if key.kind == "number" and _NUMBER.fullmatch(text):
        return float(text)
    if key.kind == "boolean":
        return _FLAGS.get(text.lower(), text)
    if key.kind == "array":
        return [part.strip() for part in text.split(",") if part.strip()]
    return text
