"""One run of the demo on a Redis that is there: starts everybody, watches until all has ended, gathers the facts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError

from balancer.core.errors import BalancerError
from balancer.demo.facts import Facts, read_answers, read_audit, read_events, read_statuses
from balancer.demo.fleet import Child, Fleet
from balancer.demo.kills import Kills
from balancer.demo.live import View
from balancer.demo.plan import Plan
from balancer.demo.roster import AgentPlan
from balancer.demo.sample import Sample, Sampler
from balancer.demo.worklog import read_worklogs
from balancer.ledger.audit import read_totals
from balancer.ledger.pool import Pool
from balancer.protocol.connect import connect
from balancer.retry import answered

POOL = "demo"
#: Between two looks; for the agents to join, and one for each; for the producer to start; for an answer. Seconds.
STEP_S, JOIN_S, LEAD_S, DEADLINE_S = 0.1, 30.0, 1.0, 30.0
#: Nothing ended for this long, and for two of the longest tasks and arrivals: the demo gives up. Seconds.
STALL_S = 30.0
#: How long the processes may take to end when the demo is cut short, seconds.
HURRY_S = 0.3


class Stage:
    """The pool, its processes and their files.

    Args:
        restart_redis: starts Redis again where it was, with its data.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        replicas: int,
        url: str,
        directory: Path,
        view: Callable[[Fleet], View],
        restart_redis: Callable[[], None],
    ) -> None:
        self._plan, self._replicas, self._url, self._directory = plan, replicas, url, directory
        self._restart_redis = restart_redis
        self._client = connect(url, pool=POOL)
        self._pool = Pool.create(self._client, POOL, plan.settings)
        self._fleet = Fleet()
        self._agents: dict[str, Child] = {}
        self._sampler = Sampler(self._pool)
        self._view = view(self._fleet)
        self._moved_at, self._ended = time.monotonic(), (0, 0)

    def run(self, began_at: float) -> Facts:
        """Play the whole plan. Whatever happens, no process of it is left."""
        try:
            with self._view:
                gave_up, killed = self._play()
            facts = self._facts(gave_up, killed, began_at)
            self._fleet.stop()
            return facts
        finally:
            # After Ctrl-C, or when something went wrong, nothing is left to be tidy about.
            self._fleet.stop(HURRY_S)
            self._client.close()

    def _play(self) -> tuple[str, int]:
        for number in range(1, self._replicas + 1):
            self._start(f"balancer-{number}", "balancer_process")
        for agent in self._plan.agents:
            self._agents[agent.id] = self._start(agent.id, "agent_process", **self._said(agent))
        self._await_agents()
        start_at = time.monotonic() + LEAD_S
        producer = self._start_producer(start_at)
        kills = Kills(self._pool, self._fleet, self._agents, self._plan.kills_s)
        while True:
            with self._redis_may_die():
                sample = self._step()
                kills.step(time.monotonic() - start_at)
                if producer.done and not sample.open and self._is_over():
                    return "", kills.done
                if self._is_stalled(sample):
                    return f"nothing ended for {self._patience_s():.0f} s", kills.done
            time.sleep(STEP_S)

    def _step(self) -> Sample:
        self._fleet.tend()
        sample = self._sampler.take()
        self._view.show(sample, self._agents_up())
        return sample

    def _start(self, name: str, module: str, *, ends: bool = False, **said: Any) -> Child:
        return self._fleet.add(
            Child(
                name,
                f"balancer.demo.{module}",
                {"url": self._url, "pool": POOL, **said},
                self._directory / f"{name}.err",
                ends=ends,
            )
        )

    def _start_producer(self, start_at: float) -> Child:
        plan = self._directory / "plan.jsonl"
        with plan.open("w", encoding="utf-8") as file:
            for planned in self._plan.tasks:
                task = planned.task.model_dump(mode="json")
                file.write(json.dumps({"at_s": planned.at_s, "task": task}) + "\n")
        return self._start(
            "producer",
            "producer_process",
            ends=True,
            plan=str(plan),
            log=str(self._submitted),
            start_at=start_at,
        )

    def _said(self, agent: AgentPlan) -> dict[str, Any]:
        return {
            "id": agent.id,
            "role": agent.role,
            "max_concurrent": agent.max_concurrent,
            "specializations": agent.specializations,
            "log": str(self._worklog(agent.id)),
        }

    def _worklog(self, agent_id: str) -> Path:
        return self._directory / f"{agent_id}.work"

    @property
    def _submitted(self) -> Path:
        return self._directory / "submitted"

    def _await_agents(self) -> None:
        """The first task shall find the whole fleet."""
        patience_s = JOIN_S + len(self._agents)
        until, joined = time.monotonic() + patience_s, 0
        while joined < len(self._agents):
            if time.monotonic() > until:
                raise BalancerError(f"{joined} of the agents joined within {patience_s:g} s")
            with self._redis_may_die():
                self._step()
                joined = self._client.zcard(self._pool.keys.alive)
            time.sleep(STEP_S)

    def _agents_up(self) -> dict[str, tuple[int, int]]:
        up: dict[str, tuple[int, int]] = {}
        for agent in self._plan.agents:
            running, total = up.get(agent.role, (0, 0))
            up[agent.role] = (running + self._agents[agent.id].is_up, total + 1)
        return up

    @contextmanager
    def _redis_may_die(self) -> Iterator[None]:
        """Somebody may kill the server, too. Its append-only file has all that it ever answered for."""
        try:
            yield
        except (BusyLoadingError, TimeoutError):
            pass
        except ConnectionError:
            self._fleet.tell("Redis is gone")
            self._restart_redis()
            self._fleet.tell("Redis started again")

    def _is_over(self) -> bool:
        """Whether nothing is open, seen at one instant."""
        totals = read_totals(self._pool)
        pending = sum(role.pending for role in totals.roles.values())
        return not pending + sum(totals.sizes[name] for name in ("blocked", "failed", "leases"))

    def _is_stalled(self, sample: Sample) -> bool:
        now, ended = time.monotonic(), (sample.ended, sample.accepted)
        if ended != self._ended:
            self._moved_at, self._ended = now, ended
        return now - self._moved_at > self._patience_s()

    def _patience_s(self) -> float:
        return STALL_S + 2 * (self._plan.longest_s + self._plan.pause_s)

    def _facts(self, gave_up: str, killed: int, began_at: float) -> Facts:
        def gather() -> Facts:
            answers = read_answers(self._submitted)
            verdict, agents = read_audit(self._pool)
            settled, reclaimed_at = read_events(self._pool)
            return Facts(
                planned=len(self._plan.tasks),
                answers=answers,
                statuses=read_statuses(self._pool, answers),
                worklogs=read_worklogs((id_, self._worklog(id_)) for id_ in self._agents),
                settled=settled,
                reclaimed_at=reclaimed_at,
                agents=agents,
                audit=verdict,
                killed=killed,
                restarts=self._fleet.restarts,
                elapsed_s=time.monotonic() - began_at,
                gave_up=gave_up,
            )

        return answered(gather, DEADLINE_S)
