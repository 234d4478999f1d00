"""Submitting tasks: the typed twin of submit.lua."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from balancer.core.hints import Hints, canonical, features_text, short_name
from balancer.core.lanes import Lane, lane_definition
from balancer.core.model import Task
from balancer.core.moments import to_us
from balancer.core.options import ParentPolicy, TaskOptions, dedup_hash
from balancer.core.payload import encode_body
from balancer.core.settings import PoolSettings
from balancer.ledger.configure import refresh
from balancer.ledger.exchange import Arg, Exchange, exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.script import Script

SCRIPT = Script("submit")
#: Tasks a call, and bytes of bodies a call: a larger submission is several calls in one round trip.
CAP, CAP_BYTES = 200, 1_000_000


class Outcome(StrEnum):
    """What became of one submitted task."""

    ACCEPTED = "accepted"
    SCHEDULED = "scheduled"
    BLOCKED = "blocked"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    QUEUE_FULL = "queue_full"
    REDIS_FULL = "redis_full"
    UNKNOWN_PARENT = "unknown_parent"
    DEAD_PARENT = "dead_parent"
    SKIPPED = "skipped"
    EXPIRED = "expired"
    COST_OVER_MAX = "cost_over_max"
    TOO_MANY_LANES = "too_many_lanes"
    TOO_MANY_ROLES = "too_many_roles"
    TOO_MANY_CHILDREN = "too_many_children"

    @property
    def is_stored(self) -> bool:
        """Whether the pool knows the task now, whatever its state."""
        return self in _STORED


_STORED = {
    Outcome.ACCEPTED,
    Outcome.SCHEDULED,
    Outcome.BLOCKED,
    Outcome.DUPLICATE,
    Outcome.DEAD_PARENT,
    Outcome.SKIPPED,
    Outcome.EXPIRED,
}


class Submitted(NamedTuple):
    """The answer for one task. `task_id` is another than the submitted one where a dedup key was known
    already. `detail`: the existing state, the parent, the bound that refused it (of a full queue:
    depth, limit, age of the oldest and a time to wait, in ms), or `paused` of a role whose queue is.
    """

    task_id: str
    outcome: Outcome
    detail: str


class _Packed(NamedTuple):
    task: Task
    lane: Lane
    facts: str
    body: str
    options: str
    hints: str


class QueueState(NamedTuple):
    """Why a full queue refused a task."""

    depth: int
    limit: int
    oldest_s: float
    retry_after_s: float

    @classmethod
    def read(cls, detail: str) -> QueueState:
        """Parse the detail of a `queue_full`."""
        depth, limit, oldest_ms, retry_after_ms = (int(part) for part in detail.split(" "))
        return cls(depth, limit, oldest_ms / 1000, retry_after_ms / 1000)


def _options(task: Task) -> tuple[str, str]:
    """What a task asks for beyond the ordinary, as it is sent, and the part of it that defines the task."""
    if (
        task.dedup_key is None
        and task.not_before is None
        and task.expires_at is None
        and task.max_wait_s is None
        and task.on_parent_failure is ParentPolicy.FAIL
    ):
        return "", ""
    not_before_us = to_us(task.not_before) if task.not_before else 0
    options = TaskOptions(
        task.on_parent_failure.value,
        to_us(task.expires_at) if task.expires_at else 0,
        round(task.max_wait_s * 1000) if task.max_wait_s else 0,
    )
    defining = f"{options.packed()}|{not_before_us}"
    if task.dedup_key is None:
        return defining, defining
    options = options._replace(dedup=dedup_hash(task.dedup_key))
    return f"{options.packed()}|{not_before_us}", "" if defining == "|0" else defining


def _prior_ms(category: str, settings: PoolSettings) -> int:
    return max(1, round(1000 * settings.estimate_s(category)))


def _hints(task: Task, settings: PoolSettings) -> tuple[str, str]:
    """What helps to place a task, as it is sent, and the part of it that defines the task."""
    said = {
        "complexity": task.complexity,
        "estimate_s": task.estimate_s,
        "group": task.group,
        "features": task.features,
        "prefer_agent": task.prefer_agent,
    }
    if task.prefer_agent:
        said["prefer_for_s"] = task.prefer_for_s
    if task.estimate_s is None:
        prior_ms, basis = _prior_ms(task.category, settings) * (task.complexity or 1), "m"
    else:
        prior_ms, basis = max(1, round(1000 * task.estimate_s)), "e"
    hints = Hints(
        prior_ms,
        basis,
        short_name(task.group or ""),
        short_name(features_text(task.features)),
        task.prefer_agent or "",
        max(1, round(1000 * task.prefer_for_s)) if task.prefer_agent else 0,
    )
    return hints.packed(), canonical({name: value for name, value in said.items() if value})


def _pack(task: Task, settings: PoolSettings) -> _Packed:
    body = encode_body(task.description, task.payload)
    lane = Lane(task.role, task.category, task.cost)
    if task.requires:
        lane = lane._replace(requires=tuple(sorted(task.requires.items())))
    facts = f"{task.priority.value}|{task.max_failures}|{round(task.run_timeout_s * 1000)}"
    options, defining = _options(task)
    identity = f"{lane_definition(lane)[0]}|{facts}|{' '.join(task.depends_on)}|{defining}|{body}"
    hints = ""
    if task.has_hints:
        hints, said = _hints(task, settings)
        # No body holds a NUL.
        identity += f"\0{said}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return _Packed(task, lane, f"{facts}|{digest}", body, options, hints)


def _call(packed: Sequence[_Packed], settings: PoolSettings) -> list[Arg]:
    lanes: dict[Lane, int] = {}
    tasks: list[Arg] = []
    for task, lane, facts, body, options, hints in packed:
        number = lanes.setdefault(lane, len(lanes) + 1)
        parents = task.depends_on
        tasks += (task.id, number, facts, body, options, hints, len(parents), *parents)
    args: list[Arg] = [len(lanes)]
    for lane in lanes:
        lane_id, definition = lane_definition(lane)
        prior_ms = _prior_ms(lane.category, settings)
        args += (lane_id, lane.role, lane.category, lane.cost, definition, prior_ms)
    return args + tasks


def _chunks(packed: Sequence[_Packed]) -> list[Sequence[_Packed]]:
    chunks, start, size = [], 0, 0
    for i, item in enumerate(packed):
        weight = len(item.body) + 80 * len(item.task.depends_on)
        if i - start == CAP or (i > start and size + weight > CAP_BYTES):
            chunks.append(packed[start:i])
            start, size = i, 0
        size += weight
    chunks.append(packed[start:])
    return chunks


@exchange
def submit(pool: PoolRef, tasks: Sequence[Task]) -> Exchange[list[Submitted]]:
    """Submit tasks, in this order, in one round trip. Up to 200 go in one atomic call; more are
    several calls.

    Raises:
        ValueError: a body is too large; nothing was sent.
    """
    if not tasks:
        return []
    if pool.is_behind:
        yield from refresh.steps(pool)
    packed = [_pack(task, pool.settings) for task in tasks]
    replies = yield [pool.call(SCRIPT, _call(chunk, pool.settings)) for chunk in _chunks(packed)]
    pool.newest_ver = int(replies[-1][-1])
    flat = [word for reply in replies for word in reply[:-1]]
    return [_answer(task.id, *flat[2 * i : 2 * i + 2]) for i, task in enumerate(tasks)]


def _answer(task_id: str, word: str, detail: str) -> Submitted:
    outcome = Outcome(word)
    if outcome is Outcome.DUPLICATE:
        detail, _, first = detail.partition(" ")
        task_id = first or task_id
    return Submitted(task_id, outcome, detail)
