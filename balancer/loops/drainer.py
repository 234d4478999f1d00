"""Pending work and free capacity become assignments: view, plan, commit, until nothing fits.

Any number of drainers may run. An advisory lock keeps them from planning the same work; it is a
courtesy that saves rejected proposals, and nothing goes wrong without it.
"""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

import structlog

from balancer.core.names import new_nonce
from balancer.core.planner import NOBODY, Planner
from balancer.core.view import View
from balancer.ledger import commit as committing
from balancer.ledger.configure import refresh
from balancer.ledger.pool import UNLOCK, Pool
from balancer.ledger.view import Viewer
from balancer.loops.loop import Loop
from balancer.protocol.connect import TextRedis

log = structlog.get_logger("balancer")

#: How long a drainer that died may keep others waiting, milliseconds; and for how much of it one
#: pass plans on, seconds.
LOCK_MS, LOCK_USE_S = 100, 0.05
#: How long to leave the lock to another drainer before looking again, seconds: most passes are over
#: by then.
BUSY_S = 0.002
#: Backstop when every wake-up is lost, seconds.
TICK_S = 0.5
#: How often a view whose proposals were all rejected is read again before the next wake-up.
REPLANS = 2


class Drained(NamedTuple):
    """What a pass did. `busy`: another drainer has the lock. `more`: there may be work left; look
    again at once.
    """

    assigned: int = 0
    rejected: int = 0
    busy: bool = False
    more: bool = False


class Drainer(Loop):
    """Drains one pool's queue.

    Args:
        pool: the pool.
        waiting: a client of its own for the blocking wait.
        tick_s: longest time between two looks.
    """

    name = "drainer"

    def __init__(self, pool: Pool, waiting: TextRedis, tick_s: float = TICK_S) -> None:
        super().__init__(pool)
        self._pool, self._waiting, self._tick_s = pool, waiting, tick_s
        self._planner, self._planned_by = Planner(pool.settings), pool.settings_ver
        self._viewer = Viewer(pool, self._pivot)
        self._again, self._busy, self._woken = True, False, True
        self._page, self._locked = 0, False

    def wait(self, stop: threading.Event) -> None:
        """Take the wake-up token, or the tick. The token is taken before the view is read, so no
        change is missed.
        """
        if self._again:
            if self._busy:
                stop.wait(BUSY_S)
            self._again = self._busy = False
            return
        token = self._waiting.blpop([self._pool.keys.wake], timeout=self._tick_s)
        self._woken = token is not None

    def step(self) -> Drained:
        """One pass under the lock; when another drainer has it, wait for that one and look again."""
        token = new_nonce()
        first = self._viewer.locked_view(token, LOCK_MS)
        if first is None:
            # The token we took may stand for work that the other drainer's view does not hold.
            self._again = self._busy = True
            return Drained(busy=True)
        self._locked = bool(first.roles)
        try:
            if first.settings_ver != self._planned_by:
                self._adopt(first.settings_ver)
                first = self._viewer.view()
            done = self._drain(first, token)
        finally:
            if self._locked:
                self._pool.run(UNLOCK, [token])
        self._again = done.more
        if done.assigned or done.rejected:
            log.debug("drained", assigned=done.assigned, rejected=done.rejected)
        return done

    def _pivot(self) -> int:
        return self._planner.pivot()

    def _adopt(self, settings_ver: int) -> None:
        """Plan by what decides in the pool now."""
        pool = self._pool
        if pool.settings_ver != settings_ver:
            refresh(pool)
        settings_ver = pool.settings_ver
        self._planner, self._planned_by = Planner(pool.settings), settings_ver
        log.info("settings_adopted", settings_ver=settings_ver, strategy=pool.settings.strategy)

    def _drain(self, view: View, token: str) -> Drained:
        """Page after page of lanes until nothing fits or the time is over. The commit that ends a pass
        gives the lock back.

        The first page, with the heads of the line, is looked at in every pass. Beyond it a pass goes
        on where the one before had to stop, so lanes that nobody can serve hide none behind them. Who is
        kept free for a task of an earlier page gets nothing of a later one.
        """
        assigned = rejected = page = replans = 0
        kept = NOBODY
        until = time.monotonic() + LOCK_USE_S
        while True:
            looked_at = page
            proposals, is_last, kept = self._planner.decide(view, kept=kept if page else NOBODY)
            if page or not view.more:
                # The next pass goes on behind this page, whatever this one grants: busy pages hide no others.
                self._page = page + 1 if view.more else 0
            if proposals:
                answers = committing.commit(self._pool, proposals, token if is_last else "")
                granted = sum(answer.outcome is committing.Outcome.ASSIGNED for answer in answers)
                assigned += granted
                rejected += len(answers) - granted
                replans += not granted
                if is_last and granted == len(answers):
                    self._locked = False
                    return Drained(assigned, rejected)
                if replans > REPLANS:
                    return Drained(assigned, rejected)
            elif view.more:
                page = max(page + 1, self._page)
            else:
                return Drained(assigned, rejected)
            if (looked_at or assigned) and time.monotonic() >= until:
                # Only a change is worth going on for at once; the tick comes by anyway.
                return Drained(assigned, rejected, more=self._woken or assigned > 0)
            view = self._viewer.view(page)
            if view.settings_ver != self._planned_by:
                return Drained(assigned, rejected, more=True)
