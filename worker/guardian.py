"""A process of its own, which outlives the worker by a moment: what the worker's programs started is killed when the
worker is gone, whatever ended it. Run by its path, so it imports nothing of ours and is there in a few milliseconds.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

#: Scans for what carries the mark, at most: each finds only what was begun during the one before.
SCANS = 100


def guard(lines: Iterable[str], mark: str) -> None:
    """Follow what the worker says, `+GROUP` or `-GROUP` a line; when it says no more, kill what is left.

    Args:
        lines: end when nobody has the other end of the pipe any more. A process that the worker forks has it until it
            becomes the program, so at the end each program has its mark, or is none yet and never will be.
        mark: stands in the environment of each program, as VARIABLE=VALUE.
    """
    groups: set[int] = set()
    for line in lines:
        change = groups.add if line.startswith("+") else groups.discard
        change(int(line[1:]))
    for group in groups:
        _kill(os.killpg, group)
    # Those that left their group, and the one whose group we were not told of in time.
    killed: set[int] = set()
    for _ in range(SCANS):
        found = set(marked(mark)) - killed
        if not found:
            break
        for process in found:
            _kill(os.kill, process)
        killed |= found


def marked(mark: str) -> Iterator[int]:
    """The processes that carry the mark. None where there is no /proc."""
    sought = f"\0{mark}\0".encode()
    with suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with suppress(OSError), open(f"/proc/{name}/environ", "rb") as environment:
                    if sought in b"\0" + environment.read() + b"\0":
                        yield int(name)


def _kill(kill: Callable[[int, int], None], whom: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        kill(whom, signal.SIGKILL)


if __name__ == "__main__":
    # Whoever asks the worker to stop may ask everything around it: only the worker's end is ours.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guard(sys.stdin, sys.argv[1])
