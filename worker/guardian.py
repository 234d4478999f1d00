"""A process of its own, which outlives the worker by a moment: what the worker's programs started is killed when the
worker is gone, whatever ended it. Run by its path, so it imports nothing of ours and is there in a few milliseconds.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

#: Scans for what carries the mark, at most: each finds only what was begun during the one before.
SCANS = 100
#: Looks at a process that is about to become another program, at most, and the seconds between them.
LOOKS, LOOK_INTERVAL_S = 1_000, 0.001

#: Where these stand in /proc/PID/stat, counted from the state, the first after the name.
VSIZE, ENV_START, ENV_END = 20, 47, 48


def guard(lines: Iterable[str], mark: str) -> None:
    """Follow what the worker says, `+GROUP` or `-GROUP` a line; when it says no more, kill what is left.

    Args:
        lines: end when nobody has the other end of the pipe any more. A process that the worker forks has it until it
            becomes the program, so at the end each program has its mark or is just getting it, or is none yet and
            never will be.
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
                with suppress(OSError):
                    if sought in b"\0" + _environment(name) + b"\0":
                        yield int(name)


def _environment(process: str) -> bytes:
    """What a process was started with. One that becomes another program has none while that is loaded: its files are
    closed by then, so the worker and whoever started it go on, and it is passed over by who looks only once.
    """
    for _ in range(LOOKS):
        with open(f"/proc/{process}/environ", "rb") as environment:
            text = environment.read()
        if text or _is_without(process):
            return text
        time.sleep(LOOK_INTERVAL_S)
    return b""


def _is_without(process: str) -> bool:
    """It was started with an empty environment, or is dead, or is the kernel's own. While a program is loaded it has
    memory, but nothing says yet where its environment ends.
    """
    with open(f"/proc/{process}/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    return fields[VSIZE] == b"0" or b"0" != fields[ENV_START] == fields[ENV_END]


def _kill(kill: Callable[[int, int], None], whom: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        kill(whom, signal.SIGKILL)


if __name__ == "__main__":
    # Whoever asks the worker to stop may ask everything around it: only the worker's end is ours.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guard(sys.stdin, sys.argv[1])
