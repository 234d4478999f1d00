"""What was said so far, by whom, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from balancer.config.keys import Path
from balancer.config.origin import Origin, of
from balancer.config.sources import Problem

#: Mistakes that are told; of a file that is full of them the rest is counted.
MOST = 100


@dataclass
class Said:
    """A tree of values, with the origin of each by its path."""

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, Origin] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    #: Mistakes beyond those that are told.
    more: int = 0
    #: Why the file could not be read.
    unread: str = ""

    def put(self, path: Path, value: Any, origin: Origin) -> None:
        """Say a value; what was said before is forgotten."""
        node = self.tree
        for part in path[:-1]:
            inner = node.get(part)
            if not isinstance(inner, dict):
                inner = node[part] = {}
            node = inner
        node[path[-1]] = value
        self.origins[path] = origin

    def drop(self, path: Path) -> Any:
        """Take a value back."""
        node = self.tree
        for part in path[:-1]:
            node = node[part]
        return node.pop(path[-1])

    def wrong(self, path: Path, value: Any, rule: str, origin: Origin | None = None) -> None:
        """Something breaks a rule."""
        if len(self.problems) < MOST:
            found = origin or of(self.origins, path)
            self.problems.append(Problem(".".join(path), value, rule, found))
        else:
            self.more += 1

    @property
    def is_full(self) -> bool:
        """Whether more mistakes are only counted: they need no words."""
        return len(self.problems) >= MOST

    def text(self) -> str:
        """All that is wrong, a line each; empty when nothing is."""
        lines = [self.unread] if self.unread else []
        lines += map(str, self.problems)
        return "\n".join(lines + ([f"and {self.more} more"] if self.more else []))
