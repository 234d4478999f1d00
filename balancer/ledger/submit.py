"""Submitting tasks: the typed twin of submit.lua."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple, TypeAlias

from balancer.core.hints import Hints, canonical, features_text, short_name
from balancer.core.lanes import Lane, lane_definition
from balancer.core.model import Task
from balancer.core.moments import to_us
from balancer.core.options import ParentPolicy, TaskOptions, dedup_hash
from balancer.core.payload import encode_body
from balancer.core.settings import PoolSettings
from balancer.ledger.configure import refresh
from balancer.ledger.exchange import Arg, Call, Exchange, exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.script import Script

SCRIPT = Script("submit")
_FAIL = ParentPolicy.FAIL
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


_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_DUPLICATE = Outcome.DUPLICATE
_STORED = {
    Outcome.ACCEPTED,
    Outcome.SCHEDULED,
    Outcome.BLOCKED,
    Outcome.DUPLICATE,
    Outcome.DEAD_PARENT,
    Outcome.SKIPPED,
    Outcome.EXPIRED,
}


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

    def in_words(self) -> str:
        """The numbers in a sentence for people."""
        return (
            f"{self.depth:,} tasks wait (max_pending {self.limit:,}), the oldest for"
            f" {self.oldest_s:.1f} s; there may be room in {self.retry_after_s:.1f} s"
        )


class Submitted(NamedTuple):
    """The answer for one task. `task_id` is another than the submitted one where a dedup key was known
    already. `detail`: the existing state, the parent, the bound that refused it (of a full queue:
    depth, limit, age of the oldest and a time to wait, in ms), or `paused` of a role whose queue is.
    """

    task_id: str
    outcome: Outcome
    detail: str

    @property
    def queue(self) -> QueueState | None:
        """How full the queue is that refused it; None when nothing did, or something else."""
        return QueueState.read(self.detail) if self.outcome is Outcome.QUEUE_FULL else None


def _options(task: Task) -> tuple[str, str]:
    """What a task asks for beyond the ordinary, as it is sent, and the part of it that defines the task."""
    if (
        task.dedup_key is None
        and task.not_before is None
        and task.expires_at is None
        and task.max_wait_s is None
        and task.on_parent_failure is _FAIL
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


#: A task's lane as it is sent: its id, role, category, cost, definition and the prior of its category.
_LaneArgs: TypeAlias = tuple[str, str, str, int, str, int]


class _Packed(NamedTuple):
    """A task as it is sent: id, number of the lane, then the rest."""

    lane: _LaneArgs
    id: str
    rest: Sequence[Arg]
    weight: int


@lru_cache(maxsize=20_000)
def _lane(lane: Lane, prior_s: float) -> _LaneArgs:
    lane_id, definition = lane_definition(lane)
    return lane_id, lane.role, lane.category, lane.cost, definition, _ms(prior_s)


def _ms(seconds: float) -> int:
    return max(1, round(1000 * seconds))


def _hints(task: Task, category_s: float) -> tuple[str, str]:
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
        prior_ms, basis = _ms(category_s) * (task.complexity or 1), "m"
    else:
        prior_ms, basis = _ms(task.estimate_s), "e"
    hints = Hints(
        prior_ms,
        basis,
        short_name(task.group or ""),
        short_name(features_text(task.features)),
        task.prefer_agent or "",
        _ms(task.prefer_for_s) if task.prefer_agent else 0,
    )
    return hints.packed(), canonical({name: value for name, value in said.items() if value})


def _pack(task: Task, settings: PoolSettings) -> _Packed:
    body = encode_body(task.description, task.payload)
    requires = tuple(sorted(task.requires.items())) if task.requires else ()
    category_s = settings.estimate_s(task.category)
    lane = _lane(Lane(task.role, task.category, task.cost, requires=requires), category_s)
    facts = f"{task.priority}|{task.max_failures}|{round(task.run_timeout_s * 1000)}"
    options, defining = _options(task)
    parents = task.depends_on
    identity = f"{lane[0]}|{facts}|{' '.join(parents)}|{defining}|{body}"
    hints = ""
    if task.has_hints:
        hints, said = _hints(task, category_s)
        # No body holds a NUL.
        identity += f"\0{said}"
    if settings.run_timeout_factor and "run_timeout_s" not in task.model_fields_set:
        # The grant works it out. The identity stays: the same task sent again is the same under other settings.
        facts = f"{task.priority}|{task.max_failures}|0"
    facts = f"{facts}|{sha256(identity.encode()).hexdigest()[:16]}"
    rest: tuple[Arg, ...] = (facts, body, options, hints, len(parents), *parents)
    return _Packed(lane, task.id, rest, len(body) + 80 * len(parents))


def _call(packed: Sequence[_Packed]) -> list[Arg]:
    lanes: dict[_LaneArgs, int] = {}
    tasks: list[Arg] = []
    for lane, task_id, rest, _ in packed:
        tasks += (task_id, lanes.setdefault(lane, len(lanes) + 1), *rest)
    args: list[Arg] = [len(lanes)]
    for lane in lanes:
        args += lane
    return args + tasks


def _chunks(packed: Sequence[_Packed]) -> list[Sequence[_Packed]]:
    if len(packed) == 1:
        return [packed]
    chunks, start, size = [], 0, 0
    for i, item in enumerate(packed):
        if i - start == CAP or (i > start and size + item.weight > CAP_BYTES):
            chunks.append(packed[start:i])
            start, size = i, 0
        size += item.weight
    return [*chunks, packed[start:]] if packed else []


def asked(pool: PoolRef, tasks: Sequence[Task]) -> list[Call]:
    """What submits tasks, in this order.

    Raises:
        ValueError: a body is too large.
    """
    packed = [_pack(task, pool.settings) for task in tasks]
    return [pool.call(SCRIPT, _call(chunk)) for chunk in _chunks(packed)]


def told(pool: PoolRef, tasks: Sequence[Task], replies: Sequence[list[str]]) -> list[Submitted]:
    """What became of them; each reply ends with the version of the pool's settings."""
    if not replies:
        return []
    pool.newest_ver = int(replies[-1][-1])
    words = iter([word for reply in replies for word in reply[:-1]])
    return [
        _answer(task.id, word, detail)
        for task, word, detail in zip(tasks, words, words, strict=True)
    ]


@exchange
def submit(pool: PoolRef, tasks: Sequence[Task]) -> Exchange[list[Submitted]]:
    """Submit tasks, in this order, in one round trip. Up to 200 go in one atomic call; more are
    several calls.

    Raises:
        ValueError: a body is too large; nothing was sent.
    """
    if pool.is_behind:
        yield from refresh.steps(pool)
    return told(pool, tasks, (yield asked(pool, tasks)))


def _answer(task_id: str, word: str, detail: str) -> Submitted:
    outcome = _OUTCOMES[word]
    if outcome is _DUPLICATE:
        detail, _, first = detail.partition(" ")
        task_id = first or task_id
    return Submitted(task_id, outcome, detail)
