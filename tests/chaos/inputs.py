"""What the producer does: a pure function of the seed. Each step can be repeated without another effect."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.roster import MOST_COST, ROLES

#: Tasks a submission, and how far back the parents of a task are looked for.
BATCH, NEAR = 100, 300
CATEGORIES = ("feature", "bug", "docs")
PRIORITIES = ("critical", "high", "medium", "medium", "low")
#: Share of tasks, and seconds that they take: at least and at most.
LENGTHS = ((0.60, 0.005, 0.03), (0.30, 0.03, 0.15), (0.09, 0.15, 0.5), (0.01, 0.5, 2.0))

COMPLETED, DEAD, CANCELLED = "completed", "dead", "cancelled"


@dataclass(frozen=True, slots=True)
class Planned:
    """One task that will be submitted, and how it may end; a task that was lost too often is another matter."""

    fields: dict[str, Any]
    may_end: frozenset[str]
    is_poison: bool = False

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.fields["id"])


@dataclass(frozen=True, slots=True)
class Inputs:
    """All of it."""

    tasks: dict[str, Planned]
    #: What the producer does, in this order: {"do": ..., ...}, with "after", the number of tasks submitted before.
    steps: tuple[dict[str, Any], ...]


def make_inputs(seed: int, count: int) -> Inputs:
    """`count` tasks of all kinds, and the steps that submit and treat them."""
    draw = random.Random(f"inputs {seed}")
    tasks: dict[str, Planned] = {}
    steps: list[dict[str, Any]] = []
    while len(tasks) < count:
        batch = [_task(draw, tasks, f"t{len(tasks) + n:05}") for n in range(draw.randint(1, BATCH))]
        batch = batch[: count - len(tasks)]
        after = len(tasks)
        tasks |= {planned.id: planned for planned in batch}
        steps.append(_submit(after, [planned.fields for planned in batch]))
        steps += _treatment(draw, len(tasks), batch)
    return Inputs(tasks, tuple(steps))


def _task(draw: random.Random, known: dict[str, Planned], id_: str) -> Planned:
    kind = draw.random()
    fields: dict[str, Any] = {
        "id": id_,
        "role": draw.choice(ROLES),
        "category": draw.choice(CATEGORIES),
        "priority": draw.choice(PRIORITIES),
        "cost": min(MOST_COST, draw.choice((1, 1, 1, 1, 1, 1, 1, 2, 2, 3))),
        "payload": {"run_s": _length_s(draw), "pad": "x" * draw.choice((0, 0, 50, 400))},
    }
    may_end = {COMPLETED}
    if kind < 0.05:
        fields["payload"]["fails"] = draw.choice((1, 1, 2))
    elif kind < 0.055:
        # Fails whenever it is tried.
        fields["payload"]["fails"], fields["max_failures"] = 1_000, draw.randint(1, 2)
        may_end = {DEAD}
    elif kind < 0.2 and known:
        near = list(known)[-NEAR:]
        fields["depends_on"] = draw.sample(near, min(len(near), draw.choice((1, 1, 2, 3))))
        if any(known[parent].may_end != {COMPLETED} for parent in fields["depends_on"]):
            may_end |= {DEAD}
        if all(known[parent].may_end == {DEAD} for parent in fields["depends_on"]):
            may_end = {DEAD}
    elif kind < 0.21:
        # To be cancelled as soon as it was submitted: whoever is first decides.
        fields["payload"]["cancel"] = True
        may_end |= {CANCELLED}
    return Planned(fields, frozenset(may_end))


def _length_s(draw: random.Random) -> float:
    share = draw.random()
    for part, least, most in LENGTHS:
        share -= part
        if share < 0:
            return round(draw.uniform(least, most), 4)
    return LENGTHS[-1][1]


def _submit(after: int, tasks: list[dict[str, Any]], expect: str = "") -> dict[str, Any]:
    return {"do": "submit", "after": after, "tasks": tasks, "expect": expect}


def _treatment(draw: random.Random, after: int, batch: list[Planned]) -> Iterator[dict[str, Any]]:
    """What happens to tasks of a batch once it was submitted."""
    if draw.random() < 0.2:
        yield _submit(after, [draw.choice(batch).fields], "duplicate")
    if draw.random() < 0.1:
        yield _submit(
            after, [draw.choice(batch).fields | {"priority": "low", "max_failures": 77}], "conflict"
        )
    for planned in batch:
        if planned.fields["payload"].get("cancel"):
            yield {"do": "cancel", "after": after, "task": planned.id}
