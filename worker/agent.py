"""The public face: declare an agent, give it handlers, run it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

from balancer.protocol import Heartbeat, is_name
from worker.declaration import Declaration
from worker.errors import Fenced
from worker.executor import ANY, Handler
from worker.logs import configure_unless_configured
from worker.process import end_process, signals_to
from worker.runtime import Runtime

H = TypeVar("H", bound=Handler)


class Agent:
    """An agent: takes tasks of one role from a pool and runs the handlers given to it."""

    def __init__(
        self,
        id: str,
        *,
        role: str,
        redis_url: str | None = None,
        pool: str | None = None,
        max_concurrent: int = 1,
        type: str | None = None,
        specializations: Sequence[str] | None = None,
        interval_s: float = 5.0,
        ttl_s: float = 15.0,
        skills: Mapping[str, int] | None = None,
        speed: float | None = None,
        speeds: Mapping[str, float] | None = None,
    ) -> None:
        """See the arguments. Nothing is connected yet.

        Args:
            id: unique in the pool; two processes of one id take each other's place.
            role: whose tasks it takes.
            redis_url: by default $BALANCER_REDIS_URL, else redis://127.0.0.1:6379/0.
            pool: by default $BALANCER_POOL, else "default".
            max_concurrent: units it carries at once, 1 to 1,000; a task takes as many as it costs, 1 by default.
            type: gives specializations to agents that declare none.
            specializations: categories it is best at; None leaves them to the pool, an empty list says none.
            interval_s: between heartbeats, 0.1 to 86,400.
            ttl_s: the balancer takes its work back after this silence; at least two intervals.
            skills: what it can do and how well, level 1 to 100 by skill; tasks may require some.
            speed: how fast it is, 0.01 to 100; 1, the default, is normal.
            speeds: how fast it is with a category; with others it has `speed`, and a quarter more with those
                it is best at. The balancer learns how fast it is in truth, beginning from this.

        Raises:
            ValueError: names the argument and its rule.
        """
        self._handlers: dict[str, Handler] = {}
        self._runtime: Runtime | None = None
        self._given = Declaration(
            id, role, max_concurrent, redis_url, pool, type, specializations, interval_s, ttl_s,
            skills, speed, speeds,
        )  # fmt: skip
        self._given.settings()

    def override(
        self,
        *,
        id: str | None = None,
        role: str | None = None,
        max_concurrent: int | None = None,
        redis_url: str | None = None,
        pool: str | None = None,
        skills: Mapping[str, int] | None = None,
        speed: float | None = None,
        speeds: Mapping[str, float] | None = None,
    ) -> None:
        """Replace what is not None, before it starts: one program, many agents.

        Raises:
            ValueError: names the argument and its rule.
        """
        given = {
            "id": id, "role": role, "max_concurrent": max_concurrent, "redis_url": redis_url, "pool": pool,
            "skills": skills, "speed": speed, "speeds": speeds,
        }  # fmt: skip
        changed: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        replaced = replace(self._given, **changed)
        replaced.settings()
        self._given = replaced

    def task(self, *categories: str) -> Callable[[H], H]:
        """Make a callable, sync or async, the handler of these categories; of all others without any or with "*".

        Raises:
            ValueError: a category is no name, or has a handler.
        """
        for category in categories or (ANY,):
            if category != ANY and not is_name(category):
                raise ValueError(f"category: {category!r} is not a name")
            if category in self._handlers:
                raise ValueError(f"category: {category!r} has a handler already")

        def register(handler: H) -> H:
            self._handlers |= dict.fromkeys(categories or (ANY,), handler)
            return handler

        return register

    @property
    def declaration(self) -> Heartbeat:
        """What its heartbeats will say of it; its boot and seq do not matter.

        Raises:
            ValueError: names the argument and its rule.
        """
        return self._given.settings().declaration

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """Its handlers by category; ANY stands for all others."""
        return dict(self._handlers)

    def start(self) -> None:
        """Run in threads of its own, without signal handlers. Redis need not be there yet.

        Raises:
            RuntimeError: it runs already.
        """
        if self._runtime is not None and not self._runtime.wait(0):
            raise RuntimeError(f"agent {self._given.id!r} runs already")
        self._runtime = Runtime(self._given.settings(), dict(self._handlers))
        self._runtime.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Take nothing new, finish and report what is held, say stopped.

        After the timeout the rest is told to stop and given up; the balancer gives it to others. Whether nothing was.
        """
        return self._runtime is None or self._runtime.stop(timeout_s)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it has ended; False when the time ran out.

        Raises:
            Superseded: another process runs under its id.
            Fenced: work did not stop in time. Threads cannot be killed: end the process.
        """
        if self._runtime is None:
            return True
        has_ended = self._runtime.wait(timeout_s)
        if self._runtime.error:
            raise self._runtime.error
        return has_ended

    @property
    def fenced(self) -> bool:
        """Whether it ended because work did not stop in time."""
        return self._runtime is not None and isinstance(self._runtime.error, Fenced)

    @property
    def boot(self) -> str:
        """What names the current process start in heartbeats; "" before the first."""
        return self._runtime.boot if self._runtime else ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if error is None:
            self.wait()

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, then stop as `stop()` does. Another, a second later or more, ends it at once.

        Logs go to stderr, unless the program has configured structlog.

        Raises:
            SystemExit: 1, work had to be given up; 3, superseded; 4, fenced. After 3 and 4 the process ends within a
                second even if the exception is caught: its work may run elsewhere by now.
            RuntimeError: not called in the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("run() belongs in the main thread; elsewhere use start() and stop()")
        configure_unless_configured()
        # A SimpleQueue: unlike an Event it may be written to by a signal handler while the same thread waits on it.
        news: SimpleQueue[object] = SimpleQueue()
        with signals_to(news):
            self.start()
            assert self._runtime is not None
            self._runtime.on_end = lambda: news.put(None)
            if self._runtime.error is None:
                news.get()
            is_clean = self._runtime.error is None and self.stop()
        if self._runtime.error is not None:
            end_process(self._runtime.error)
        if not is_clean:
            raise SystemExit(1)
