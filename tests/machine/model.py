"""The pool in plain Python: what every transition of the ledger must do, in dictionaries.

Each method predicts the answer of the transition of its name and carries out its effect. Where the
model and the ledger agree on something wrong, the invariants and the drain at the end of a history
are the judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from balancer.core.lanes import Lane, lane_definition
from balancer.core.model import Priority, Task
from balancer.core.moments import to_us
from balancer.core.planner import Proposal
from balancer.core.settings import PoolSettings
from balancer.protocol import Completion, Heartbeat

FINAL = frozenset({"completed", "dead", "cancelled"})
WAITING = frozenset({"scheduled", "blocked", "pending", "failed"})
#: The state in which a new task begins, by its outcome.
STARTS = {
    "accepted": "pending", "scheduled": "scheduled", "blocked": "blocked", "dead_parent": "dead",
    "skipped": "cancelled", "expired": "dead",
}  # fmt: skip
#: What Redis must hold of each task or agent, by id.
Stored = dict[str, tuple[Any, ...]]
#: How many earlier boots of an agent the pool remembers.
BOOTS = 4


@dataclass
class ModelTask:
    task: Task = field(repr=False)
    as_submitted: Task = field(repr=False)
    state: str
    open: set[str] = field(default_factory=set)
    grants: int = 0
    failures: int = 0
    losses: int = 0
    completions: int = 0
    agent: str = ""
    nonce: str = ""
    close: str = ""
    #: When this state times out: the run timeout of a lease, the retry time of a failed try.
    due_us: int = 0
    result: str = ""
    #: A task was blocked by it once.
    has_waiting: bool = False
    #: When it last became ready, give or take a few microseconds.
    ready_us: int = 0

    @property
    def moment_us(self) -> int | None:
        """When it is dead if no agent has it by then."""
        moments = [to_us(self.task.expires_at)] if self.task.expires_at else []
        if self.task.max_wait_s and self.state == "pending" and not self.grants:
            moments.append(self.ready_us + round(self.task.max_wait_s * 1_000_000))
        return min(moments, default=None) if self.state in WAITING else None

    granted_us: int = 0
    ended_us: int = 0
    cancelling: bool = False
    #: Its next loss would be its last.
    alone: bool = False
    avoid: tuple[str, ...] = ()
    avoid_until_ms: int = 0
    #: It failed on these since it was submitted, or retried.
    tried: tuple[str, ...] = ()
    #: Agent, granted, ended, how.
    history: list[str] = field(default_factory=list)

    @property
    def lane(self) -> str:
        t = self.task
        requires = tuple(sorted(t.requires.items()))
        lane = Lane(
            t.role,
            t.category,
            t.cost,
            self.alone,
            self.avoid,
            self.avoid_until_ms,
            requires,
            self.tried,
        )
        return lane_definition(lane)[0]


@dataclass
class ModelLease:
    task: str
    cost: int
    attempt: int
    is_cancelled: bool = False
    is_orphaned: bool = False


@dataclass
class ModelAgent:
    declared: tuple[object, ...]
    role: str
    max: int
    mode: str
    state: str
    boot: str
    boots: list[str]
    seq: int
    entry: tuple[int, int]
    beat_ms: int
    ttl_ms: int
    held: dict[str, ModelLease] = field(default_factory=dict)
    #: What an operator said, and when a retiring agent has to give back what it holds.
    admin: str = ""
    retires_ms: int = 0

    skills: dict[str, int] = field(default_factory=dict)

    def has(self, requires: dict[str, int]) -> bool:
        return all(self.skills.get(skill, 0) >= level for skill, level in requires.items())

    @property
    def used(self) -> int:
        return sum(lease.cost for lease in self.held.values())

    def must_retire(self, now_ms: int) -> bool:
        is_due = self.state == "stopped" or self.retires_ms <= now_ms
        return self.admin == "retiring" and is_due

    @property
    def free(self) -> int:
        accepts = self.state == "live" and self.mode == "running" and not self.admin
        return max(0, self.max - self.used) if accepts else 0


class Draws:
    """Which shares of their back-off the failed tries of one call wait, of a million."""

    def __init__(self, first: int) -> None:
        self._next = first

    def take(self) -> int:
        drawn = self._next
        self._next = (drawn + 618_034) % 1_000_001
        return drawn


def entry_id(text: str) -> tuple[int, int]:
    ms, _, seq = text.partition("-")
    return int(ms), int(seq)


class Model:
    """One pool. Times come with each call."""

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self.tasks: dict[str, ModelTask] = {}
        self.agents: dict[str, ModelAgent] = {}
        #: Finished tasks whose children are not told yet.
        self.untold: set[str] = set()
        self.mark_ms = self.last_tick_ms = self.grace_until_ms = 0
        self.clock_us = 0
        self.paused: set[str] = set()
        self.is_memory_full = False
        #: Tasks by dedup key.
        self.first: dict[str, str] = {}
        #: Roles that an agent ever had.
        self.roles_of_agents: set[str] = set()
        #: Work or units were added: a token must lie in `wake`.
        self.added = False

    def story(self) -> str:
        """All that calls without an effect leave as it is."""
        priorities = [task.task.priority for task in self.tasks.values()]
        return repr((self.tasks, priorities, self.agents, self.untold, self.paused, self.first))

    def tasks_as_stored(self) -> Stored:
        return {
            id_: (
                t.state,
                (t.grants, t.failures, t.losses),
                (t.agent, t.nonce, t.close),
                t.open,
                t.result,
                (t.lane, t.history[-10:], t.task.priority.value, t.cancelling),
            )
            for id_, t in self.tasks.items()
        }

    def agents_as_stored(self) -> Stored:
        out: Stored = {}
        for id_, a in self.agents.items():
            held = {
                x: (t.task, str(t.cost), str(t.attempt), t.is_orphaned, t.is_cancelled)
                for x, t in a.held.items()
            }
            numbers = (a.used, len(a.held), a.max, a.seq, a.beat_ms, a.ttl_ms)
            said = (a.admin, a.retires_ms if a.admin == "retiring" else 0)
            out[id_] = ((a.role, a.state, a.mode, a.boot), a.boots, numbers, held, said)
        return out

    def free(self) -> dict[str, int]:
        return {id_: agent.free for id_, agent in self.agents.items()}

    def note_freed(self, before: dict[str, int]) -> None:
        """To be called after each transition: has an agent more units free than before?"""
        self.added |= any(units > before.get(id_, 0) for id_, units in self.free().items())

    def submit(self, task: Task, now_us: int) -> tuple[str, str]:
        """The id of the task that it is, and what became of it."""
        known = self.tasks.get(task.id)
        if known:
            same = known.as_submitted.model_copy(update={"dedup_key": task.dedup_key}) == task
            return task.id, "duplicate" if same else "conflict"
        if task.dedup_key in self.first:
            return self.first[task.dedup_key], "duplicate"
        outcome = self._refusal_of_new(task) or self._outcome_of_new(task, now_us)
        if outcome in STARTS:
            self._store(task, outcome, now_us)
        return task.id, outcome

    def _refusal_of_new(self, task: Task) -> str:
        if task.cost > self.settings.max_cost:
            return "cost_over_max"
        if self.is_memory_full:
            return "redis_full"
        waiting = [
            t for t in self.tasks.values() if t.task.role == task.role and t.state in WAITING
        ]
        return "queue_full" if len(waiting) >= self.settings.max_pending else ""

    def _outcome_of_new(self, task: Task, now_us: int) -> str:
        if not set(task.depends_on) <= self.tasks.keys():
            return "unknown_parent"
        states = {self.tasks[parent].state for parent in task.depends_on}
        if states & {"dead", "cancelled"} and task.on_parent_failure != "run":
            return "dead_parent" if task.on_parent_failure == "fail" else "skipped"
        if task.expires_at and to_us(task.expires_at) <= now_us:
            return "expired"
        if states - FINAL:
            return "blocked"
        is_early = task.not_before and to_us(task.not_before) > now_us
        return "scheduled" if is_early else "accepted"

    def _store(self, task: Task, outcome: str, now_us: int) -> None:
        new = self.tasks[task.id] = ModelTask(task, task, "pending", ready_us=self._tick_us(now_us))
        if task.dedup_key:
            self.first[task.dedup_key] = task.id
        state = STARTS[outcome]
        if state in FINAL:
            new.open = self._left_of(task, task.depends_on)[0]
            self._finish(task.id, state, now_us)
            return
        new.state = state
        self.added |= state == "pending"
        if state == "scheduled" and task.not_before:
            new.due_us = to_us(task.not_before)
        if state == "blocked":
            new.open, _ = self._left_of(task, task.depends_on)
            for parent in new.open:
                self.tasks[parent].has_waiting = True

    def _left_of(self, task: Task, parents: Iterable[str]) -> tuple[set[str], bool]:
        """The parents that have not completed, and whether one of them never will."""
        states = {parent: self._state_of(parent) for parent in parents}
        failed = {parent for parent, state in states.items() if state in {"dead", "cancelled", ""}}
        left = {parent for parent, state in states.items() if state != "completed"}
        return (left - failed, False) if task.on_parent_failure == "run" else (left, bool(failed))

    def _state_of(self, task_id: str) -> str:
        return self.tasks[task_id].state if task_id in self.tasks else ""

    def _tick_us(self, now_us: int) -> int:
        self.clock_us = max(now_us, self.clock_us + 1)
        return self.clock_us

    def _make_ready(self, task: ModelTask, now_us: int) -> None:
        """All parents are done."""
        not_before_us = to_us(task.task.not_before) if task.task.not_before else 0
        if not_before_us > now_us:
            task.state, task.due_us = "scheduled", not_before_us
        else:
            task.state, task.ready_us, self.added = "pending", self._tick_us(now_us), True

    def expire(self, now_us: int) -> int:
        over = [id_ for id_, t in self.tasks.items() if (t.moment_us or now_us + 1) <= now_us]
        for id_ in over:
            self._finish(id_, "dead", now_us)
        return len(over)

    def pause(self, role: str) -> str:
        return self._switch(role, role in self.paused, self.paused.add)

    def resume(self, role: str) -> str:
        self.added |= role in self.paused
        return self._switch(role, role not in self.paused, self.paused.discard)

    def _switch(self, role: str, is_so: bool, change: Callable[[str], None]) -> str:
        if not self._knows(role):
            return "unknown"
        change(role)
        return "already" if is_so else "ok"

    def _knows(self, role: str) -> bool:
        tasks = {t.task.role for t in self.tasks.values()}
        return role in tasks | self.roles_of_agents

    def purge(self, role: str, now_us: int) -> tuple[str, int]:
        if not self._knows(role):
            return "unknown", 0
        waiting = [
            id_ for id_, t in self.tasks.items() if t.task.role == role and t.state in WAITING
        ]
        for id_ in waiting:
            self._finish(id_, "cancelled", now_us)
        return "ok", len(waiting)

    def commit(self, wish: Proposal, now_us: int) -> tuple[str, int]:
        task, agent = self.tasks.get(wish.task), self.agents.get(wish.agent)
        if task is None:
            return "not_pending", 0
        refusal = self._refusal(task, agent, wish)
        if refusal or agent is None:
            return refusal, task.grants
        task.grants, task.granted_us = task.grants + 1, now_us
        cost = agent.max if task.alone else task.task.cost
        task.state, task.agent, task.nonce, task.close = "assigned", wish.agent, wish.nonce, ""
        task.due_us = now_us + round(task.task.run_timeout_s * 1_000_000)
        agent.held[wish.nonce] = ModelLease(wish.task, cost, task.grants)
        return "assigned", task.grants

    def beat(self, entry: str, beat: Heartbeat, now_us: int) -> tuple[str, int]:
        """The outcome, and when the agent was heard by it (0: it was not)."""
        at, old, now_ms = entry_id(entry), self.agents.get(beat.agent), now_us // 1000
        if old and (refusal := self._unheard(old, at, beat, now_ms)):
            return refusal, 0
        most = beat.max_concurrent
        if most is None:
            most = self.settings.max_concurrent_of(beat.role)
        specializations = beat.specializations
        if specializations is None:
            specializations = self.settings.specializations_of(beat.role, beat.type or "")
        state, skills = "stopped" if beat.mode == "stopped" else "live", beat.skills or {}
        heard_ms = now_ms if at[0] > now_ms + 2000 else at[0]
        new = ModelAgent(
            (beat.role, beat.type, most, set(specializations), beat.interval_ms, beat.ttl_ms, skills),
            beat.role, most, beat.mode.value, state, beat.boot, [], beat.seq, at, heard_ms, beat.ttl_ms, skills=skills,
        )  # fmt: skip
        self.agents[beat.agent] = new
        self.roles_of_agents.add(beat.role)
        if old is None:
            return "joined", heard_ms
        new.held, new.boots = old.held, old.boots
        for lease in new.held.values():
            if self.tasks[lease.task].alone and most > old.max:
                lease.cost = most
        has_left = old.admin == "retired" or (old.boot != new.boot and old.must_retire(now_ms))
        if not has_left:
            new.admin, new.retires_ms = old.admin, old.retires_ms
        if old.boot != new.boot:
            new.boots = [old.boot, *old.boots][:BOOTS]
            self._rebind(new, beat, now_us)
            return "new_boot", heard_ms
        if old.state != "live" and state == "live":
            return "joined", heard_ms
        same = (old.declared, old.mode) == (new.declared, new.mode)
        return "ok" if same else "changed", heard_ms

    def _rebind(self, agent: ModelAgent, beat: Heartbeat, now_us: int) -> None:
        for nonce, lease in agent.held.items():
            task = self.tasks[lease.task]
            resumes, losses = beat.start and nonce in beat.held, task.losses + 1
            is_last = losses >= self.settings.max_losses or self._is_last_life(losses)
            lease.is_orphaned = is_last or not resumes
            if not lease.is_orphaned:
                task.losses = losses
                self._remember(task, "resumed", now_us)
            elif resumes and agent.mode == "running":
                agent.mode = "silent"

    def heard(self, newest_ms: int, caught_up: bool, now_ms: int) -> None:
        """Silence is judged by the newest heartbeat that was applied, or by now at the stream's end."""
        newest_ms = now_ms if caught_up else newest_ms
        if newest_ms > self.mark_ms or newest_ms == now_ms:
            self.mark_ms = newest_ms

    def settle(self, done: Completion, result: str, now_us: int, draws: Draws) -> str:
        task, how = self.tasks.get(done.task), done.status.value
        if task is None:
            return "unknown"
        names = (task.nonce, task.agent, task.grants)
        if names != (done.lease, done.agent, done.attempt) or task.state != "assigned":
            is_its_own = names == (done.lease, done.agent, done.attempt)
            return "duplicate" if is_its_own and task.close != "revoked" else "stale"
        self._close(task, how)
        task.result = result
        if how != "completed":
            self._remember(task, how, now_us)
        if task.cancelling:
            return self._finish(done.task, "cancelled", now_us)
        if how == "failed":
            return self._fail(done.task, now_us, draws)
        if how != "completed":
            return self._give_back(task, how, now_us // 1000)
        task.completions += 1
        self._finish(done.task, "completed", now_us)
        return "ok"

    def _give_back(self, task: ModelTask, how: str, now_ms: int) -> str:
        step_ms = 5_000 if how == "rejected" else 1_000
        names = [task.agent, *(name for name in task.avoid if name != task.agent)]
        task.avoid, task.avoid_until_ms = tuple(names[:3]), (now_ms // step_ms + 2) * step_ms
        task.state, self.added = "pending", True
        return "requeued"

    def timeout(self, grace_ms: int, now_us: int, draws: Draws) -> tuple[int, int, int]:
        outcomes: list[str] = []
        if now_us // 1000 < self.grace_until_ms:
            return 0, 0, 0
        for id_, task in sorted(self.tasks.items(), key=lambda item: (item[1].due_us, item[0])):
            if task.state == "assigned" and task.due_us + 1000 * grace_ms <= now_us:
                self._close(task, "revoked")
                self._remember(task, "timeout", now_us)
                if task.cancelling:
                    outcomes.append(self._finish(id_, "cancelled", now_us))
                else:
                    outcomes.append(self._fail(id_, now_us, draws))
        return outcomes.count("retry"), outcomes.count("dead"), outcomes.count("cancelled")

    def due(self, now_us: int) -> int:
        timed = [task for task in self.tasks.values() if task.state in {"failed", "scheduled"}]
        ready = [task for task in timed if task.due_us <= now_us]
        for task in ready:
            task.state, task.ready_us, self.added = "pending", task.due_us, True
        return len(ready)

    def release(self, now_us: int) -> tuple[int, int, int]:
        ready = dead = skipped = 0
        while self.untold:
            parent = min(self.untold)
            self.untold.discard(parent)
            good = self.tasks[parent].state == "completed"
            for id_, task in self.tasks.items():
                if parent not in task.open or task.state != "blocked":
                    continue
                policy = "run" if good else task.task.on_parent_failure
                if policy != "run":
                    self._finish(id_, "cancelled" if policy == "skip" else "dead", now_us)
                    skipped += policy == "skip"
                    dead += policy == "fail"
                    continue
                if task.open == {parent}:
                    self._make_ready(task, now_us)
                    ready += 1
                task.open.discard(parent)
        return ready, dead, skipped

    def agent_set(self, agent_id: str, verb: str, wait_ms: int, now_ms: int) -> tuple[str, int]:
        agent = self.agents.get(agent_id)
        if agent is None:
            return "unknown", 0
        answer, admin, retires_ms = "already", agent.admin, agent.retires_ms
        match verb, admin:
            case "pause", "":
                answer, admin = "paused", "paused"
            case "pause", "retiring" | "retired":
                answer = "refused"
            case "resume", "paused" | "retiring" | "retired":
                answer, admin = "resumed", ""
            case "retire", "" | "paused" | "retiring":
                if admin != "retiring" or retires_ms > now_ms + wait_ms:
                    answer = admin = "retiring" if agent.state == "live" else "retired"
                    retires_ms = now_ms + wait_ms
        agent.admin, agent.retires_ms = admin, retires_ms
        return answer, len(agent.held)

    def retire(self, agent_id: str, now_us: int) -> tuple[str, int]:
        agent = self.agents.get(agent_id)
        if agent is None or not agent.must_retire(now_us // 1000):
            return "not_due" if agent else "unknown", 0
        requeued = len(agent.held)
        for lease in list(agent.held.values()):
            task = self.tasks[lease.task]
            self._close(task, "revoked")
            self._remember(task, "released", now_us)
            if task.cancelling:
                self._finish(lease.task, "cancelled", now_us)
            else:
                task.state, self.added = "pending", True
        if agent.state == "live":
            agent.state = "stopped"
        agent.admin = "retired"
        return "retired", requeued

    def retry(self, task_id: str, now_us: int) -> str:
        task = self.tasks.get(task_id)
        if task is None:
            return "unknown"
        if task.state != "dead":
            return "finished" if task.state in FINAL else "already"
        left, is_hopeless = self._left_of(task.task, task.open)
        if is_hopeless:
            return "dead_parent"
        self.untold.discard(task_id)
        task.open = left
        task.losses = task.failures = 0
        task.alone, task.avoid, task.avoid_until_ms, task.tried = False, (), 0, ()
        expires_at = task.task.expires_at
        if expires_at and to_us(expires_at) <= now_us:
            task.task = task.task.model_copy(update={"expires_at": None})
        if left:
            task.state = "blocked"
            for parent in left:
                self.tasks[parent].has_waiting = True
        else:
            self._make_ready(task, now_us)
        return "retried"

    def reprioritise(self, task_id: str, priority: Priority) -> str:
        task = self.tasks.get(task_id)
        if task is None:
            return "unknown"
        if task.state == "assigned" or task.state in FINAL:
            return "assigned" if task.state == "assigned" else "finished"
        if task.task.priority is priority:
            return "already"
        task.task = task.task.model_copy(update={"priority": priority})
        return "moved"

    def gc(self, now_us: int) -> int:
        finished = [(t.ended_us, id_) for id_, t in self.tasks.items() if t.state in FINAL]
        over = len(finished) - self.settings.retention_count
        forgotten = 0
        for at, (ended_us, id_) in enumerate(sorted(finished)):
            if at >= over and ended_us > now_us - self.settings.retention_s * 1e6:
                break
            if id_ not in self.untold:
                task = self.tasks.pop(id_).task
                self.roles_of_agents.add(task.role)
                self.first = {key: first for key, first in self.first.items() if first != id_}
                forgotten += 1
        return forgotten

    def reclaim(self, agent_id: str, now_us: int) -> tuple[str, int, int]:
        agent, now_ms = self.agents.get(agent_id), now_us // 1000
        if agent is None:
            return "unknown", 0, 0
        if agent.must_retire(now_ms):
            return "must_retire", 0, 0
        verdict, nothing = "gone", "alive"
        if agent.state == "live":
            verdict = "rebooted"
            if min(self.mark_ms, now_ms) - min(agent.beat_ms, now_ms) > agent.ttl_ms:
                if now_ms < self.grace_until_ms:
                    nothing, agent.mode = "in_grace", "silent"
                else:
                    verdict = agent.state = "lost"
        requeued = dead = 0
        for lease in list(agent.held.values()):
            if verdict == "rebooted" and not lease.is_orphaned:
                continue
            task = self.tasks[lease.task]
            self._close(task, "revoked")
            self._remember(task, "lost", now_us)
            task.losses += 1
            if task.cancelling or task.losses >= self.settings.max_losses:
                self._finish(lease.task, "cancelled" if task.cancelling else "dead", now_us)
                dead += 1
            else:
                if self._is_last_life(task.losses) and not task.alone:
                    task.alone, task.avoid, task.avoid_until_ms = True, (), 0
                task.state, self.added = "pending", True
                requeued += 1
        if verdict == "rebooted" and not requeued + dead:
            verdict = nothing
        return verdict, requeued, dead

    def cancel(self, task_id: str, now_us: int) -> str:
        task = self.tasks.get(task_id)
        if task is None:
            return "unknown"
        if task.state == "cancelled":
            return "already"
        if task.state in {"completed", "dead"}:
            return "finished"
        if task.state == "assigned":
            task.cancelling = self.agents[task.agent].held[task.nonce].is_cancelled = True
            return "cancel_sent"
        return self._finish(task_id, "cancelled", now_us)

    def tick(self, grace_ms: int, gap_ms: int, now_us: int, used: int) -> tuple[bool, ...]:
        """`used`: thousandths of Redis' memory."""
        high = 1000 * self.settings.memory_high_share
        self.is_memory_full = used >= high or (self.is_memory_full and used > high - 50)
        now_ms = now_us // 1000
        for agent in self.agents.values():
            if agent.state == "live" and agent.beat_ms >= now_ms + 2000:
                agent.beat_ms = now_ms
        gap = now_ms - self.last_tick_ms
        if self.last_tick_ms and (gap > gap_ms or gap < -2000):
            self.grace_until_ms = now_ms + max(grace_ms, min(abs(gap), 300_000))
        elif self.grace_until_ms - now_ms > 300_000 + grace_ms:
            self.grace_until_ms = now_ms + grace_ms
        unheard_ms = now_ms - self.mark_ms
        if gap_ms < unheard_ms < now_ms:
            self.grace_until_ms = max(self.grace_until_ms, now_ms + grace_ms)
        self.last_tick_ms = now_ms

        def is_due(state: str) -> bool:
            return any(t.state == state and t.due_us <= now_us for t in self.tasks.values())

        may_expire = any((t.moment_us or now_us + 1) <= now_us for t in self.tasks.values())
        is_ready = is_due("failed") or is_due("scheduled")
        in_grace = now_ms < self.grace_until_ms
        due = (is_ready, is_due("assigned"), bool(self.untold), may_expire)
        return in_grace, *due, self.is_memory_full

    def _unheard(self, old: ModelAgent, at: tuple[int, int], beat: Heartbeat, now_ms: int) -> str:
        """Why a heartbeat changes nothing."""
        is_repeat = old.boot == beat.boot and beat.seq <= old.seq
        if at <= old.entry or is_repeat or beat.boot in old.boots:
            return "stale"
        if old.boot == beat.boot:
            return "retired" if old.admin == "retired" else ""
        if not beat.start and old.state == "live":
            return "other_boot"
        return "retired" if old.held and old.must_retire(now_ms) else ""

    def _refusal(  # noqa: PLR0911
        self, task: ModelTask, agent: ModelAgent | None, wish: Proposal
    ) -> str:
        if task.nonce == wish.nonce:
            return "already"
        if task.state != "pending":
            return "not_pending"
        if wish.lane not in ("", task.lane):
            return "moved"
        if agent is None:
            return "no_agent"
        if agent.role != task.task.role:
            return "wrong_role"
        if (agent.state, agent.mode, agent.admin) != ("live", "running", ""):
            return "not_accepting"
        if not agent.has(task.task.requires):
            return "lacks_skill"
        cost = agent.max if task.alone else task.task.cost
        is_full = agent.used + cost > agent.max or task.task.cost > agent.max
        return "full" if is_full or (task.alone and agent.held) else ""

    def able(self, task: ModelTask) -> dict[str, ModelAgent]:
        """Who accepts work and may have the task, were nothing else there."""
        return {
            id_: agent
            for id_, agent in self.agents.items()
            if (agent.role, agent.state, agent.mode, agent.admin)
            == (task.task.role, "live", "running", "")
            and agent.max >= task.task.cost
            and agent.has(task.task.requires)
        }

    def _close(self, task: ModelTask, how: str) -> None:
        del self.agents[task.agent].held[task.nonce]
        task.close = how

    def _is_last_life(self, losses: int) -> bool:
        return losses > 0 and losses >= self.settings.max_losses - 1

    @staticmethod
    def _remember(task: ModelTask, how: str, now_us: int) -> None:
        task.history.append(f"{task.agent} {task.granted_us} {now_us} {how}")

    def _fail(self, task_id: str, now_us: int, draws: Draws) -> str:
        task = self.tasks[task_id]
        task.failures += 1
        if task.failures >= task.task.max_failures:
            return self._finish(task_id, "dead", now_us)
        if task.agent not in task.tried:
            task.tried = tuple(sorted((*task.tried, task.agent)))
            task.avoid, task.avoid_until_ms = (), 0
        settings = self.settings
        most_s = min(settings.retry_max_delay_s, settings.retry_delay_s * 2 ** (task.failures - 1))
        task.state, task.due_us = "failed", now_us + max(1_000, int(most_s * draws.take()))
        return "retry"

    def _finish(self, task_id: str, state: str, now_us: int) -> str:
        task = self.tasks[task_id]
        assert task.state not in FINAL, f"{task_id} ends twice"
        task.state, task.ended_us = state, now_us
        task.cancelling = False
        if state != "dead":
            task.open = set()
        if task.has_waiting:
            self.untold.add(task_id)
        return state
