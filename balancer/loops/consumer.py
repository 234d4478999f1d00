"""What agents say takes effect: heartbeats and completions, from the streams into the ledger.

Both streams have one consumer group. Heartbeats are read without acknowledgement: a lost one is
made up for by the next. Completions are acknowledged by the script that applies them, so one that
was read but not applied is found again: by the same consumer name after a restart, or by another
once it has lain idle.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence

import structlog

from balancer.ledger import beat as beating
from balancer.ledger import settle as settling
from balancer.ledger.beat import BeatEntry
from balancer.ledger.pool import Pool
from balancer.ledger.reclaim import reclaim
from balancer.ledger.release import release
from balancer.ledger.settle import CompletionEntry
from balancer.loops.loop import Loop
from balancer.loops.stream import RAW, Fields, Reader, bisected
from balancer.protocol.connect import TextRedis
from balancer.protocol.events import read_completion, read_heartbeat
from balancer.protocol.wire import BadEvent

log = structlog.get_logger("balancer")

#: Longest blocking read, seconds. Also how late an idle pool's silence is known to be silence.
BLOCK_S = 0.5
#: Most lines about the completions of one batch.
TOLD = 10
_ODD = (settling.Outcome.BAD, settling.Outcome.STALE, settling.Outcome.UNKNOWN)
#: An unacknowledged completion that lay this long belongs to a dead consumer, milliseconds: far
#: above the time of a batch.
CLAIM_IDLE_MS, CLAIM_EVERY_S = 5_000, 1.0


class HeartbeatConsumer(Loop):
    """Applies heartbeats. `consumer` is its name in the group, stable over restarts."""

    name = "heartbeats"

    def __init__(
        self, pool: Pool, reading: TextRedis, consumer: str, block_s: float = BLOCK_S
    ) -> None:
        super().__init__(pool)
        self._pool, self._block_ms = pool, max(1, round(block_s * 1000))
        self._reader = Reader(
            pool, reading, pool.keys.heartbeats, consumer, beating.CAP, noack=True
        )
        self._unapplied: list[BeatEntry] = []
        self._read_all = True

    def wait(self, stop: threading.Event) -> None:
        """Nothing to wait for: the read itself blocks."""

    def step(self) -> list[beating.Outcome]:
        """Read what is there (waiting for it at most block_s), apply it, take back what a restarted
        agent does not resume.
        """
        if not self._unapplied:
            rows = self._reader.new(self._block_ms)
            self._read_all = len(rows) < beating.CAP
            self._unapplied = newest_only([_heartbeat(entry, fields) for entry, fields in rows])
        batch = _first_starts(self._unapplied)
        caught_up = self._read_all and len(batch) == len(self._unapplied)
        outcomes = bisected(
            batch,
            lambda part: beating.beat(self._pool, part, caught_up=caught_up),
            lambda item, why: item._replace(beat=None, reason=why, raw=item.entry),
        )
        if not batch:
            beating.beat(self._pool, [], caught_up=True)
        self._unapplied = self._unapplied[len(batch) :]
        for item, outcome in zip(batch, outcomes, strict=True):
            self._after(item, outcome)
        return outcomes

    def _after(self, item: BeatEntry, outcome: beating.Outcome) -> None:
        if item.beat and outcome is beating.Outcome.NEW_BOOT:
            while reclaim(self._pool, item.beat.agent).more:
                pass
        if outcome not in (beating.Outcome.OK, beating.Outcome.STALE):
            agent_id = item.beat.agent if item.beat else None
            log.info(
                "heartbeat_applied", agent_id=agent_id, outcome=outcome.value, reason=item.reason
            )


class CompletionConsumer(Loop):
    """Settles completions.

    Args:
        pool: the pool.
        reading: a client of its own for the blocking read.
        consumer: its name in the group, stable over restarts.
        block_s: longest blocking read.
        on_retry: told in how many seconds a task will be due for its next try.
    """

    name = "completions"

    def __init__(
        self,
        pool: Pool,
        reading: TextRedis,
        consumer: str,
        block_s: float = BLOCK_S,
        on_retry: Callable[[float], None] = lambda _delay_s: None,
    ) -> None:
        super().__init__(pool)
        self._pool, self._block_ms = pool, max(1, round(block_s * 1000))
        self._reader = Reader(pool, reading, pool.keys.completions, consumer, settling.CAP)
        self._on_retry = on_retry
        self._own_first, self._release_due, self._claimed_at = True, False, 0.0
        self._retry_in_s: float | None = None

    def wait(self, stop: threading.Event) -> None:
        """Nothing to wait for: the read itself blocks."""

    def step(self) -> list[settling.Outcome]:
        """Settle one batch: what this consumer read before and never settled, then what a dead one
        left, then what is new.
        """
        rows = self._left_over() or self._reader.new(self._block_ms)
        if not rows:
            return []
        items = [_completion(entry, fields) for entry, fields in rows]
        outcomes = bisected(
            items,
            self._settle,
            lambda item, why: item._replace(completion=None, reason=why, raw=item.entry),
        )
        _tell(items, outcomes)
        while self._release_due:
            self._release_due = release(self._pool).more
        if self._retry_in_s is not None:
            self._on_retry(self._retry_in_s)
            self._retry_in_s = None
        return outcomes

    def _settle(self, part: Sequence[CompletionEntry]) -> list[settling.Outcome]:
        outcomes, release_due, retry_in_s = settling.settle(self._pool, part)
        self._release_due |= release_due
        if retry_in_s is not None:
            self._retry_in_s = min(retry_in_s, self._retry_in_s or retry_in_s)
        return outcomes

    def _left_over(self) -> list[tuple[str, Fields]]:
        if self._own_first:
            rows = self._reader.unacknowledged()
            self._own_first = bool(rows)
            if rows:
                return rows
        if time.monotonic() - self._claimed_at < CLAIM_EVERY_S:
            return []
        self._claimed_at = time.monotonic()
        return self._reader.abandoned(CLAIM_IDLE_MS)

    def _failed(self, error: Exception, stop: threading.Event) -> None:
        self._own_first = True
        super()._failed(error, stop)


def _heartbeat(entry: str, fields: Fields) -> BeatEntry:
    try:
        return BeatEntry(entry, read_heartbeat(fields))
    except BadEvent as why:
        return BeatEntry(entry, None, str(why)[:RAW], json.dumps(fields)[:RAW])


def _completion(entry: str, fields: Fields) -> CompletionEntry:
    try:
        return CompletionEntry(entry, read_completion(fields))
    except BadEvent as why:
        return CompletionEntry(entry, None, str(why)[:RAW], json.dumps(fields)[:RAW])


def _tell(items: Sequence[CompletionEntry], outcomes: Sequence[settling.Outcome]) -> None:
    """A line for each completion that changed nothing and should not have come; a storm of them is told in part."""
    odd = [pair for pair in zip(items, outcomes, strict=True) if pair[1] in _ODD]
    for item, outcome in odd[:TOLD]:
        done = item.completion
        log.warning(
            "completion_ignored",
            outcome=outcome.value,
            entry=item.entry,
            agent_id=done.agent if done else None,
            task_id=done.task if done else None,
            reason=item.reason,
        )
    if len(odd) > TOLD:
        log.warning("completions_ignored", more=len(odd) - TOLD)


def newest_only(items: Sequence[BeatEntry]) -> list[BeatEntry]:
    """Of each boot its newest heartbeat, and its newest start when that is another one: every
    heartbeat is complete, so the ones between say nothing more.
    """
    newest = {(item.beat.agent, item.beat.boot): item.entry for item in items if item.beat}
    starts = {
        (item.beat.agent, item.beat.boot): item.entry
        for item in items
        if item.beat and item.beat.start
    }
    return [
        item
        for item in items
        if item.beat is None
        or item.entry
        in (newest[item.beat.agent, item.beat.boot], starts.get((item.beat.agent, item.beat.boot)))
    ]


def _first_starts(items: list[BeatEntry]) -> list[BeatEntry]:
    """The longest front of the batch that holds no more starts than one call may carry."""
    starts = 0
    for at, item in enumerate(items):
        starts += bool(item.beat and item.beat.start)
        if starts > beating.CAP_STARTS:
            return items[:at]
    return items
