"""One run of an agent: builds its parts, starts their threads, and brings them to a good end or a bad one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import redis
import structlog

from balancer.protocol import Heartbeat, Keys, Mode, connect, new_nonce
from worker.errors import AgentEnded, Fenced, Superseded
from worker.executor import Executor, Handler
from worker.heart import Heart
from worker.inbox import Inbox
from worker.lease import Lease
from worker.leases import Leases
from worker.logs import say
from worker.loop import Loop
from worker.reporter import Reporter
from worker.watch import Watch, margin_s

#: Longest blocking read of the inbox, seconds; after a stop that thread ends by itself within this time.
LONGEST_BLOCK_S = 5.0
#: How long a stopping agent stays for what was granted before the balancer heard of it, seconds; a quarter interval
#: if that is less.
LINGER_S = 0.25
#: How long work that was told to stop may take, and how long a thread may take to end, seconds.
STILL_S, JOIN_S = 1.0, 6.0
#: How long a stopping agent waits until what it gave back has left its inbox, seconds, and how often it looks.
RELEASE_S, RELEASE_POLL_S = 1.0, 0.02


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an agent is and where it belongs."""

    declaration: Heartbeat
    """Its boot, seq and mode do not matter."""
    units: int
    redis_url: str
    pool: str


class Runtime:
    """Starts once and stops once."""

    def __init__(self, settings: Settings, handlers: Mapping[str, Handler]) -> None:
        declaration = settings.declaration.model_copy(update={"boot": new_nonce()})
        interval_s, ttl_s = declaration.interval_ms / 1_000, declaration.ttl_ms / 1_000
        margin = margin_s(ttl_s)
        block_s = min(LONGEST_BLOCK_S, interval_s)
        self._keys = keys = Keys(settings.pool)
        self._log = log = structlog.get_logger("worker").bind(agent_id=declaration.agent)
        self._linger_s = min(LINGER_S, interval_s / 4)
        self._client = client = connect(settings.redis_url, pool=settings.pool)
        reading = connect(settings.redis_url, pool=settings.pool, block_s=block_s)
        reporting = connect(settings.redis_url, pool=settings.pool)
        self._leases = leases = Leases(settings.units)
        self._has_handlers = bool(handlers)
        self._executor = Executor(handlers, leases, self._on_change)
        self._watch = Watch(
            leases,
            grace_s=margin / 2,
            on_over=self._on_change,
            on_fenced=lambda left: self._end(Fenced(f"{left} tries did not stop in time")),
            log=log,
        )
        self._inbox_part = inbox = Inbox(
            declaration.agent,
            keys,
            reading,
            leases,
            block_s=block_s,
            on_arrival=self._on_arrival,
            on_superseded=lambda boot: self._end(Superseded(f"boot {boot} has taken over")),
            on_retire=self._retire,
            log=log,
        )
        self._heart = Heart(
            declaration,
            keys,
            client,
            leases,
            inbox,
            lifetime_s=ttl_s - margin,
            fence=self._watch.fence,
            on_live=self._on_live,
            log=log,
            pool=settings.pool,
        )
        reporter = Reporter(keys, reporting, leases)
        self._heartbeats = Loop("heartbeat", self._heart.step, log)
        self._inbox = Loop("inbox", inbox.step, log, reading.close)
        self._reports = Loop("report", reporter.step, log, reporting.close)
        self._clock = Loop("watch", self._watch.step, log)
        self._ended = threading.Event()
        self._stop_lock = threading.Lock()
        self._is_clean: bool | None = None
        self._is_retiring = False
        self.error: AgentEnded | None = None
        self.on_end: Callable[[], None] = lambda: None

    @property
    def boot(self) -> str:
        """The current boot."""
        return self._heart.boot

    @property
    def _loops(self) -> tuple[Loop, ...]:
        return (self._heartbeats, self._inbox, self._reports, self._clock)

    def start(self) -> None:
        """Start the threads. Redis need not be there yet."""
        if not self._has_handlers:
            say(self._log.warning, "handlers_not_given")
        for loop in self._loops:
            loop.start()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until it has ended; False when the time ran out."""
        return self._ended.wait(timeout_s)

    def stop(self, timeout_s: float | None) -> bool:
        """Finish what is held, report it, say stopped. What does not end in time is told to stop and given back; the
        answer is False then. May be called again.
        """
        with self._stop_lock:
            if self._is_clean is None:
                self._is_clean = self._stop(timeout_s)
            return self._is_clean

    def _stop(self, timeout_s: float | None) -> bool:
        give_up_s = time.monotonic() + (float("inf") if timeout_s is None else timeout_s)
        self._heart.mode = Mode.STOPPING
        self._heartbeats.wake()
        if self._heart.is_started:
            self._heart.said_stopping.wait(self._linger_s)
            self._ended.wait(self._linger_s)
        left_s = None if timeout_s is None else max(0.0, give_up_s - time.monotonic())
        self._leases.wait_until_done(left_s)
        for loop in self._loops:
            loop.stop()
        given_up = self._leases.give_up()
        for lease in given_up:
            say(lease.context.log.warning, "lease_given_up")
        self._leases.wait_until_still(STILL_S)
        for loop in (self._heartbeats, self._reports, self._clock):
            loop.join(JOIN_S)
        self._give_back(given_up)
        is_clean = not given_up and not self._leases.is_fenced and self.error is None
        self._say_stopped()
        self._executor.close()
        with suppress(redis.RedisError, OSError):
            self._client.close()
        say(self._log.info, "agent_stopped", is_clean=is_clean)
        self._ended.set()
        return is_clean

    def _give_back(self, given_up: list[Lease]) -> None:
        """Release what has stopped, and wait until that took effect: saying stopped first would count as a loss."""
        if self.error or self._leases.is_fenced or not (back := self._leases.release(given_up)):
            return
        until_s, entries = time.monotonic() + RELEASE_S, {lease.entry for lease in back}
        last_word = Reporter(self._keys, self._client, self._leases)
        try:
            while self._leases.unreported(1):
                last_word.step()
            while time.monotonic() < until_s:
                if entries.isdisjoint(
                    entry for entry, _ in self._inbox_part.read_all(self._client)
                ):
                    break
                time.sleep(RELEASE_POLL_S)
        except redis.RedisError as error:
            say(
                self._log.warning, "not_given_back", reason=f"{type(error).__name__}: {error}"[:200]
            )

    def _say_stopped(self) -> None:
        # Whoever says so loses its leases at once, and must not while its work goes on. After a takeover the word is
        # no longer ours.
        if self.error or not self._heart.is_started or self._leases.stubborn():
            return
        try:
            self._heart.say_stopped()
        except redis.RedisError as error:
            say(self._log.warning, "stop_not_said", reason=f"{type(error).__name__}: {error}"[:200])

    def _end(self, error: AgentEnded) -> None:
        """Stop at once, from any thread, waiting for nothing."""
        self.error = error
        for loop in self._loops:
            loop.stop()
        given_up = self._leases.give_up()
        event = "agent_superseded" if isinstance(error, Superseded) else "agent_fenced"
        say(self._log.critical, event, reason=str(error), given_up=len(given_up))
        self._ended.set()
        self.on_end()

    def _retire(self) -> None:
        """An operator lets this agent go: stop as after SIGTERM. From a thread of its own: the loops that say so end
        meanwhile.
        """
        if self._is_retiring:
            return
        self._is_retiring = True
        say(self._log.info, "agent_retired")

        def stop() -> None:
            self.stop(None)
            self.on_end()

        threading.Thread(target=stop, name="retire", daemon=True).start()

    def _on_change(self) -> None:
        """Something ran, ended, or ran out: there may be completions to send and deadlines to keep."""
        self._reports.wake()
        self._clock.wake()
        if self._leases.is_fenced:
            self._heartbeats.wake()

    def _on_live(self) -> None:
        self._inbox.wake()
        self._on_arrival()

    def _on_arrival(self) -> None:
        # What cannot be read, or ran before, is to be reported without having run.
        self._reports.wake()
        self._executor.pump()
