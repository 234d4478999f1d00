"""Says that the agent is alive, begins its boots, and notices leases that were taken back."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from balancer.protocol import Heartbeat, Keys, Mode, TextRedis, new_nonce
from worker.inbox import Inbox, order_of
from worker.leases import Leases
from worker.logs import say

#: Intervals vary by this share either way, so that agents started together do not beat together.
JITTER = 0.1
#: Every so many heartbeats the inbox is read whole even though its length says that nothing changed.
COMPARE_EVERY = 6
#: How often to look whether what a fence gave up has stopped, seconds.
FENCED_POLL_S = 0.05


class Heart:
    """`step()` is one heartbeat. It owns the boot: no other thread begins one."""

    def __init__(
        self,
        declaration: Heartbeat,
        keys: Keys,
        client: TextRedis,
        leases: Leases,
        inbox: Inbox,
        *,
        lifetime_s: float,
        fence: Callable[[float], bool],
        on_live: Callable[[], None],
        log: Any,
        pool: str,
    ) -> None:
        """See the arguments.

        Args:
            declaration: what every heartbeat says; its boot is the first one.
            keys: of the pool.
            client: for ordinary calls.
            leases: what is held.
            inbox: what is told where each boot begins to read.
            lifetime_s: how long after a heartbeat was sent the balancer surely takes nothing back.
            fence: gives everything up if it is too late; called before each heartbeat, with the time.
            on_live: called after each heartbeat that was accepted.
            log: structlog logger.
            pool: its name.
        """
        self._declaration = declaration
        self._stream = keys.heartbeats
        self._inbox_key = keys.inbox(declaration.agent)
        self._client = client
        self._leases = leases
        self._inbox = inbox
        self._lifetime_s = lifetime_s
        self._fence = fence
        self._on_live = on_live
        self._log = log
        self._pool = pool
        self._meta_key = keys.meta
        self._is_pool_there = True
        self._start_until_s = float("-inf")
        self._seq = 0
        self._is_first_boot = True
        self.mode = Mode.RUNNING
        self.is_started = False
        self.said_stopping = threading.Event()

    @property
    def boot(self) -> str:
        """The current boot."""
        return self._declaration.boot

    def step(self) -> float:
        """Send one heartbeat: the start of a boot until that is accepted, plain ones from then on.

        Raises:
            redis.RedisError: it may not have been accepted.
        """
        # A process that was frozen wakes here: its leases may be gone, and one more heartbeat would hide that from it.
        self._fence(time.monotonic())
        if self._leases.is_fenced:
            if self._leases.stubborn():
                return FENCED_POLL_S
            if self.is_started:
                self._renew()
        mode = self.mode
        if self.is_started:
            self._beat(mode)
        else:
            self._start(mode)
        if mode is Mode.STOPPING:
            self.said_stopping.set()
        self._on_live()
        return self._declaration.interval_ms / 1_000 * random.uniform(1 - JITTER, 1 + JITTER)

    def say_stopped(self) -> None:
        """The last heartbeat. Only when `step` will not be called again."""
        is_start = self._is_start(time.monotonic())
        held = self._leases.held(reported=True)[:1_000] if is_start else ()
        beat = self._next(Mode.STOPPED, start=is_start, held=held)
        self._client.xadd(self._stream, beat.fields())

    def _renew(self) -> None:
        self._inbox.pause()
        self._declaration = self._declaration.model_copy(update={"boot": new_nonce()})
        self._seq, self.is_started, self._is_first_boot = 0, False, False

    def _start(self, mode: Mode) -> None:
        """Resume all that is in the inbox and was not begun by this process, and what awaits the balancer's word."""
        snapshot = self._leases.snapshot()
        rows = self._inbox.read_all(self._client)
        self._leases.forget_gone(snapshot, {entry for entry, _ in rows})
        fresh = self._inbox.fresh(rows)
        held = (*self._leases.held(reported=True), *(lease.nonce for lease in fresh))
        sent_s = time.monotonic()
        # Sent again after an unknown outcome: the one that comes first takes over, the other is an ordinary heartbeat.
        beat = self._next(mode, start=True, held=held[:1_000])
        entry, _ = self._send(beat)
        self.is_started = True
        self._start_until_s = sent_s + self._declaration.ttl_ms / 1_000
        for lease in fresh:
            self._leases.add(lease)
        self._inbox.adopt(self.boot, rows[-1][0] if rows else "0-0")
        self._inbox.catch_up(rows)  # before anything begins: what is being cancelled must not
        self._inbox.hear(rows, now_ms=order_of(entry)[0])
        self._leases.live(sent_s + self._lifetime_s, new_boot=True)
        event = "agent_started" if self._is_first_boot else "agent_rebooted"
        say(self._log.info, event, boot=self.boot, resumed=len(fresh))

    def _beat(self, mode: Mode) -> None:
        snapshot = self._leases.snapshot()
        sent_s = time.monotonic()
        was_silent = self._leases.is_silent(sent_s)
        is_start = self._is_start(sent_s)
        held = self._leases.held(reported=is_start)
        _, length = self._send(self._next(mode, start=is_start, held=held[:1_000]))
        # The inbox holds exactly the open leases and their cancels, so its length tells, without the bodies, that
        # nothing was taken back; unless one came in the place of another and was not read, which takes a failover to a
        # slower clock.
        is_other = length != len(snapshot) + self._inbox.others
        if was_silent or is_other or self._seq % COMPARE_EVERY == 0:
            self._compare(snapshot)
        self._leases.live(sent_s + self._lifetime_s)

    def _is_start(self, now_s: float) -> bool:
        # The balancer that read the start may have died before it applied it. Within a boot the word means nothing.
        return now_s < self._start_until_s and not self._inbox.is_confirmed

    def _send(self, beat: Heartbeat) -> tuple[str, int]:
        """The entry of the heartbeat that was accepted, and the length of the inbox after it."""
        pipe = self._client.pipeline(transaction=False)
        pipe.xadd(self._stream, beat.fields())
        pipe.xlen(self._inbox_key)
        pipe.hget(self._meta_key, "genesis")
        accepted, length, genesis = pipe.execute(raise_on_error=False)
        for answer in (accepted, length):
            if isinstance(answer, Exception):
                raise answer
        # An agent that may not read this key (an ACL) is none the wiser, and goes on.
        if not isinstance(genesis, Exception):
            self._saw_pool(genesis is not None)
        return str(accepted), int(length)

    def _saw_pool(self, is_there: bool) -> None:
        if is_there == self._is_pool_there:
            return
        self._is_pool_there = is_there
        if is_there:
            say(self._log.info, "pool_found", pool=self._pool)
        else:
            say(self._log.warning, "pool_not_found", pool=self._pool)

    def _compare(self, snapshot: list[Any]) -> None:
        rows = self._inbox.read_all(self._client)
        for lease in self._leases.forget_gone(snapshot, {entry for entry, _ in rows}):
            say(lease.context.log.warning, "lease_revoked")
        for lease in self._leases.report_again(time.monotonic()):
            say(lease.context.log.warning, "lease_reported_again", reports=lease.reports)
        self._inbox.catch_up(rows)

    def _next(self, mode: Mode, *, start: bool = False, held: tuple[str, ...] = ()) -> Heartbeat:
        self._seq += 1
        said = {"seq": self._seq, "mode": mode, "start": start, "held": held}
        return self._declaration.model_copy(update=said)
