"""An agent by hand, as careless as the protocol lets it be: a zombie that goes on wherever it was.

It never fences itself and never looks whether a lease was taken back, so after a SIGSTOP it completes late. It reports
some tries twice, some with a wrong lease, attempt or name, and now and then its first heartbeat comes by once more, as
somebody forged it.
"""

from __future__ import annotations

import heapq
import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import redis
import structlog

from balancer.demo.child import arguments
from balancer.protocol import (
    Completion,
    Heartbeat,
    InboxKind,
    Keys,
    Status,
    connect,
    new_nonce,
)
from tests.chaos.roster import INTERVAL_S, POOL, TTL_S
from tests.chaos.worklog import WorkLog

#: Every so many completions one is said again at once, and one was said wrongly before; every so many heartbeats a
#: forged one follows.
TWICE, WRONGLY, FORGED = 5, 7, 3
#: What the forged heartbeat promises, units.
FORGED_UNITS = 900
#: Pause after an error of Redis, seconds.
PAUSE_S = 0.1

Fields = dict[str, str]


class Careless:
    """One process of it. It does one thing after the other, in one thread."""

    def __init__(self, said: dict[str, Any]) -> None:
        self._agent = str(said["id"])
        self._log = WorkLog(self._agent, Path(said["directory"]))
        self._keys = Keys(POOL)
        self._client = connect(said["url"])
        self._beat = Heartbeat(
            agent=self._agent,
            boot=new_nonce(),
            seq=1,
            role=said["role"],
            max_concurrent=said["units"],
            interval_ms=round(1_000 * INTERVAL_S),
            ttl_ms=round(1_000 * TTL_S),
        )
        self._last, self._seq, self._beat_at, self._started_at = "0-0", 0, 0.0, 0.0
        self._is_confirmed = False
        # What runs: (when it ends, nonce), and its entry. What has ended and was not reported yet.
        self._ends: list[tuple[float, str]] = []
        self._entries: dict[str, Fields] = {}
        self._done: list[Completion] = []
        self._reports = 0

    def run(self) -> None:
        """For ever."""
        while True:
            try:
                self._step()
            except redis.RedisError:
                time.sleep(PAUSE_S)

    def _step(self) -> None:
        if not self._started_at:
            self._read(None)
        if time.monotonic() >= self._beat_at:
            self._say_alive()
        self._finish()
        self._report()
        wait_s = min([self._beat_at, *(end for end, _ in self._ends[:1])]) - time.monotonic()
        self._read(max(1, round(1_000 * wait_s)))

    def _say_alive(self) -> None:
        now = time.monotonic()
        is_start = not self._is_confirmed and now < (self._started_at or now) + TTL_S
        # A number is never used twice, whether or not its heartbeat arrived.
        self._seq += 1
        said = {
            "seq": self._seq,
            "start": is_start,
            "held": tuple(self._entries)[:1_000] if is_start else (),
        }
        self._client.xadd(self._keys.heartbeats, self._beat.model_copy(update=said).fields())
        self._started_at = self._started_at or now
        self._beat_at = now + INTERVAL_S
        # Only once the balancer knows this boot: then it has applied a higher number than 1 or this one.
        if self._is_confirmed and self._seq % FORGED == 0:
            forged = {"seq": 1, "start": True, "max_concurrent": FORGED_UNITS}
            self._client.xadd(self._keys.heartbeats, self._beat.model_copy(update=forged).fields())

    def _read(self, block_ms: int | None) -> None:
        reply = self._client.xread(
            {self._keys.inbox(self._agent): self._last}, count=100, block=block_ms
        )
        for rows in reply.values():
            for entry, fields in rows:
                self._last = entry
                self._take(fields)

    def _take(self, fields: Fields) -> None:
        if fields.get("kind", InboxKind.TASK) != InboxKind.TASK:
            return
        is_ours = fields.get("boot") == self._beat.boot
        self._is_confirmed |= is_ours
        if (self._started_at and not is_ours) or fields["lease"] in self._entries:
            return
        self._entries[fields["lease"]] = fields
        self._log.add("start", fields["task"], int(fields["attempt"]), fields["lease"])
        payload = json.loads(fields["body"])["payload"]
        if payload.get("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        heapq.heappush(self._ends, (time.monotonic() + payload["run_s"], fields["lease"]))

    def _finish(self) -> None:
        while self._ends and self._ends[0][0] <= time.monotonic():
            _, lease = heapq.heappop(self._ends)
            fields = self._entries[lease]
            payload, attempt = json.loads(fields["body"])["payload"], int(fields["attempt"])
            status = Status.COMPLETED
            if attempt <= payload.get("rejects", 0):
                status = Status.REJECTED
            elif attempt <= payload.get("fails", 0):
                status = Status.FAILED
            self._log.add(status.value, fields["task"], attempt, lease)
            result = json.dumps({"lease": lease}) if status is Status.COMPLETED else ""
            self._done.append(
                Completion(
                    agent=self._agent,
                    task=fields["task"],
                    attempt=attempt,
                    lease=lease,
                    status=status,
                    result=result,
                )
            )

    def _report(self) -> None:
        while self._done:
            done = self._done[0]
            if self._reports % WRONGLY == 0:
                self._client.xadd(self._keys.completions, self._wrong(done).fields())
            self._client.xadd(self._keys.completions, done.fields())
            self._done.pop(0)
            self._entries.pop(done.lease, None)
            self._reports += 1
            if self._reports % TWICE == 0:
                self._client.xadd(self._keys.completions, done.fields())

    def _wrong(self, done: Completion) -> Completion:
        """What must change nothing: not its lease, not its attempt, not its agent."""
        lies = (
            {"lease": new_nonce()},
            {"attempt": done.attempt + 1},
            {"agent": f"{self._agent}-impostor"},
        )
        return done.model_copy(update=lies[self._reports // WRONGLY % len(lies)])


def main() -> None:
    """Work until the end of the process, whatever ends it."""
    said = arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    Careless(said).run()


if __name__ == "__main__":
    main()
