"""What time alone changes: silent agents, due retries, run timeouts, forgotten releases; and
counting counters again.
"""

from __future__ import annotations

import math
import random
import threading
import time
from typing import NamedTuple

import structlog

from balancer.ledger import recount as recounting
from balancer.ledger.configure import refresh
from balancer.ledger.due import due
from balancer.ledger.expire import expire
from balancer.ledger.gc import gc
from balancer.ledger.pool import Pool
from balancer.ledger.reclaim import Outcome, reclaim
from balancer.ledger.release import release
from balancer.ledger.rescore import rescore
from balancer.ledger.retire import retire
from balancer.ledger.tick import read_memory, tick
from balancer.ledger.timeout import timeout
from balancer.loops.loop import Loop

log = structlog.get_logger("balancer")

#: Seconds between two sweeps, before jitter.
SWEEP_S = 0.5
#: Agents recounted a sweep: a pool of 1,000 is gone through in about a minute and a half.
RECOUNTS = 5
#: Pages of one kind of work a sweep; what is left comes with the next.
PAGES = 50
#: Seconds between two looks for finished tasks to forget, when the last one found none too many.
FORGET_S = 5.0


class Swept(NamedTuple):
    """What a sweep did."""

    lost: int
    reclaimed: int
    due: int
    timed_out: int
    expired: int
    released: int
    forgotten: int
    mended: int
    rescored: int
    in_grace: bool


class Sweeper(Loop):
    """Sweeps one pool. Any number may run: every script judges for itself."""

    name = "sweeper"

    def __init__(self, pool: Pool, sweep_s: float = SWEEP_S) -> None:
        super().__init__(pool)
        self._pool, self._sweep_s, self._recounted = pool, sweep_s, 0
        self._due_at, self._hint = math.inf, threading.Event()
        self._memory_full, self._forget_at = False, 0.0

    def due_in(self, delay_s: float) -> None:
        """A hint from another thread: something will be due then. A lost one costs a sweep interval."""
        self._due_at = min(self._due_at, time.monotonic() + delay_s)
        self._hint.set()

    def wait(self, stop: threading.Event) -> None:
        """The sweep interval, +-20 %, or less when something was announced to be due before."""
        until = time.monotonic() + self._sweep_s * random.uniform(0.8, 1.2)
        while not stop.is_set() and (left_s := min(until, self._due_at) - time.monotonic()) > 0:
            if self._hint.wait(left_s):
                self._hint.clear()
        if self._due_at <= time.monotonic():
            self._due_at = math.inf

    def step(self) -> Swept:
        """Do what is due now, in bounded pages."""
        pool, moved, timed_out, expired, released = self._pool, 0, 0, 0, 0
        now = tick(pool, memory=read_memory(pool))
        self._note_memory(now.memory_full)
        if now.settings_ver != pool.settings_ver:
            refresh(pool)
        lost, taken = self._reclaim(now.agents)
        for _ in range(PAGES if now.leases_due else 0):
            over = timeout(pool)
            timed_out += over.retry + over.dead + over.cancelled
            if not over.more:
                break
        for _ in range(PAGES if now.tries_due else 0):
            page = due(pool)
            moved += page.moved
            if not page.more:
                break
        for _ in range(PAGES if now.expiry_due else 0):
            ended = expire(pool)
            expired += ended.expired
            if not ended.more:
                break
        for _ in range(PAGES if now.release_due or timed_out or taken or expired else 0):
            told = release(pool)
            released += told.ready + told.dead + told.skipped
            if not told.more:
                break
        swept = Swept(
            lost, taken, moved, timed_out, expired, released, self._forget(), self._recount(),
            self._rescore() if now.rescore_due else 0, now.in_grace,
        )  # fmt: skip
        if any(swept[:5]) or swept.forgotten or swept.mended or swept.rescored:
            log.info("swept", **swept._asdict())
        return swept

    def _note_memory(self, is_full: bool) -> None:
        """Tell a change that this sweeper sees; the verdict itself is the pool's."""
        if is_full != self._memory_full:
            level = log.error if is_full else log.info
            level("memory_filled" if is_full else "memory_freed")
            self._memory_full = is_full

    def _reclaim(self, agents: list[str]) -> tuple[int, int]:
        lost = taken = 0
        for agent_id in agents:
            more = True
            while more:
                verdict = reclaim(self._pool, agent_id)
                if verdict.outcome is Outcome.MUST_RETIRE:
                    taken += self._retire(agent_id)
                    break
                lost += verdict.outcome is Outcome.LOST
                taken += verdict.requeued + verdict.ended
                more = verdict.more
        return lost, taken

    def _retire(self, agent_id: str) -> int:
        taken, more = 0, True
        while more:
            _, requeued, more = retire(self._pool, agent_id)
            taken += requeued
        return taken

    def _forget(self) -> int:
        """Finished tasks that are too old or too many; rarely, as nothing waits for it."""
        forgotten = 0
        if time.monotonic() < self._forget_at:
            return 0
        for _ in range(PAGES):
            page = gc(self._pool)
            forgotten += page.tasks
            if not page.more:
                self._forget_at = time.monotonic() + FORGET_S * random.uniform(0.8, 1.2)
                break
        return forgotten

    def _rescore(self) -> int:
        looked = 0
        for _ in range(PAGES):
            page = rescore(self._pool)
            looked += page.looked
            if not page.more:
                break
        return looked

    def _recount(self) -> int:
        """A few agents a sweep, round and round. A difference is a bug somewhere: it is mended and
        told as an error.
        """
        alive = self._pool.keys.alive
        page = self._pool.client.zrange(alive, self._recounted, self._recounted + RECOUNTS - 1)
        self._recounted = self._recounted + RECOUNTS if len(page) == RECOUNTS else 0
        mended = 0
        for agent_id in page:
            found = recounting.recount(self._pool, agent_id)
            if found.outcome is recounting.Outcome.MENDED:
                mended += 1
                log.error("counter_mended", agent_id=agent_id, **found._asdict())
        return mended
