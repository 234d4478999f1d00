"""The demo's child processes: started, watched, started again when they die, and killed on purpose."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from balancer.core.errors import BalancerError

#: A child that dies by itself this soon, seconds, this often in a row, will not come up.
SOON_S, OFTEN = 2.0, 5
#: How long stopping may take before what is left is killed, seconds.
STOP_S = 3.0


class ChildFailed(BalancerError):
    """A process of the demo does not come up. The text holds the end of its log."""

    code = "demo_child_failed"


@dataclass(eq=False)
class Child:
    """One process that shall run, over all its restarts."""

    name: str
    module: str
    said: dict[str, Any]
    log: Path
    #: Ends by itself, with 0, when its work is done.
    ends: bool = False
    #: Not to be started again before somebody clears it.
    down: bool = False
    done: bool = False
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    started_at: float = 0.0
    starts: int = 0
    early_deaths: int = 0

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start its process. It ends with us: it watches the pipe on its standard input."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, json.dumps(self.said)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is for us alone.
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self.started_at = time.monotonic()
        self.starts += 1

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, when there is somebody to get it."""
        if self.process is not None:
            self.process.send_signal(number)

    def reap(self) -> int:
        """The exit status of a process that has ended."""
        process, self.process = self.process, None
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        return process.wait()


class Fleet:
    """All children, and what has happened to them."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.restarts = 0
        #: What happened lately, in words.
        self.news: deque[str] = deque(maxlen=50)
        self._began_at = time.monotonic()

    def add(self, child: Child) -> Child:
        """Start one more."""
        self.children.append(child)
        child.start()
        return child

    def tell(self, what: str) -> None:
        """Remember what happened, with its time."""
        self.news.append(f"{time.monotonic() - self._began_at:5.1f} s  {what}")

    def tend(self) -> None:
        """Start again what has died, except what shall stay down.

        Raises:
            ChildFailed: one of them dies again and again.
        """
        for child in self.children:
            if child.process is not None and not child.is_up:
                self._ended(child, child.reap())
            if child.process is None and not child.down and not child.done:
                child.start()
                self.restarts += 1
                self.tell(f"{child.name} started again")

    def _ended(self, child: Child, status: int) -> None:
        if child.ends and status == 0:
            child.done = True
            self.tell(f"{child.name} is done")
            return
        self.tell(f"{child.name} died ({_reason(status)})")
        own_fault = status >= 0 and time.monotonic() - child.started_at < SOON_S
        child.early_deaths = child.early_deaths + 1 if own_fault else 0
        if child.early_deaths >= OFTEN:
            tail = child.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
            raise ChildFailed("\n".join([f"{child.name} does not come up:", *tail]))

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Ask all of them to end, kill those that do not, and wait until they are gone."""
        running = [child for child in self.children if child.is_up]
        for child in running:
            child.signal(signal.SIGTERM)
        _await_end(running, timeout_s)
        for child in running:
            if child.is_up:
                child.signal(signal.SIGKILL)
        for child in self.children:
            if child.process is not None:
                child.reap()


def _await_end(children: Iterable[Child], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    for child in children:
        try:
            assert child.process is not None
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return


def _reason(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"
