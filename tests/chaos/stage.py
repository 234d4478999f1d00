"""One run: starts everybody, plays the schedule, waits until all has ended, and gathers the evidence."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from balancer.core.settings import HeadStart, PoolSettings, RoleSettings
from balancer.demo.child import whole_lines
from balancer.demo.facts import read_audit, read_statuses
from balancer.demo.fleet import Child, ChildFailed, Fleet
from balancer.embedded import EmbeddedRedis
from balancer.ledger.audit import Audit
from balancer.ledger.pool import Pool
from balancer.ledger.read_tasks import TaskStatus
from balancer.protocol.connect import connect
from balancer.protocol.keys import GROUP
from balancer.retry import answered
from tests.chaos.faults import Faults
from tests.chaos.inputs import Inputs
from tests.chaos.producer_process import Answers
from tests.chaos.roster import AGENTS, BALANCERS, POOL, PRODUCER, AgentSpec
from tests.chaos.schedule import Fault
from tests.support.proxy import Proxy

#: Between two looks; for the agents to join; for one answer. Seconds.
STEP_S, JOIN_S, DEADLINE_S = 0.05, 60.0, 30.0
#: How long the processes may take to end when the run is cut short, seconds.
HURRY_S = 0.3
#: Nothing ended for this long: the run gives up. Seconds.
STALL_S = 45.0
SETTINGS = PoolSettings(
    retry_delay_s=0.2,
    head_start_s=HeadStart(critical=20, high=5, medium=1, low=0),
    specializations={},
    estimate_min={},
    # Full now and then: the producer has to wait for room.
    roles={"tester": RoleSettings(max_pending=250)},
)
ALL_DONE = "done"
#: What no process may ever log: a fault in our code, or a counter that had to be mended.
ALARMS = ("loop_broke", "counter_mended", "group_recreated", "Traceback", "SafeStop")


class Answered(NamedTuple):
    """A step that the producer did: when it began, seconds since 1970, and what was answered."""

    step: dict[str, Any]
    began_s: float
    answers: Answers


def read_answers(log: Path, inputs: Inputs) -> list[Answered]:
    """The producer's own log."""
    began: dict[int, float] = {}
    found = []
    for line in map(json.loads, whole_lines(log)):
        if "began_s" in line:
            began[line["step"]] = line["began_s"]
        else:
            answers = [(task, said, by) for task, said, by in line["answers"]]
            found.append(Answered(inputs.steps[line["step"]], began[line["step"]], answers))
    return found


@dataclass
class Outcome:
    """What a run left behind, as it was found when all was over."""

    gave_up: str = ""
    #: By the producer's log: each step that it did.
    answers: list[Answered] = field(default_factory=list)
    statuses: dict[str, TaskStatus | None] = field(default_factory=dict)
    audit: Audit | None = None
    keys: list[str] = field(default_factory=list)
    #: Completions that somebody has read and nobody acknowledged.
    unacknowledged: int = 0
    alarms: list[str] = field(default_factory=list)
    fired: list[tuple[Fault, int]] = field(default_factory=list)
    restarts: int = 0
    cuts: int = 0
    elapsed_s: float = 0.0


class Stage:
    """The pool, its processes, and their files in `directory`."""

    def __init__(
        self,
        inputs: Inputs,
        schedule: tuple[Fault, ...],
        server: EmbeddedRedis,
        proxy: Proxy,
        directory: Path,
        *,
        patience_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self._inputs, self._directory, self._patience_s = inputs, directory, patience_s
        self._server, self._proxy, self._tell = server, proxy, tell
        self._client = connect(server.url)
        self._pool = Pool.create(self._client, POOL, SETTINGS)
        self._fleet = Fleet()
        self._children: dict[str, Child] = {}
        self._faults = Faults(
            schedule,
            fleet=self._fleet,
            children=self._children,
            server=server,
            proxy=proxy,
            client=self._client,
        )
        self._ended, self._moved_at, self._told_at = 0, time.monotonic(), 0.0

    def run(self) -> Outcome:
        """Play it all. Whatever happens, no process of it is left."""
        began_at = time.monotonic()
        try:
            gave_up = self._play(began_at)
            self._faults.stop()
            self._fleet.stop()
            # Nothing moves any more: the audit is exact.
            outcome = self._gather(gave_up)
        finally:
            self._faults.stop()
            self._fleet.stop(HURRY_S)
            self._client.close()
        outcome.alarms = self._alarms()
        outcome.elapsed_s = time.monotonic() - began_at
        return outcome

    def _play(self, began_at: float) -> str:
        """Why it ended before all was done; empty when it did not."""
        try:
            self._start_all()
            self._start(
                PRODUCER, "tests.chaos.producer_process", ends=True, **self._producer_said()
            )
            while not (ended := self._step(began_at)):
                time.sleep(STEP_S)
        except ChildFailed as error:
            return str(error)
        return ended.removeprefix(ALL_DONE)

    def _step(self, began_at: float) -> str:
        self._fleet.tend()
        now = time.monotonic()
        with suppress(RedisError):
            self._look(now)
            self._faults.step(self._ended)
            if self._is_over():
                return ALL_DONE
        if now - began_at > self._patience_s:
            return f"not over after {self._patience_s:.0f} s"
        if now - self._moved_at > STALL_S:
            return f"nothing ended for {STALL_S:.0f} s"
        return ""

    def _look(self, now: float) -> None:
        counts = self._client.hmget(self._pool.keys.pool, ["completed", "dead", "cancelled"])
        ended = sum(int(count or 0) for count in counts)
        if ended != self._ended:
            self._ended, self._moved_at = ended, now
        if now - self._told_at > 5.0:
            self._told_at = now
            self._tell(f"{ended}/{len(self._inputs.tasks)} ended, {self._faults.summary()}")

    def _is_over(self) -> bool:
        if not (self._children[PRODUCER].done and self._faults.are_over()):
            return False
        k = self._pool.keys
        pipe = self._client.pipeline(transaction=True)
        for key in (k.scheduled, k.blocked, k.failed, k.leases, k.release):
            pipe.zcard(key)
        pipe.xlen(k.completions)
        waiting = [pipe.zcard(k.pending(role)) for role in {agent.role for agent in AGENTS}]
        return bool(waiting) and not any(pipe.execute())

    def _start_all(self) -> None:
        for name in BALANCERS:
            self._start(name, "balancer.demo.balancer_process", url=self._server.url, pool=POOL)
        for agent in AGENTS:
            kind = "careless" if agent.is_careless else "agent"
            self._start(agent.id, f"tests.chaos.{kind}_process", **self._agent_said(agent))
        until = time.monotonic() + JOIN_S
        while self._client.zcard(self._pool.keys.alive) < len(AGENTS):
            self._fleet.tend()
            if time.monotonic() > until:
                raise ChildFailed(f"the agents did not join within {JOIN_S:g} s")
            time.sleep(STEP_S)

    def _start(self, name: str, module: str, *, ends: bool = False, **said: Any) -> None:
        log = self._directory / f"{name}.log"
        self._children[name] = self._fleet.add(Child(name, module, said, log, ends=ends))

    def _agent_said(self, agent: AgentSpec) -> dict[str, Any]:
        return {
            "id": agent.id,
            "role": agent.role,
            "units": agent.units,
            "url": self._server.url,
            "directory": str(self._directory),
        }

    def _producer_said(self) -> dict[str, Any]:
        plan = self._directory / "plan.jsonl"
        with plan.open("w", encoding="utf-8") as file:
            for step in self._inputs.steps:
                file.write(json.dumps(step) + "\n")
        return {"url": self._proxy.url, "plan": str(plan), "log": str(self._answers)}

    @property
    def _answers(self) -> Path:
        return self._directory / "answers.jsonl"

    def _gather(self, gave_up: str) -> Outcome:
        answers = read_answers(self._answers, self._inputs)

        def read() -> Outcome:
            verdict, _ = read_audit(self._pool)
            return Outcome(
                gave_up=gave_up,
                answers=answers,
                statuses=read_statuses(self._pool, self._inputs.tasks),
                audit=verdict,
                unacknowledged=self._client.xpending(self._pool.keys.completions, GROUP)["pending"],
                keys=list(self._client.scan_iter(count=1_000)),
                fired=list(self._faults.fired),
                restarts=self._fleet.restarts,
                cuts=self._proxy.cuts,
            )

        return answered(read, DEADLINE_S)

    def _alarms(self) -> list[str]:
        found = []
        for path in sorted(self._directory.glob("*.log")):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                if any(word in line for word in ALARMS):
                    found.append(f"{path.name}: {line[:200]}")
        return found
