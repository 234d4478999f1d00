"""Runs handlers: sync ones in daemon threads, coroutines in one event loop. Knows leases and handlers, not Redis."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from balancer.protocol import MAX_ERROR_BYTES, MAX_RESULT_BYTES, Status
from worker.context import TaskContext
from worker.errors import CommandEnded, Reject
from worker.lease import Lease
from worker.leases import Leases
from worker.logs import say
from worker.threads import Coroutines, DaemonThreads

Handler = Callable[[TaskContext], Any]

#: Handles every category that has no handler of its own.
ANY = "*"


def encode_result(result: Any) -> tuple[str, dict[str, Any] | None]:
    """The JSON text of a result, "" for None. One that is too large or no JSON becomes a marker, told beside it too."""
    if result is None:
        return "", None
    try:
        text = json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError):
        return _marker(dropped="not_json", type=type(result).__name__[:100])
    if size > MAX_RESULT_BYTES:
        return _marker(dropped="too_large", bytes=size)
    return text, None


def _marker(**fields: Any) -> tuple[str, dict[str, Any]]:
    return json.dumps(fields), fields


def describe_error(error: BaseException) -> str:
    """`TypeName: text`, cut to MAX_ERROR_BYTES. Never raises, whatever the exception's own text does."""
    try:
        name = "" if isinstance(error, CommandEnded) else f"{type(error).__name__}: "
        text = f"{name}{error}"
    except Exception:
        text = type(error).__name__
    return text.encode(errors="replace")[:MAX_ERROR_BYTES].decode(errors="ignore")


class Executor:
    """Begins what may run and reports how it ended to the leases."""

    def __init__(
        self, handlers: Mapping[str, Handler], leases: Leases, on_change: Callable[[], None]
    ) -> None:
        self._handlers = handlers
        self._leases = leases
        self._on_change = on_change
        self._threads = DaemonThreads()
        self._coroutines = Coroutines()

    def pump(self) -> None:
        """Begin everything that may run now. Any thread may call it, at any time."""
        changed = False
        while begun := self._leases.begin(time.monotonic()):
            changed = True
            for lease in begun:
                self._execute(lease)
        if changed:
            self._on_change()

    def close(self) -> None:
        """Let idle threads go; what still runs is left to the end of the process."""
        self._threads.close()
        self._coroutines.close()

    def _execute(self, lease: Lease) -> None:
        category = lease.task.category
        handler = self._handlers.get(category) or self._handlers.get(ANY)
        if handler is None:
            error = f"no handler for category {category!r} on this agent"
            self._leases.finish(lease, Status.FAILED, time.monotonic(), error=error)
            self._leases.leave(lease)
            say(lease.context.log.warning, "task_failed", reason="no handler", category=category)
        elif is_async(handler):
            coroutine = self._await(handler, lease)
            self._coroutines.run(lease, coroutine, lambda: self._left(lease))
        else:
            self._threads.run(lambda: self._call(handler, lease))

    def _call(self, handler: Handler, lease: Lease) -> None:
        try:
            say(lease.context.log.info, "task_started", category=lease.task.category)
            result = handler(lease.context)
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError("the handler returned a coroutine: declare it with async def")
        except Reject as why:
            self._rejected(lease, why)
        except (
            BaseException
        ) as error:  # a handler that calls sys.exit() has failed; the agent goes on
            self._failed(lease, error)
        else:
            self._succeeded(lease, result)
        finally:
            self._left(lease)

    async def _await(self, handler: Handler, lease: Lease) -> None:
        try:
            say(lease.context.log.info, "task_started", category=lease.task.category)
            result = await handler(lease.context)
        except Reject as why:
            self._rejected(lease, why)
        except BaseException as error:
            self._failed(lease, error)
        else:
            self._succeeded(lease, result)

    def _succeeded(self, lease: Lease, result: Any) -> None:
        now_s, (text, dropped) = time.monotonic(), encode_result(result)
        if self._leases.finish(lease, Status.COMPLETED, now_s, result=text):
            if dropped:
                say(lease.context.log.warning, "result_dropped", **dropped)
            say(
                lease.context.log.info, "task_completed", duration_s=round(now_s - lease.began_s, 3)
            )
        else:
            say(lease.context.log.info, "late_result_dropped")

    def _failed(self, lease: Lease, error: BaseException) -> None:
        text = describe_error(error)
        is_cancelled = lease.is_cancelled
        if not self._leases.finish(lease, Status.FAILED, time.monotonic(), error=text):
            say(lease.context.log.info, "late_error_dropped", reason=type(error).__name__)
        elif is_cancelled:
            say(lease.context.log.info, "task_cancelled", reason=type(error).__name__)
        else:
            said: dict[str, Any] = {"reason": type(error).__name__, "exc_info": error}
            if isinstance(error, CommandEnded):
                said = {"reason": error.reason}
            say(lease.context.log.warning, "task_failed", **said)

    def _rejected(self, lease: Lease, why: Reject) -> None:
        text = str(why).encode(errors="replace")[:MAX_ERROR_BYTES].decode(errors="ignore")
        if self._leases.finish(lease, Status.REJECTED, time.monotonic(), error=text):
            reason = why.reason if isinstance(why, CommandEnded) else text[:200]
            say(lease.context.log.info, "task_rejected", reason=reason)
        else:
            say(lease.context.log.info, "late_error_dropped", reason="Reject")

    def _left(self, lease: Lease) -> None:
        self._leases.leave(lease)
        self.pump()
        self._on_change()


def is_async(handler: Handler) -> bool:
    """Whether calling it gives a coroutine; objects with an async `__call__` too."""
    call = getattr(handler, "__call__", None)  # noqa: B004 - not asking whether it is callable
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)
