"""What the agent holds: the one place where its threads meet. No Redis and no threads here, only state under a lock.

`known` mirrors the inbox as far as we have read it, so the balancer taking a lease back shows as an entry that is gone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable

from balancer.protocol import Completion, Status
from worker.lease import Lease, Phase

#: Leases that left the inbox whose nonces are remembered: a commit that is sent again may put a nonce there once more.
#: As many nonces of cancelled leases that are not here (yet) are.
REMEMBERED = 1_000
#: How long after its completion was sent a lease that is still in the inbox is reported again, seconds; doubles with
#: each time, or agents would flood a stream that nobody reads.
REPORT_AGAIN_S = 30.0
_NEVER_S, _ALWAYS_S = float("inf"), float("-inf")
_OPEN = (Phase.WAITING, Phase.RUNNING, Phase.FINISHED)


class Leases:
    """The leases of one agent process, over all its boots."""

    def __init__(self, units: int) -> None:
        self._units = units
        self._changed = threading.Condition()
        self._known: dict[str, Lease] = {}
        self._remembered: OrderedDict[str, Completion] = OrderedDict()
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        # Includes what was given up or timed out and has not returned yet: its unit is not free.
        self._executing: set[Lease] = set()
        self._live_until_s = _ALWAYS_S
        self._is_over = False
        self.is_fenced = False

    def add(self, lease: Lease) -> bool:
        """Take an inbox entry in; False when it will not run: a nonce never runs twice, its completion may go twice."""
        with self._changed:
            if lease.nonce in self._known:
                return False
            earlier = self._remembered.pop(lease.nonce, None)
            if earlier is not None:
                # A Redis that lost its newest writes was told the same grant again: say how it ended, again.
                lease.completion, lease.phase = earlier, Phase.FINISHED
            self._known[lease.nonce] = lease
            if lease.nonce in self._cancelled:
                del self._cancelled[lease.nonce]
                self._cancel(lease)
            self._changed.notify_all()
            return earlier is None

    def cancel(self, nonce: str) -> Lease | None:
        """The task of this lease is being cancelled: what runs is told to stop, what has not begun never does. Kept in
        mind for a lease that is not here yet. Returns the lease if that was news to it.
        """
        with self._changed:
            lease = self._known.get(nonce)
            if lease is None:
                if nonce not in self._remembered:
                    self._cancelled[nonce] = None
                while len(self._cancelled) > REMEMBERED:
                    self._cancelled.popitem(last=False)
                return None
            is_news = self._cancel(lease)
            self._changed.notify_all()
            return lease if is_news else None

    @staticmethod
    def _cancel(lease: Lease) -> bool:
        if lease.is_cancelled or lease.phase not in (Phase.WAITING, Phase.RUNNING):
            return False
        lease.is_cancelled = True
        lease.interrupt()
        if lease.phase is Phase.WAITING:
            lease.end(Status.CANCELLED, "", "", 0.0)
        return True

    def is_known(self, nonce: str) -> bool:
        """Whether the inbox, as far as we read it, has an entry with this nonce."""
        with self._changed:
            return nonce in self._known

    def begin(self, now_s: float) -> list[Lease]:
        """Move what may run now from WAITING to RUNNING, oldest first; the caller executes it, then calls `leave`."""
        begun: list[Lease] = []
        with self._changed:
            if now_s >= self._live_until_s:
                return begun
            used = sum(lease.task.cost for lease in self._executing)
            for lease in self._in(Phase.WAITING):
                cost = lease.task.cost
                # One that costs more than all units (the agent declares less than it did) runs alone.
                if self._executing and used + cost > self._units:
                    break
                lease.phase, lease.began_s = Phase.RUNNING, now_s
                lease.deadline_s = now_s + lease.task.timeout_ms / 1_000
                self._executing.add(lease)
                used += cost
                begun.append(lease)
        return begun

    def finish(
        self, lease: Lease, status: Status, now_s: float, result: str = "", error: str = ""
    ) -> bool:
        """The try ended; False when it no longer counts and nothing will be reported."""
        with self._changed:
            if lease.phase is not Phase.RUNNING:
                return False
            lease.end(status, result, error, now_s)
            self._changed.notify_all()
            return True

    def leave(self, lease: Lease) -> None:
        """Nothing executes for this lease any more: its units are free."""
        with self._changed:
            self._executing.discard(lease)
            self._changed.notify_all()

    def overdue(self, now_s: float) -> list[Lease]:
        """End what ran past its run timeout as failed, and interrupt it. Returns what was ended."""
        with self._changed:
            over = [lease for lease in self._in(Phase.RUNNING) if now_s >= lease.deadline_s]
            for lease in over:
                lease.end(Status.FAILED, "", "run timeout", now_s)
                lease.interrupt()
            self._changed.notify_all()
        return over

    def next_deadline_s(self) -> float:
        """When `overdue` or `fence` will next have something to do, as far as is known now."""
        with self._changed:
            running = self._in(Phase.RUNNING)
            deadlines = [lease.deadline_s for lease in running]
            return min([self._live_until_s, *deadlines]) if running else _NEVER_S

    def unreported(self, limit: int) -> list[Lease]:
        """At most `limit` leases whose completions are due, oldest grant first."""
        with self._changed:
            return self._in(Phase.FINISHED)[:limit]

    def reported(self, leases: Iterable[Lease], now_s: float) -> None:
        """Their completions are in the stream."""
        with self._changed:
            for lease in leases:
                if lease.phase is Phase.FINISHED:
                    lease.phase = Phase.REPORTED
                    lease.reports += 1
                    lease.again_s = now_s + REPORT_AGAIN_S * 2.0 ** min(lease.reports - 1, 10)
            self._changed.notify_all()

    def report_again(self, now_s: float) -> list[Lease]:
        """What was reported long ago and is in the inbox yet is to be reported once more. Settling a second one
        changes nothing; of the first, a Redis that lost its newest writes may know nothing.
        """
        with self._changed:
            unsettled = [lease for lease in self._in(Phase.REPORTED) if now_s >= lease.again_s]
            for lease in unsettled:
                lease.phase = Phase.FINISHED
            self._changed.notify_all()
        return unsettled

    def held(self, *, reported: bool = False) -> tuple[str, ...]:
        """Nonces of what waits, runs or is to be reported; if asked for, of what was reported and not settled."""
        phases = (*_OPEN, Phase.REPORTED) if reported else _OPEN
        with self._changed:
            return tuple(lease.nonce for lease in self._in(*phases))

    def snapshot(self) -> list[Lease]:
        """All that was in the inbox when it was last read."""
        with self._changed:
            return list(self._known.values())

    def forget_gone(self, snapshot: Iterable[Lease], entries: Collection[str]) -> list[Lease]:
        """Drop what is not in `entries`, which were read after the snapshot. Returns the open ones: revoked."""
        with self._changed:
            gone = [
                lease
                for lease in snapshot
                if lease.entry not in entries and self._known.get(lease.nonce) is lease
            ]
            for lease in gone:
                del self._known[lease.nonce]
                if lease.phase is not Phase.WAITING:
                    self._remembered[lease.nonce] = lease.completion
            revoked = self._give_up(lease for lease in gone if lease.phase in _OPEN)
            while len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
            self._changed.notify_all()
        return revoked

    def give_up(self) -> list[Lease]:
        """Interrupt and drop everything, and never begin anything more. Returns what was held."""
        with self._changed:
            self._live_until_s, self._is_over = _ALWAYS_S, True
            given_up = self._give_up(self._in(*_OPEN))
            self._changed.notify_all()
        return given_up

    def release(self, given_up: Iterable[Lease]) -> list[Lease]:
        """Of what was given up at a stop, what does not run any more goes back to the balancer: it is to be reported
        again, as released unless it had ended. Returns it.
        """
        with self._changed:
            back = [
                lease
                for lease in given_up
                if lease not in self._executing and self._known.get(lease.nonce) is lease
            ]
            for lease in back:
                if lease.has_ended:
                    lease.phase = Phase.FINISHED
                else:
                    lease.end(Status.RELEASED, "", "", 0.0)
            self._changed.notify_all()
        return back

    def live(self, until_s: float, *, new_boot: bool = False) -> None:
        """Until this moment of the monotonic clock the balancer takes nothing back. Only a new boot ends a fence."""
        with self._changed:
            if not self._is_over and (new_boot or not self.is_fenced):
                self._live_until_s, self.is_fenced = until_s, False

    def is_silent(self, now_s: float) -> bool:
        """Whether the balancer may take everything back from now on."""
        with self._changed:
            return now_s >= self._live_until_s

    def fence(self, now_s: float) -> list[Lease]:
        """Past that moment, give up all that runs, and begin nothing until a new boot. Returns what ran."""
        with self._changed:
            running = self._in(Phase.RUNNING)
            if self.is_fenced or not running or now_s < self._live_until_s:
                return []
            self._live_until_s, self.is_fenced = _ALWAYS_S, True
            given_up = self._give_up(running)
            # What has not begun is read again, and resumed, by the next boot.
            for lease in self._in(Phase.WAITING):
                del self._known[lease.nonce]
            self._changed.notify_all()
        return given_up

    def stubborn(self) -> int:
        """How many were given up and still execute."""
        with self._changed:
            return sum(lease.phase is Phase.GIVEN_UP for lease in self._executing)

    def wait_until_still(self, timeout_s: float | None) -> bool:
        """Wait until nothing given up executes; False when the time ran out."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.stubborn(), timeout_s)

    def wait_until_done(self, timeout_s: float | None) -> bool:
        """Wait until nothing is held; False when the time ran out. A thread past its run timeout is not waited for."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._in(*_OPEN), timeout_s)

    def _in(self, *phases: Phase) -> list[Lease]:
        return [lease for lease in self._known.values() if lease.phase in phases]

    @staticmethod
    def _give_up(leases: Iterable[Lease]) -> list[Lease]:
        given_up = list(leases)
        for lease in given_up:
            lease.phase = Phase.GIVEN_UP
            lease.interrupt()
        return given_up
