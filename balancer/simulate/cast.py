"""The tasks and the agents of a simulation, as a pool knows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from balancer.core.errors import InvalidInput
from balancer.core.model import MAX_RUN_TIMEOUT_S, Task
from balancer.core.planner import Proposal
from balancer.ledger.beat import BeatEntry
from balancer.ledger.settle import CompletionEntry
from balancer.protocol import Completion, Heartbeat, Status
from balancer.simulate.fleet import Fleet, SimAgent
from balancer.simulate.trace import LEAST_SIZE_S
from balancer.trace import Row

INTERVAL_MS, TTL_MS = 5_000, 15_000
#: Health cannot be declared: it is how old the last heartbeat is. Ages, in milliseconds, that stand for the steps.
AGES_MS = {1.0: 0, 0.8: 8_500, 0.5: 12_000}
#: Whole numbers below it are values of a scale, such as story points.
LONGEST_SCALE = 32
#: Of completions that were never in the stream: acknowledging and deleting them does nothing.
NO_ENTRY = "1-1"


def task_of(row: Row, *, foretold: bool = False) -> Task:
    """What a producer would have submitted. Its duration is in it only where the producer knows it.

    Raises:
        InvalidInput: the row's group or features are none that a task may have.
    """
    try:
        return Task(
            id=row.id,
            role=row.role,
            category=row.category,
            priority=row.priority,
            depends_on=row.depends_on,
            group=row.group or None,
            features=features_of(row.features),
            estimate_s=max(row.duration_s, LEAST_SIZE_S) if foretold else None,
            run_timeout_s=MAX_RUN_TIMEOUT_S,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(
            f"line {row.line}: {place}: {str(first['input'])[:80]!r}: {first['msg']}"
        ) from None


def features_of(text: str) -> dict[str, str | int | float | bool]:
    """What stands in a trace as `sp=3` or `cpu_milli=4000 gpu=1`. Numbers are numbers, but those of a short scale
    are said as texts: numbers count by power of two only.
    """
    pairs = (part.partition("=") for part in text.split())
    return {name: _value(value) for name, _, value in pairs}


def _value(text: str) -> str | float:
    try:
        number = float(text)
    except ValueError:
        return text
    is_scale = number.is_integer() and 0 <= number < LONGEST_SCALE
    return text if is_scale or not math.isfinite(number) else number


def heartbeats(
    fleet: Fleet, categories: Sequence[str], now_ms: int, *, learned: bool
) -> list[BeatEntry]:
    """The first and only heartbeat of each agent.

    Args:
        fleet: the agents.
        categories: by their number.
        now_ms: the time of the pool.
        learned: none says how fast it is.
    """
    out = []
    for number, agent in enumerate(fleet.agents):
        said = Heartbeat(
            agent=agent.id,
            boot=f"{number:032x}",
            seq=1,
            start=True,
            role=agent.role,
            max_concurrent=agent.slots,
            specializations=tuple(sorted(agent.specializations)),
            interval_ms=INTERVAL_MS,
            ttl_ms=TTL_MS,
            **({} if learned else _speeds(agent, categories)),
        )
        out.append(BeatEntry(f"{now_ms - _age_ms(agent.health)}-{number}", said))
    return out


def _speeds(agent: SimAgent, categories: Sequence[str]) -> dict[str, Any]:
    """How fast it is in truth: at what it is specialized in, and at everything else."""
    special = agent.specializations
    pairs = zip(categories, agent.speeds, strict=True)
    return {
        "speed": agent.base,
        "speeds": {name: speed for name, speed in pairs if name in special},
    }


def _age_ms(health: float) -> int:
    """The age that stands for the step nearest to this health."""
    return AGES_MS[min(AGES_MS, key=lambda step: abs(step - health))]


def completion_of(lease: Proposal, took_us: int) -> CompletionEntry:
    """What an agent says when a task is done."""
    done = Completion(
        agent=lease.agent,
        task=lease.task,
        attempt=1,
        lease=lease.nonce,
        status=Status.COMPLETED,
        duration_ms=max(1, round(took_us / 1000)),
    )
    return CompletionEntry(NO_ENTRY, done)
