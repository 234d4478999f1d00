"""A balancer process: builds the loops, runs each in its thread, stops them cleanly. Any number may
serve one pool.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Self

import structlog
from redis.exceptions import OutOfMemoryError, RedisError

from balancer.config import differences
from balancer.core.errors import BalancerError
from balancer.core.names import new_nonce
from balancer.core.settings import PoolSettings
from balancer.ledger.pool import Pool
from balancer.ledger.replicas import NAME_MS, NAMES, is_of, sign
from balancer.loops.consumer import BLOCK_S, CompletionConsumer, HeartbeatConsumer
from balancer.loops.drainer import TICK_S, Drainer
from balancer.loops.loop import Loop
from balancer.loops.sweeper import SWEEP_S, Sweeper
from balancer.protocol.connect import TextRedis, connect
from balancer.retry import answered

log = structlog.get_logger("balancer")

#: How often a consumer name is renewed, and with it the word on how the loops do, seconds.
RENEW_S = 5.0
#: How soon it is told that the loops cannot work by the pool's settings, seconds.
LOOK_S = 0.5
#: How long starting waits for Redis, seconds.
START_S = 60.0


class ConsumerName(Loop):
    """Holds the lowest free consumer name: names are few and stable, so a restarted replica finds
    what it left unsettled. What it writes there tells `balancer health` how the other loops do.
    """

    name = "consumer_name"

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._pool = pool
        self._token = f"{socket.gethostname()} {os.getpid()} {new_nonce()[:8]}"
        self.watched: Sequence[Loop] = ()
        self._told_unable = False
        self.slot = self._take()

    @property
    def consumer(self) -> str:
        """The name in the consumer groups."""
        return f"c{self.slot}"

    def _take(self) -> int:
        try:
            for slot in range(NAMES):
                if self._pool.client.set(
                    self._pool.keys.consumer(slot), self._token, nx=True, px=NAME_MS
                ):
                    return slot
        except OutOfMemoryError:
            # What frees memory is settling, and that needs a balancer. A name that is shared does no harm.
            return 0
        raise BalancerError(
            f"all {NAMES} consumer names of pool {self._pool.name!r} are taken; wait {NAME_MS // 1000} s"
        )

    def wait(self, stop: threading.Event) -> None:
        """The renewal interval, or less when a loop can no longer work by the settings, or can again."""
        until = time.monotonic() + RENEW_S
        while not stop.wait(LOOK_S) and time.monotonic() < until:
            if self._is_unable != self._told_unable:
                return

    @property
    def _is_unable(self) -> bool:
        return any(loop.is_misconfigured for loop in self.watched)

    def step(self) -> bool:
        """Renew. A name that another replica took meanwhile is shared: both settle, and settling
        twice changes nothing.
        """
        key = self._pool.keys.consumer(self.slot)
        written = self._pool.client.get(key)
        if written is not None and not is_of(written, self._token):
            log.warning("consumer_name_shared", consumer=self.consumer)
            return False
        loops = {loop.name: loop.silent_s for loop in self.watched}
        is_unable = self._is_unable
        unable_ver = self._pool.settings_ver if is_unable else None
        self._pool.client.set(key, sign(self._token, loops, unable_ver), px=NAME_MS)
        self._told_unable = is_unable
        return True

    def give_back(self) -> None:
        """Free the name at once."""
        key = self._pool.keys.consumer(self.slot)
        written = self._pool.client.get(key)
        if written is not None and is_of(written, self._token):
            self._pool.client.delete(key)


class Service:
    """All loops of one replica.

    Args:
        redis_url: where Redis is.
        pool: the pool to serve; created when it is not there.
        settings: for a new pool. An existing one keeps its own; a difference is told.
        tick_s, sweep_s: backstop of the drainer and interval of the sweeper.

    Raises:
        Misconfigured: the address breaks a rule.
        Denied: user, password or rights are not enough.
        Unavailable: Redis did not answer within a minute.
    """

    def __init__(
        self,
        redis_url: str,
        pool: str = "default",
        settings: PoolSettings | None = None,
        *,
        tick_s: float = TICK_S,
        sweep_s: float = SWEEP_S,
    ) -> None:
        self._client = connect(redis_url, pool=pool)
        self._blocking = connect(redis_url, pool=pool, block_s=max(BLOCK_S, tick_s))
        self.pool = answered(lambda: Pool.create(self._client, pool, settings), START_S)
        if differing := differences(settings or PoolSettings(), self.pool.settings):
            log.warning(
                "settings_differed",
                pool=pool,
                differing=differing,
                text="the pool keeps its own settings; balancer configure changes them",
            )
        self._name = answered(lambda: ConsumerName(self.pool), START_S)
        consumer, sweeper = self._name.consumer, Sweeper(self.pool, sweep_s)
        self.loops: list[Loop] = [
            HeartbeatConsumer(self.pool, self._blocking, consumer),
            CompletionConsumer(self.pool, self._blocking, consumer, on_retry=sweeper.due_in),
            Drainer(self.pool, self._blocking, tick_s),
            sweeper,
            self._name,
        ]
        self._name.watched = self.loops[:-1]
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> Self:
        """Start the loops and return."""
        for loop in self.loops:
            thread = threading.Thread(
                target=loop.run, args=(self._stop,), name=loop.name, daemon=True
            )
            thread.start()
            self._threads.append(thread)
        log.info(
            "balancer_started",
            pool=self.pool.name,
            consumer=self._name.consumer,
            strategy=self.pool.settings.strategy,
        )
        return self

    def stop(self, timeout_s: float = 10.0) -> None:
        """Let every loop finish its pass, give the consumer name back, close the connections."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout_s)
        try:
            self._name.give_back()
        except RedisError as error:
            log.warning("consumer_name_kept", error=type(error).__name__)
        for client in (self._client, self._blocking):
            close(client)
        log.info("balancer_stopped", pool=self.pool.name)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""

        def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
            self._stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask_to_stop)
        self.start()
        while not self._stop.wait(1.0):
            dead = [thread.name for thread in self._threads if not thread.is_alive()]
            if dead:
                log.critical("loop_died", loops=dead)
                self.stop()
                raise BalancerError(f"loops died: {', '.join(dead)}")
        self.stop()

    @property
    def silent_s(self) -> float:
        """Seconds since the slowest loop last succeeded; consumers and drainer pass at least every
        second.
        """
        return max(loop.silent_s for loop in self.loops if loop is not self._name)


def close(client: TextRedis) -> None:
    """Close a client, whatever state its connections are in."""
    try:
        client.close()
    except (RedisError, OSError) as error:
        log.debug("close_failed", error=type(error).__name__)
