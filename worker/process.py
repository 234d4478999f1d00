"""What `run()` does to its process, and nobody else may: signal handlers and the end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn

from worker.errors import AgentEnded

#: How long the interpreter may take to exit once nothing may run any more, seconds.
EXIT_S = 0.5


@contextmanager
def signals_to(news: SimpleQueue[object]) -> Iterator[None]:
    """The first SIGTERM or SIGINT goes to `news`, the second ends the process."""
    seen: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            os._exit(128 + number)
        news.put(number)

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
