"""Plays the balancer towards an agent, by hand: grants and revokes in its inbox, reads what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from balancer.embedded import EmbeddedRedis
from balancer.protocol import (
    Completion,
    Heartbeat,
    Keys,
    Mode,
    TextRedis,
    new_nonce,
    read_completion,
    read_heartbeat,
)
from tests.support.wait import wait_until
from worker import Agent, TaskContext

POOL, AGENT = "p", "builder-1"
URL_OF_NOBODY = "redis://127.0.0.1:1/0"


class Rig:
    """One pool with one agent in it."""

    def __init__(self, url: str, client: TextRedis) -> None:
        self.url = url
        self.client = client
        self.keys = Keys(POOL)
        self.inbox = self.keys.inbox(AGENT)

    def agent(self, **settings: Any) -> Agent:
        """An agent that beats every 0.1 s; its TTL is long, so that a slow machine does not fence it."""
        given: dict[str, Any] = {
            "role": "developer",
            "redis_url": self.url,
            "pool": POOL,
            "max_concurrent": 2,
        }
        given |= {"interval_s": 0.1, "ttl_s": 60.0} | settings
        return Agent(AGENT, **given)

    def grant(
        self, boot: str, task: str = "t1", *, nonce: str = "", entry: str = "*", **changed: Any
    ) -> str:
        """Put a lease into the inbox; answers its nonce. `changed` replaces fields of the entry, None removes them."""
        nonce = nonce or new_nonce()
        fields: dict[str, Any] = {
            "v": 1, "task": task, "attempt": 1, "lease": nonce, "boot": boot, "role": "developer",
            "category": "feature", "priority": "medium", "cost": 1, "timeout_ms": 60_000,
            "estimate_ms": 1_000, "body": json.dumps({"description": "d", "payload": {"n": 1}}),
        }  # fmt: skip
        fields = {name: value for name, value in (fields | changed).items() if value is not None}
        self.client.xadd(self.inbox, fields, id=entry)
        return nonce

    def cancel(self, nonce: str, **fields: Any) -> None:
        """Ask the agent to stop what it runs for this lease."""
        named = {"v": 1, "kind": "cancel", "task": "t1", "attempt": 1, "lease": nonce}
        self.client.xadd(self.inbox, named | fields)

    def retire(self, in_ms: int) -> None:
        """Let the agent go; the deadline is by Redis' clock."""
        seconds, micros = self.client.time()
        deadline_ms = 1_000 * seconds + micros // 1_000 + in_ms
        self.client.xadd(self.inbox, {"v": "1", "kind": "retire", "deadline_ms": str(deadline_ms)})

    def revoke(self, nonce: str) -> None:
        """Take the lease out of the inbox."""
        for entry, fields in self.client.xrange(self.inbox):
            if fields.get("lease") == nonce:
                self.client.xdel(self.inbox, entry)

    def beats(self) -> list[Heartbeat]:
        return [read_heartbeat(fields) for _, fields in self.client.xrange(self.keys.heartbeats)]

    def completions(self) -> list[Completion]:
        rows = self.client.xrange(self.keys.completions)
        return [read_completion(fields) for _, fields in rows]

    def starts(self) -> list[Heartbeat]:
        """The first heartbeat of each boot; it goes on to say `start` until the boot is confirmed."""
        first: dict[str, Heartbeat] = {}
        for beat in self.beats():
            if beat.start:
                first.setdefault(beat.boot, beat)
        return list(first.values())

    def modes(self) -> list[Mode]:
        return [beat.mode for beat in self.beats()]

    def until_started(self) -> None:
        wait_until(self.starts, "the agent said that it started")

    def until_completed(self, count: int = 1) -> list[Completion]:
        """Wait for that many completions, oldest first."""
        wait_until(lambda: len(self.completions()) >= count, f"there are {count} completions")
        return self.completions()

    def until_beats(self, count: int) -> None:
        """Wait until that many more heartbeats were sent than now."""
        now = len(self.beats())
        wait_until(lambda: len(self.beats()) >= now + count, f"{count} more heartbeats were sent")


class Gate:
    """A handler that stays in each task until it is opened; unless it is deaf, until it is cancelled."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.began: list[TaskContext] = []
        self.opened = threading.Event()
        self._deaf = deaf

    def __call__(self, task: TaskContext) -> str:
        self.began.append(task)
        wait_until(
            lambda: self.opened.is_set() or (not self._deaf and task.cancelled.is_set()),
            "the gate opens",
            60,
        )
        return "left"

    def until_began(self, count: int = 1) -> None:
        wait_until(lambda: len(self.began) >= count, f"{count} tasks began")


def until_threads_ended() -> None:
    """Nothing of an agent outlives its stop, but what ignores that it was told to."""
    wait_until(
        lambda: (
            not [thread for thread in threading.enumerate() if thread.name.startswith("agent-")]
        ),
        "the threads of all agents ended",
    )


@contextmanager
def frozen(server: EmbeddedRedis) -> Iterator[None]:
    """A block in which Redis accepts connections and answers nothing."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@contextmanager
def process(source: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs `source`; killed when the block ends."""
    running = subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    with running:
        try:
            yield running
        finally:
            running.kill()
