"""Reads the agent's inbox: a plain stream that holds its open leases, and a cancel for those that are being cancelled.
Decides what an entry of another boot means.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from balancer.protocol import (
    BadEvent,
    InboxCancel,
    InboxKind,
    InboxRetire,
    Keys,
    TextRedis,
    read_inbox,
)
from worker.lease import Lease, Phase, read_lease
from worker.leases import Leases
from worker.logs import say

Row = tuple[str, dict[str, str]]

#: Entries a read; each is at most 64 KiB and some.
PAGE = 100
#: A step without a boot; `adopt` is followed by a wake.
IDLE_S = 60.0


class Inbox:
    """`step()` waits for new entries behind the last one read, and takes them in."""

    def __init__(
        self,
        agent_id: str,
        keys: Keys,
        client: TextRedis,
        leases: Leases,
        *,
        block_s: float,
        on_arrival: Callable[[], None],
        on_superseded: Callable[[str], None],
        on_retire: Callable[[], None],
        log: Any,
    ) -> None:
        """`client` is for the blocking read alone; `on_superseded` gets the boot that took over; `on_retire` hears that
        an operator lets this agent go.
        """
        self._agent_id = agent_id
        self._key = keys.inbox(agent_id)
        self._client = client
        self._leases = leases
        self._block_ms = max(1, round(1_000 * block_s))
        self._on_arrival = on_arrival
        self._on_superseded = on_superseded
        self._on_retire = on_retire
        self._log = log
        self._lock = threading.Lock()
        self._boot = ""
        self._last = "0-0"
        # An entry granted to our boot was seen: the balancer knows it, and what is granted to another comes later.
        self._is_confirmed = False
        self._others: set[str] = set()

    @property
    def others(self) -> int:
        """How many entries of the inbox, as far as we read it, are no leases."""
        with self._lock:
            return len(self._others)

    @property
    def is_confirmed(self) -> bool:
        """Whether the balancer has granted something to the current boot."""
        return self._is_confirmed

    def pause(self) -> None:
        """Take nothing in until `adopt`: a boot begins."""
        with self._lock:
            self._boot = ""

    def read_all(self, client: TextRedis) -> list[Row]:
        """Everything in the inbox now, oldest first."""
        return [(entry, fields or {}) for entry, fields in client.xrange(self._key)]

    def fresh(self, rows: Iterable[Row]) -> list[Lease]:
        """The leases in `rows` that are not known yet."""
        leases = (self._read(entry, fields) for entry, fields in rows if _is_task(fields))
        return [lease for lease in leases if lease and not self._leases.is_known(lease.nonce)]

    def adopt(self, boot: str, last: str) -> None:
        """Go on behind entry `last`, for this boot."""
        with self._lock:
            self._boot, self._last, self._is_confirmed = boot, last, False

    def hear(self, rows: Iterable[Row], now_ms: int) -> None:
        """What was said before this boot: a retirement whose deadline has not come holds for it, too. The time is that
        of Redis, as the deadline.
        """
        told = (self._word(entry, fields) for entry, fields in rows)
        if any(isinstance(word, InboxRetire) and word.deadline_ms > now_ms for word in told):
            self._on_retire()

    def step(self) -> float:
        """Wait at most the block time, and take in what came."""
        with self._lock:
            boot, last = self._boot, self._last
        if not boot:
            return IDLE_S
        reply = self._client.xread({self._key: last}, count=PAGE, block=self._block_ms)
        rows = [(entry, fields or {}) for stream in reply.values() for entry, fields in stream]
        with self._lock:
            # Read for a boot that ended meanwhile: the next one reads from the beginning.
            if boot != self._boot:
                return 0.0
            for entry, fields in rows:
                self._last = entry
                if not self._take(entry, fields):
                    return IDLE_S
        if rows:
            self._on_arrival()
        return 0.0

    def catch_up(self, rows: Iterable[Row]) -> None:
        """Take in, of the whole inbox, the cancels, and the leases of our boot below the last one read: a failover can
        turn the clock of ids back.
        """
        rows = list(rows)
        with self._lock:
            self._others &= {entry for entry, _ in rows}
            for entry, fields in rows:
                is_ours = self._boot and fields.get("boot") == self._boot
                is_late = is_ours and order_of(entry) <= order_of(self._last)
                if _is_task(fields):
                    if is_late:
                        self._take(entry, fields)
                    continue
                self._others.add(entry)
                word = self._word(entry, fields)
                if isinstance(word, InboxCancel):
                    self._cancel(word)

    def _take(self, entry: str, fields: dict[str, str]) -> bool:
        """False when the entry shows that another process took this agent over."""
        if not _is_task(fields):
            self._others.add(entry)
            word = self._word(entry, fields)
            if isinstance(word, InboxRetire):
                self._on_retire()
            elif isinstance(word, InboxCancel):
                self._cancel(word)
            return True
        lease = self._read(entry, fields)
        boot = fields.get("boot", self._boot)
        if boot == self._boot:
            self._is_confirmed = True
        elif self._is_confirmed:
            self._boot = ""
            self._on_superseded(boot)
            return False
        elif lease:
            # Granted to the boot before ours while we began: the balancer takes it back by itself.
            lease.phase = Phase.GIVEN_UP
        if lease:
            self._leases.add(lease)
        return True

    def _cancel(self, word: InboxCancel) -> None:
        stopped = self._leases.cancel(word.lease)
        if stopped:
            say(stopped.context.log.info, "cancel_received")

    def _word(self, entry: str, fields: dict[str, str]) -> InboxCancel | InboxRetire | None:
        """What an entry says that is no lease; None for kinds that are not known here: they are left alone."""
        try:
            word = None if _is_task(fields) else read_inbox(fields)
        except BadEvent as error:
            say(self._log.error, "inbox_entry_rejected", entry=entry, reason=str(error)[:200])
            return None
        return word if isinstance(word, InboxCancel | InboxRetire) else None

    def _read(self, entry: str, fields: dict[str, str]) -> Lease | None:
        try:
            return read_lease(self._agent_id, entry, fields, self._log)
        except BadEvent as error:
            say(self._log.error, "inbox_entry_rejected", entry=entry, reason=str(error)[:200])
            return None


def _is_task(fields: dict[str, str]) -> bool:
    return fields.get("kind", InboxKind.TASK) == InboxKind.TASK


def order_of(entry: str) -> tuple[int, int]:
    """Milliseconds since 1970 by Redis' clock, and a number within them."""
    ms, _, seq = entry.partition("-")
    return int(ms), int(seq)
