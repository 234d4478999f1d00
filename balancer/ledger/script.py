"""Loads the Lua files: prelude, the parts that a script says it uses (both from `parts`), the script."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

#: Version of the stored data; a pool of an older one, or one that needs a newer one, is refused.
SCHEMA = 3

_USES = re.compile(r"^-- Uses +(.+)$", re.MULTILINE)
_OUTCOMES = re.compile(r"^-- Outcomes +(.+)$", re.MULTILINE)


@cache
def source(name: str) -> str:
    """The text of one script, as it stands in its file."""
    return resources.files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8")


@cache
def part(name: str) -> str:
    """The text of what scripts are made of."""
    return resources.files(__package__).joinpath("parts", f"{name}.lua").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Script:
    """One script, ready to be sent. `alone` scripts come without the prelude."""

    name: str
    alone: bool = False
    text: str = field(init=False, repr=False)
    sha: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        own = source(self.name)
        uses = _USES.search(own)
        used = [name.strip() for name in uses.group(1).split(",")] if uses else []
        text = own if self.alone else "\n".join([*map(part, ["prelude", *used]), own])
        object.__setattr__(self, "text", text)
        object.__setattr__(
            self, "sha", hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        )

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The outcome words that the header promises."""
        found = _OUTCOMES.search(source(self.name))
        words = found.group(1).split(",") if found else []
        return tuple(word.strip() for word in words if word.strip() != "-")


def every_script() -> list[Script]:
    """All scripts of this folder."""
    names = sorted(
        path.name.removesuffix(".lua")
        for path in resources.files(__package__).iterdir()
        if path.name.endswith(".lua")
    )
    return [Script(name, alone="Stands alone" in source(name)) for name in names]
