"""Who gave a value: flag, environment, file or default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from balancer.config.keys import Path


class Origin(NamedTuple):
    """Where a value came from: `kind` is flag, environment, file or default."""

    kind: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.place}".rstrip()


DEFAULT = Origin("default")
#: Kinds, weakest first.
RANKS = ("default", "file", "environment", "flag")


def of(origins: Mapping[Path, Origin], path: Path) -> Origin:
    """The origin of a path, of what stands above it, or of what stands below it."""
    for length in range(len(path), 0, -1):
        if path[:length] in origins:
            return origins[path[:length]]
    below = [origin for at, origin in origins.items() if at[: len(path)] == path]
    return below[0] if below else DEFAULT
