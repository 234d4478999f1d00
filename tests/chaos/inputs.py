"""What the producer does: a pure function of the seed. Each step can be repeated without another effect."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.roster import AGENTS, MOST_COST, ROLES

#: Tasks a submission, and how far back the parents of a task are looked for.
BATCH, NEAR = 100, 300
CATEGORIES = ("feature", "bug", "docs")
PRIORITIES = ("critical", "high", "medium", "medium", "low")
#: Share of tasks, and seconds that they take: at least and at most.
LENGTHS = ((0.60, 0.005, 0.03), (0.30, 0.03, 0.15), (0.09, 0.15, 0.5), (0.01, 0.5, 2.0))
#: A task that shall be cancelled while it runs takes so long unless it is, seconds.
ENDLESS_S = 6.0
#: Batches between two of these: a role's queue rests, an agent rests, an agent is retired.
REST_EVERY = 12

COMPLETED, DEAD, CANCELLED = "completed", "dead", "cancelled"

Fields = dict[str, Any]
Step = dict[str, Any]


@dataclass(slots=True)
class Planned:
    """One task that will be submitted, and how it may end; a task that was lost too often is another matter.

    Args:
        fields: of the task. `in` holds those that are times: by name, seconds after its submission began.
        later: what the producer does with it later, batches after its submission.
    """

    fields: Fields
    may_end: set[str] = field(default_factory=lambda: {COMPLETED})
    is_poison: bool = False
    later: list[tuple[int, str]] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.fields["id"])


@dataclass(frozen=True, slots=True)
class Inputs:
    """All of it: the tasks, and what the producer does, in this order."""

    tasks: dict[str, Planned]
    steps: tuple[Step, ...]


def make_inputs(seed: int, count: int) -> Inputs:
    """`count` tasks of all kinds, and the steps that submit and treat them."""
    draw = random.Random(f"inputs {seed}")
    tasks: dict[str, Planned] = {}
    steps: list[Step] = []
    treatments: dict[int, list[Step]] = {}
    number = 0
    while len(tasks) < count:
        size = min(draw.randint(1, BATCH), count - len(tasks))
        batch = [_task(draw, tasks, f"t{len(tasks) + n:05}") for n in range(size)]
        tasks |= {planned.id: planned for planned in batch}
        steps.append(_submit([planned.fields for planned in batch]))
        steps += _again(draw, batch)
        for planned in batch:
            for batches, what in planned.later:
                treatments.setdefault(number + batches, []).append({"do": what, "task": planned.id})
        steps += _operations(draw, number % REST_EVERY)
        steps += treatments.pop(number, [])
        number += 1
    for left in sorted(treatments):
        steps += treatments[left]
    return Inputs(tasks, tuple(steps))


def _task(draw: random.Random, known: dict[str, Planned], id_: str) -> Planned:
    made = Planned(
        {
            "id": id_,
            "role": draw.choice(ROLES),
            "category": draw.choice(CATEGORIES),
            "priority": draw.choice(PRIORITIES),
            "cost": min(MOST_COST, draw.choice((1, 1, 1, 1, 1, 1, 1, 2, 2, 3))),
            "payload": {"run_s": _length_s(draw), "pad": "x" * draw.choice((0, 0, 50, 400))},
        }
    )
    share = draw.random()
    for part, change in KINDS:
        share -= part
        if share < 0:
            change(draw, made, known)
            break
    return made


def _length_s(draw: random.Random) -> float:
    share = draw.random()
    for part, least, most in LENGTHS:
        share -= part
        if share < 0:
            return round(draw.uniform(least, most), 4)
    return LENGTHS[-1][1]


def _fails_first(draw: random.Random, made: Planned, _known: dict[str, Planned]) -> None:
    made.fields["payload"]["fails"] = draw.choice((1, 1, 2))


def _hopeless(draw: random.Random, made: Planned, _known: dict[str, Planned]) -> None:
    """Fails whenever it is tried, or until its death; then somebody tries it again."""
    most = draw.randint(1, 2)
    made.fields["max_failures"] = most
    made.may_end = {DEAD}
    made.fields["payload"]["fails"] = 1_000
    if draw.random() < 0.5:
        made.fields["payload"]["fails"] = most
        made.may_end |= {COMPLETED}
        made.later.append((draw.randint(2, 6), "retry"))


def _child(draw: random.Random, made: Planned, known: dict[str, Planned]) -> None:
    near = list(known)[-NEAR:]
    parents = draw.sample(near, min(len(near), draw.choice((1, 1, 2, 3))))
    policy = draw.choice(("fail", "fail", "skip", "run"))
    made.fields |= {"depends_on": parents, "on_parent_failure": policy}


def _cancelled_at_once(_draw: random.Random, made: Planned, _known: dict[str, Planned]) -> None:
    """Whoever is first decides."""
    made.may_end |= {CANCELLED}
    made.later.append((0, "cancel"))


def _cancelled_while_running(
    _draw: random.Random, made: Planned, _known: dict[str, Planned]
) -> None:
    made.fields["priority"], made.fields["payload"]["run_s"] = "critical", ENDLESS_S
    made.may_end |= {CANCELLED}
    made.later.append((0, "cancel_running"))


def _scheduled(draw: random.Random, made: Planned, _known: dict[str, Planned]) -> None:
    made.fields["in"] = {"not_before": round(draw.uniform(0.1, 4), 2)}


def _expiring(draw: random.Random, made: Planned, _known: dict[str, Planned]) -> None:
    made.fields["priority"] = "low"
    made.fields["in"] = {"expires_at": round(draw.uniform(0.05, 4), 2)}
    made.may_end |= {DEAD}


def _impatient(draw: random.Random, made: Planned, _known: dict[str, Planned]) -> None:
    made.fields["max_wait_s"] = round(draw.uniform(0.05, 4), 2)
    made.may_end |= {DEAD}


def _deduplicated(_draw: random.Random, made: Planned, _known: dict[str, Planned]) -> None:
    made.fields["dedup_key"] = f"the one and only {made.id}"


def _rejected(draw: random.Random, made: Planned, _known: dict[str, Planned]) -> None:
    made.fields["payload"]["rejects"] = draw.randint(1, 2)


def _reprioritised(draw: random.Random, made: Planned, _known: dict[str, Planned]) -> None:
    made.fields["priority"] = "low"
    made.later.append((draw.randint(0, 1), "reprioritise"))


def _poison(_draw: random.Random, made: Planned, _known: dict[str, Planned]) -> None:
    """Takes its agent with it, whenever it is tried."""
    made.fields["payload"]["poison"] = True
    made.may_end, made.is_poison = {DEAD}, True


#: Share of all tasks, and what makes one of them special.
KINDS: tuple[tuple[float, Callable[[random.Random, Planned, dict[str, Planned]], None]], ...] = (
    (0.05, _fails_first),
    (0.005, _hopeless),
    (0.14, _child),
    (0.01, _cancelled_at_once),
    (0.003, _cancelled_while_running),
    (0.02, _scheduled),
    (0.01, _expiring),
    (0.01, _impatient),
    (0.02, _deduplicated),
    (0.01, _rejected),
    (0.01, _reprioritised),
    (0.0006, _poison),
)


def _submit(tasks: list[Fields], expect: str = "") -> Step:
    return {"do": "submit", "tasks": tasks, "expect": expect}


def _operations(draw: random.Random, moment: int) -> Iterator[Step]:
    """What people do to queues and agents meanwhile. A careless agent would not notice that it was retired."""
    if moment == REST_EVERY // 2:
        yield {"do": "rest_queue", "role": draw.choice(ROLES)}
    elif moment == REST_EVERY // 3:
        yield {"do": "rest_agent", "agent": draw.choice(AGENTS).id}
    elif moment == REST_EVERY - 1:
        careful = [agent.id for agent in AGENTS if not agent.is_careless]
        deadline_s = round(draw.uniform(0.0, 2.0), 2)
        yield {"do": "retire_agent", "agent": draw.choice(careful), "deadline_s": deadline_s}


def _again(draw: random.Random, batch: list[Planned]) -> Iterator[Step]:
    """Some tasks are submitted once more: as they were, with another body, or under another id with their key."""
    # What has a time of its own would have another one the second time.
    plain = [planned.fields for planned in batch if "in" not in planned.fields]
    if plain and draw.random() < 0.2:
        yield _submit([draw.choice(plain)], "duplicate")
    if plain and draw.random() < 0.1:
        yield _submit([draw.choice(plain) | {"max_failures": 77, "dedup_key": None}], "conflict")
    for planned in batch:
        if "dedup_key" in planned.fields and draw.random() < 0.5:
            twin = planned.fields | {"id": f"{planned.id}-twin"}
            yield _submit([twin], f"duplicate {planned.id}")
