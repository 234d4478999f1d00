"""An eye on the Redis that a command has started: without it the command has no sense."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from balancer.core.errors import BalancerError

if TYPE_CHECKING:
    from balancer.embedded import OwnRedis


class RedisEnded(BalancerError):
    """The Redis of `balancer dev` ended before the command did."""

    code = "redis_ended"
    hint = "its data is gone unless --dir was given; start `balancer dev` again"


@contextmanager
def watched(redis: OwnRedis) -> Iterator[None]:
    """Should the server end first, stop as by SIGTERM, and fail.

    Raises:
        RedisEnded: it did.
    """
    from balancer.embedded import EmbeddedRedis

    if not isinstance(redis, EmbeddedRedis) or not hasattr(os, "waitid"):
        yield
        return
    pid, done, ended = redis.pid, threading.Event(), threading.Event()

    def watch() -> None:
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # whoever started it reaps it
        if not done.is_set():
            ended.set()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="redis_watch", daemon=True).start()
    try:
        yield
    except SystemExit:
        if not ended.is_set():
            raise
    finally:
        done.set()
    if ended.is_set():
        raise RedisEnded("the redis-server that it had started has ended")
