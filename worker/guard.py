"""Tells the guardian what must not outlive this process."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from balancer.protocol import new_nonce

#: Stands in the environment of what must not outlive this process.
VARIABLE = "BALANCER_GUARD"
_GUARDIAN = Path(__file__).with_name("guardian.py")


class Guard:
    """One guardian process, started again if it is gone. Not for several threads."""

    def __init__(self) -> None:
        """Start the guardian.

        Raises:
            OSError: no process can be started.
        """
        self._token = new_nonce()
        self._groups: set[int] = set()
        self._process = self._started()

    @property
    def environment(self) -> dict[str, str]:
        """What each program must have in its environment: it is found by that."""
        return {VARIABLE: self._token}

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
            [sys.executable, "-I", "-S", str(_GUARDIAN), f"{VARIABLE}={self._token}"],
            # Nor is it to be found by the guardian of a worker that runs this one as its program.
            env={name: text for name, text in os.environ.items() if name != VARIABLE},
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
