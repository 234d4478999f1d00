"""Tells the guardian which process groups must not outlive this process."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

_GUARDIAN = Path(__file__).with_name("guardian.py")


class Guard:
    """One guardian process, started again if it is gone. Not for several threads."""

    def __init__(self) -> None:
        """Start the guardian.

        Raises:
            OSError: no process can be started.
        """
        self._groups: set[int] = set()
        self._process = self._started()

    def watch(self, group: int) -> None:
        """From now on the group is killed when this process ends.

        Raises:
            OSError: there is no guardian, and none can be started.
        """
        self._groups.add(group)
        self._say(f"+{group}\n")

    def forget(self, group: int) -> None:
        """The group has ended. Its number may be another's soon."""
        self._groups.discard(group)
        with suppress(OSError):
            self._say(f"-{group}\n")

    def close(self) -> None:
        """Let the guardian go; it kills what is still watched."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        try:
            os.write(
                self._process.stdin.fileno(), text.encode()
            )  # short enough to be whole or not at all
        except OSError:  # killed; or stopped for so long that the pipe is full
            self._process.kill()
            self.close()
            self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARDIAN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a signal to our process group is not for it
        )
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        if self._groups:
            os.write(
                process.stdin.fileno(), "".join(f"+{group}\n" for group in self._groups).encode()
            )
        return process
