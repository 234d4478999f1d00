"""The `balancer` command: one module a noun. What is slow to load is loaded when its command runs; this module loads
nothing, so that Ctrl-C finds it ready early.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Exit code of what Ctrl-C ended.
INTERRUPTED = 130


def main() -> None:
    """Entry point."""
    # Ctrl-C while modules load ends the process at once: nothing has begun, and an exception would not always get
    # through (see `leave`). Where the signal is ignored, as under nohup, it stays so.
    takes_it = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if takes_it:
        signal.signal(signal.SIGINT, _end)
    from balancer.cli.root import run

    try:
        if takes_it:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    leave(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    from balancer.cli import root

    return root.run(arguments)


def leave(code: int) -> None:
    """End the process. Python kills itself by SIGINT when a KeyboardInterrupt, though caught, has once passed
    through an `exec` of text (any dataclass or named tuple that was just being defined): hence the short way out.
    """
    if code == INTERRUPTED:
        os._exit(code)
    sys.exit(code)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
