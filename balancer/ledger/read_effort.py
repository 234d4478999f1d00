"""What is expected of a task, and of the work that waits for it. Plain reads, bounded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from balancer.core.effort import FEW, Estimate, left_s
from balancer.core.limits import derived_timeout_ms
from balancer.core.model import DEFAULT_RUN_TIMEOUT_S, TaskState
from balancer.ledger import read
from balancer.ledger.commit import Grant
from balancer.ledger.exchange import Command, Exchange, exchange
from balancer.ledger.pool import PoolRef

#: Most tasks of a graph that are counted.
MOST = 1_000


class TimeoutBy(StrEnum):
    """What a task's run timeout follows from."""

    TASK = "task"  # its own field, or the default of that
    ESTIMATE = "estimate"  # what is expected of it, and the pool's run_timeout_factor
    DEFAULT = "default"  # would follow from that, but too little is known of such tasks


class Effort(BaseModel):
    """What a task is expected to take at normal speed, and what is still to come of its graph: itself and all
    unfinished tasks that wait for it, directly or not.
    """

    model_config = ConfigDict(frozen=True)

    expected_s: float
    p90_s: float = Field(description="nine of ten such tasks take less")
    observations: int = Field(
        description="finished tasks behind it; 0: it is what producer and settings say"
    )
    run_timeout_s: float = Field(
        description="longest run of a try; at normal speed, where an agent is still to be found"
    )
    run_timeout_by: TimeoutBy
    usually_off: float | None = Field(
        description="factor by which tasks of its role and category usually miss what was expected;"
        " None: not known yet"
    )
    remaining_s: float = Field(description="of its graph, at normal speed")
    remaining_tasks: int = Field(description="of its graph that have not ended")
    more: bool = Field(description="whether there are more than were counted")


def usually_off(texts: Sequence[str | None]) -> float | None:
    """The factor that a cell of errors says, from the first generation that has it."""
    for text in texts:
        if text:
            return math.exp(float(text.split(" ")[1]))
    return None


@exchange
def effort_of(pool: PoolRef, task_id: str) -> Exchange[Effort | None]:
    """The effort of one task, in a round trip or two a level of its graph; None for an unknown one."""
    keys, now = pool.keys, (yield from read.now_s.steps(pool))
    row, limits = yield [
        ("HMGET", keys.task(task_id), "e", "role", "category", "d", "state", "grant"),
        ("HMGET", keys.settings, "timeout_permille", "min_timeout_s"),
    ]
    packed, role, category, facts, state, granted = row
    if packed is None:
        return None
    estimate, cell = Estimate.read(packed), f"x:{role}:{category}"
    # What waits again will have another agent.
    is_granted = state == TaskState.ASSIGNED or TaskState(state).is_final
    by, timeout_ms = _run_timeout(estimate, facts, limits, granted if is_granted else None)
    off = yield [("HGET", keys.est, cell), ("HGET", keys.est_old, cell)]
    seen, level, remaining_s, tasks, more = {task_id}, [task_id], 0.0, 0, False
    while level:
        asks: list[Command] = [
            ("HMGET", keys.task(id_), "state", "e", "grant", "kids") for id_ in level
        ]
        rows = yield asks
        parents = []
        for id_, (state, e, grant, kids) in zip(level, rows, strict=True):
            if state is not None and not TaskState(state).is_final:
                remaining_s += _remaining_s(Estimate.read(e).mean_ms / 1000, state, grant, now)
                tasks += 1
            if kids:
                parents.append(id_)
        # A finished parent still has the children that were not told.
        asks = [("ZRANGE", keys.children(id_), 0, MOST) for id_ in parents]
        pages = (yield asks) if asks else []
        found = dict.fromkeys(id_ for page in pages for id_ in page if id_ not in seen)
        level = list(found)[: MOST - len(seen)]
        more = more or len(level) < len(found)
        seen.update(level)
    return Effort(
        expected_s=estimate.mean_ms / 1000,
        p90_s=estimate.p90_ms / 1000,
        observations=estimate.n,
        run_timeout_s=timeout_ms / 1_000,
        run_timeout_by=by,
        usually_off=usually_off(off),
        remaining_s=remaining_s,
        remaining_tasks=tasks,
        more=more,
    )


def _run_timeout(
    estimate: Estimate, facts: str, limits: Sequence[str | None], granted: str | None
) -> tuple[TimeoutBy, int]:
    said_ms = int(facts.split("|")[2])
    permille, least_s = (int(number or 0) for number in limits)
    if said_ms or not permille:
        return TimeoutBy.TASK, said_ms or 1_000 * DEFAULT_RUN_TIMEOUT_S
    here_ms = Grant.read(granted).estimate_ms if granted else None
    timeout_ms = derived_timeout_ms(estimate, permille, least_s, here_ms)
    return TimeoutBy.ESTIMATE if estimate.n >= FEW else TimeoutBy.DEFAULT, timeout_ms


def _remaining_s(expected_s: float, state: str, grant: str | None, now: float) -> float:
    """Of one task that has not ended."""
    if state != TaskState.ASSIGNED or not grant:
        return expected_s
    return left_s(max(0.0, now - Grant.read(grant).granted_us / 1e6), expected_s)
