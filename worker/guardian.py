"""A process of its own, which outlives the worker by a moment: what the worker's commands started is killed when the
worker is gone, whatever ended it. Run by its path, so it imports nothing of ours and is there in a few milliseconds.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress


def guard(lines: Iterable[str]) -> None:
    """Follow what the worker says, `+GROUP` or `-GROUP` a line; when it says no more, kill the groups that are left."""
    groups: set[int] = set()
    for line in lines:
        change = groups.add if line.startswith("+") else groups.discard
        change(int(line[1:]))
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    # Whoever asks the worker to stop may ask everything around it: only the worker's end is ours.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guard(sys.stdin)
