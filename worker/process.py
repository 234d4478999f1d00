"""What `run()` does to its process, and nobody else may: signal handlers and the end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn

from worker.errors import AgentEnded

#: How long the interpreter may take to exit once nothing may run any more, seconds.
EXIT_S = 0.5
#: A signal so soon after the first is the same wish told twice (a process group, `timeout`), seconds.
SAME_S = 1.0


@contextmanager
def signals_to(news: SimpleQueue[object]) -> Iterator[None]:
    """The first SIGTERM or SIGINT goes to `news`; one that comes SAME_S later or more ends the process."""
    seen: list[float] = []

    def handle(number: int, _: FrameType | None) -> None:
        now_s = time.monotonic()
        if not seen:
            seen.append(now_s)
            news.put(number)
        elif now_s >= seen[0] + SAME_S:
            os._exit(128 + number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_process(error: AgentEnded) -> NoReturn:
    """Leave; and should something keep the interpreter (it waits for threads that are no daemons), leave for sure."""
    guard = threading.Timer(EXIT_S, os._exit, (error.exit_code,))
    guard.daemon = True
    guard.start()
    sys.exit(error.exit_code)
