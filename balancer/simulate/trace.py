"""A trace as a simulation wants it: rows in the order of their arrival, parents and categories as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from balancer.core.errors import InvalidInput
from balancer.core.model import Priority
from balancer.core.settings import PriorityWeight
from balancer.trace import Row, read

#: Seconds of work that a task has at least: nothing takes no time at all.
LEAST_SIZE_S = 1e-3

#: What a second of waiting costs, by priority: as pools have it unless they are told otherwise.
WEIGHT = {priority: PriorityWeight().of(priority) for priority in Priority}


@dataclass(frozen=True, slots=True)
class Trace:
    """Tasks by arrival, those that arrive together as in their file; a task is known by its place."""

    name: str
    rows: tuple[Row, ...]
    #: As in the file, or flattened (`load.flattened`); seconds.
    arrival_s: tuple[float, ...]
    #: How long each takes an agent of speed 1, seconds.
    size_s: tuple[float, ...]
    weight: tuple[float, ...]
    role: tuple[str, ...]
    #: Each task's category as a place in `categories`.
    category: tuple[int, ...]
    categories: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]
    children: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        """How many tasks."""
        return len(self.rows)

    @property
    def has_parents(self) -> bool:
        """Whether any task waits for another."""
        return any(self.parents)


def load_trace(path: str | Path, limit: int | None = None) -> Trace:
    """The first `limit` tasks of a file (None: all), as `balancer.trace.read` reads it.

    Raises:
        InvalidInput: the file is no trace, or has no rows.
        OSError: the file cannot be read.
    """
    rows = read(path, limit)
    if not rows:
        raise InvalidInput(f"{path}: the trace has no rows")
    return make_trace(rows, Path(path).name.removesuffix(".gz").removesuffix(".csv"))


def make_trace(rows: Sequence[Row], name: str = "trace") -> Trace:
    """These rows, whatever their order; every parent must be among them."""
    ordered = sorted(rows, key=lambda row: (row.arrival_s, row.line))
    place = {row.id: task for task, row in enumerate(ordered)}
    categories = tuple(sorted({row.category for row in ordered}))
    number = {category: index for index, category in enumerate(categories)}
    parents = tuple(tuple(place[parent] for parent in row.depends_on) for row in ordered)
    children: list[list[int]] = [[] for _ in ordered]
    for task, of in enumerate(parents):
        for parent in of:
            children[parent].append(task)
    return Trace(
        name=name,
        rows=tuple(ordered),
        arrival_s=tuple(row.arrival_s for row in ordered),
        size_s=tuple(max(row.duration_s, LEAST_SIZE_S) for row in ordered),
        weight=tuple(WEIGHT[row.priority] for row in ordered),
        role=tuple(row.role for row in ordered),
        category=tuple(number[row.category] for row in ordered),
        categories=categories,
        parents=parents,
        children=tuple(tuple(of) for of in children),
    )
