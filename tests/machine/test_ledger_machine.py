"""The ledger against a model: random histories on a real Redis, judged after every step and drained at the end.

The clock is virtual, so time passes only when the machine says so. A longer run, with a new seed each time:

    HYPOTHESIS_PROFILE=machine-long python -m pytest tests/machine
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from balancer.core.model import Mode, Priority, Task
from balancer.core.moments import EPOCH
from balancer.core.planner import Proposal
from balancer.embedded import EmbeddedRedis
from balancer.ledger.agent_set import Verb
from balancer.ledger.beat import BeatEntry
from balancer.ledger.settle import CompletionEntry
from balancer.protocol import Completion, Heartbeat, Status, TextRedis, connect
from tests.machine.harness import Harness
from tests.machine.model import FINAL
from tests.machine.specs import (
    BEATS,
    DONES,
    PICK,
    PICKS,
    ROLES,
    SOMETIMES,
    TASKS,
    BeatSpec,
    DoneSpec,
    TaskSpec,
)

_COMMON = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
PROFILES = {
    "machine": settings(_COMMON, max_examples=25, stateful_step_count=40, derandomize=True),
    "machine-unshrunk": settings(
        _COMMON,
        max_examples=25,
        stateful_step_count=40,
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    ),
    "machine-long": settings(_COMMON, max_examples=2_000, stateful_step_count=60, print_blob=True),
}
#: More boots of one agent than the pool remembers would let the oldest come back as new.
MOST_BOOTS = 5


@dataclass
class Process:
    """An agent as it sees itself."""

    id: str
    boots: int = 0
    seq: int = 0
    last: Heartbeat | None = None


class LedgerMachine(RuleBasedStateMachine):
    """One history of one pool."""

    client: ClassVar[TextRedis]
    strategy: ClassVar[str] = "best_match"

    def __init__(self) -> None:
        super().__init__()
        self.h = Harness(self.client, self.strategy)
        self.processes = [Process(f"a{i}") for i in range(4)]
        self.submitted = self.wishes = 0

    @initialize(tasks=st.lists(TASKS, min_size=2, max_size=6), agents=st.tuples(*[BEATS] * 4))
    def begin(self, tasks: list[TaskSpec], agents: tuple[BeatSpec, ...]) -> None:
        self.h.apply_beats([self._beat(spec._replace(agent=i)) for i, spec in enumerate(agents)])
        self.h.submit([self._task(spec._replace(known="new")) for spec in tasks])

    @rule(
        ms=st.sampled_from([1_000, 4_000, 7_000]),
        tasks=st.lists(TASKS, max_size=2),
        dones=st.lists(DONES, max_size=4),
    )
    def ordinary_round(self, ms: int, tasks: list[TaskSpec], dones: list[DoneSpec]) -> None:
        """Work comes, time passes, agents beat, work is swept and handed out, some of it ends."""
        self.h.submit([self._task(spec) for spec in tasks])
        self.h.pass_time(ms)
        self.h.apply_beats([self._repeat(p) for p in self.processes])
        self.h.sweep()
        self.h.look(0)
        self.h.commit(self.h.plans[0])
        self.h.settle([self.h.send_done(self._done(spec)) for spec in dones])

    # --- producers

    @rule(specs=st.lists(TASKS, min_size=1, max_size=4), twice=SOMETIMES)
    def submit(self, specs: list[TaskSpec], twice: bool) -> None:
        self.h.submit([self._task(spec) for spec in specs], twice)

    @rule(picks=PICKS, twice=SOMETIMES)
    def cancel(self, picks: list[int], twice: bool) -> None:
        known = [*self.h.model.tasks, "ghost"]
        self.h.cancel([known[-1 - pick % len(known)] for pick in picks], twice)

    @rule(
        strategy=st.sampled_from(["fit", "best_match", "round_robin", "random"]),
        ageing=st.sampled_from([0.2, 5.0]),
        strict=st.booleans(),
        pages=st.sampled_from([0, 0, 2]),
        twice=SOMETIMES,
    )
    def configure(
        self, strategy: str, ageing: float, strict: bool, pages: int, twice: bool
    ) -> None:
        """The operator changes what decides; what waits is scored again, sooner or later."""
        change = {"strategy": strategy, "ageing": ageing, "strict_priority": strict}
        self.h.configure(change, twice)
        for _ in range(pages):
            self.h.rescore()

    @rule()
    def rescore(self) -> None:
        self.h.rescore()

    @rule(picks=PICKS, twice=SOMETIMES)
    def retry(self, picks: list[int], twice: bool) -> None:
        """Of any task, and of those that are dead."""
        known = [*self.h.model.tasks, "ghost"]
        dead = [id_ for id_, task in self.h.model.tasks.items() if task.state == "dead"] or known
        self.h.retry([known[-1 - picks[0] % len(known)], dead[picks[-1] % len(dead)]], twice)

    @rule(picks=PICKS, priority=st.sampled_from(Priority), twice=SOMETIMES)
    def reprioritise(self, picks: list[int], priority: Priority, twice: bool) -> None:
        known = [*self.h.model.tasks, "ghost"]
        self.h.reprioritise([known[-1 - pick % len(known)] for pick in picks], priority, twice)

    def _task(self, spec: TaskSpec) -> Task:
        known = list(self.h.model.tasks)
        if known and spec.known != "new":
            task = self.h.model.tasks[known[-1 - spec.pick % len(known)]].as_submitted
            changes = {"description": "another"} if spec.known == "other" else {}
            return task.model_copy(update=changes)
        self.submitted += 1
        parents = {known[-1 - pick % len(known)] for pick in spec.parents if known}
        return Task(
            id=f"t{self.submitted}",
            role=spec.role,
            category=spec.category,
            priority=spec.priority,
            cost=spec.cost,
            requires=spec.requires,
            max_failures=spec.max_failures,
            run_timeout_s=spec.run_timeout_s,
            depends_on=tuple(sorted(parents | ({"ghost"} if spec.ghost else set()))),
            payload={"n": self.submitted} if self.submitted % 2 else None,
            **self._asked(spec),
        )

    def _asked(self, spec: TaskSpec) -> dict[str, Any]:
        """No sum of the steps of time ends in these thousandths: what is due now was due before."""
        by_name: dict[str, dict[str, Any]] = {
            "dedup": {"dedup_key": f"key {spec.pick % 3}"},
            "later": {"not_before": self._in(3.077)},
            "earlier": {"not_before": self._in(-3.077)},
            "expires": {"expires_at": self._in(7.123)},
            "expired": {"expires_at": self._in(-0.077) if "later" not in spec.asks else None},
            "max_wait": {"max_wait_s": 4.123},
            "skip": {"on_parent_failure": "skip"},
            "run": {"on_parent_failure": "run"},
        }
        return {name: value for ask in spec.asks for name, value in by_name[ask].items()}

    def _in(self, seconds: float) -> datetime:
        return EPOCH + timedelta(microseconds=self.h.now_us, seconds=seconds)

    @rule(
        does=st.sampled_from(["pause", "resume", "resume", "purge", "memory"]),
        role=st.sampled_from([*ROLES, "ghost"]),
        spec=TASKS,
        twice=SOMETIMES,
    )
    def operator(self, does: str, role: str, spec: TaskSpec, twice: bool) -> None:
        """Someone holds a role's queue, lets it go on, or empties it; or Redis' memory fills and is freed."""
        if does != "memory":
            getattr(self.h, does)(role, twice)
            return
        for self.h.used in (849 + spec.pick % 2, 801, 800):
            self.h.sweep()
            self.h.submit([self._task(spec)], twice)
        self.h.used = 0

    # --- agents

    @rule(
        specs=st.lists(BEATS, min_size=1, max_size=3),
        caught_up=st.booleans(),
        bad=SOMETIMES,
        twice=SOMETIMES,
    )
    def heartbeats(self, specs: list[BeatSpec], caught_up: bool, bad: bool, twice: bool) -> None:
        items = [self._beat(spec) for spec in specs]
        if bad:
            wrong = BeatEntry(self.h.entry(), None, "seq: 'x' is not a number", "seq=x")
            items.insert(len(items) // 2, wrong)
        self.h.apply_beats(items, caught_up=caught_up, twice=twice)

    @rule(specs=st.lists(DONES, min_size=1, max_size=3), bad=SOMETIMES, twice=SOMETIMES)
    def completions(self, specs: list[DoneSpec], bad: bool, twice: bool) -> None:
        items = [self.h.send_done(self._done(spec)) for spec in specs]
        if bad:
            entry = self.h.add_completion({"task": "t1", "attempt": "x"})
            wrong = CompletionEntry(entry, None, "attempt: 'x' is not a number", "attempt=x")
            items.insert(len(items) // 2, wrong)
        self.h.settle(items, twice)

    @rule(beat=BEATS, done=DONES, beats=PICKS, dones=PICKS, anew=st.booleans())
    def late(
        self, beat: BeatSpec, done: DoneSpec, beats: list[int], dones: list[int], anew: bool
    ) -> None:
        """One of each is sent and stays behind; of all that were ever sent, some come now."""
        self._beat(beat)
        self.h.send_done(self._done(done))
        late_beats = [self.h.beats[-1 - pick % len(self.h.beats)] for pick in beats]
        late_dones = [self.h.dones[-1 - pick % len(self.h.dones)] for pick in dones]
        if anew:
            late_beats = [self.h.send_beat(item.beat) for item in late_beats if item.beat]
            messages = [item.completion for item in late_dones if item.completion]
            late_dones = [self.h.send_done(message) for message in messages]
        self.h.apply_beats(late_beats, caught_up=False)
        self.h.settle(late_dones)

    def _beat(self, spec: BeatSpec) -> BeatEntry:
        process = self.processes[spec.agent]
        restarts = spec.does == "restart" and process.boots < MOST_BOOTS
        declared: dict[str, Any] = {
            "agent": process.id,
            "role": spec.role,
            "max_concurrent": spec.max,
            "specializations": spec.specs,
            "skills": spec.skills,
            "mode": spec.mode,
            "ttl_ms": spec.ttl_ms,
            "interval_ms": spec.ttl_ms // 3,
        }
        if process.last and spec.does != "declare":
            declared = process.last.model_dump()
        return self._say(process, declared, spec.holds, starts=restarts or process.last is None)

    def _repeat(self, process: Process, **changes: Any) -> BeatEntry:
        assert process.last
        return self._say(process, process.last.model_dump() | changes, 0, starts=False)

    def _say(
        self, process: Process, declared: dict[str, Any], holds: int, starts: bool
    ) -> BeatEntry:
        if starts:
            process.boots, process.seq = process.boots + 1, 0
        process.seq += 1
        known = self.h.model.agents.get(process.id)
        held = [x for i, x in enumerate(known.held if known else ()) if holds >> i & 1]
        declared["boot"] = f"{process.id.encode().hex()}{process.boots:0{32 - 2 * len(process.id)}}"
        declared["held"] = (*held, *([f"{holds:032x}"] if holds & 16 else []))
        process.last = Heartbeat.model_validate(declared | {"seq": process.seq, "start": starts})
        return self.h.send_beat(process.last)

    def _done(self, spec: DoneSpec) -> Completion:
        nothing = [("ghost", "a0", 1, f"{0:032x}")]
        # What is wrong in one point only is wrong about a lease that is open: all else would let it count.
        grants = (self.h.open_grants() if spec.of != "any" else []) or self.h.grants or nothing
        task, agent, attempt, nonce = grants[-1 - spec.pick % len(grants)]
        return Completion(
            task="ghost" if spec.of == "ghost" else task,
            agent=f"{agent}x" if spec.of == "agent" else agent,
            attempt=attempt + (spec.of == "attempt"),
            lease=f"{spec.pick:032x}" if spec.of == "nonce" else nonce,
            status=spec.status,
            result=spec.result,
            error=spec.error,
        )

    # --- operators

    @rule(
        agent=st.integers(0, 4),
        verb=st.sampled_from([Verb.PAUSE, Verb.RESUME, Verb.RESUME, Verb.RETIRE]),
        wait_s=st.sampled_from([8, 60, 0]),
        twice=SOMETIMES,
    )
    def agent_operator(self, agent: int, verb: Verb, wait_s: int, twice: bool) -> None:
        self.h.agent_set(f"a{agent}", verb, wait_s if verb is Verb.RETIRE else 0, twice)

    # --- drainers

    @rule(looks=st.sets(st.integers(0, 1)), commits=st.lists(st.integers(0, 1)), twice=SOMETIMES)
    def drainers(self, looks: set[int], commits: list[int], twice: bool) -> None:
        """Some look, then some commit what they planned just now, or long ago, or committed before."""
        for drainer in sorted(looks):
            self.h.look(drainer)
        for drainer in commits[:3]:
            self.h.commit(self.h.plans[drainer], twice)

    @rule(picks=st.lists(st.tuples(PICK, st.integers(0, 4)), min_size=1, max_size=4))
    def wishes_that_no_planner_has(self, picks: list[tuple[int, int]]) -> None:
        known = [*self.h.model.tasks, "ghost"]
        wishes = []
        for pick, agent in picks:
            self.wishes += 1
            task, nonce = known[-1 - pick % len(known)], f"{self.wishes:032x}"
            wishes.append(Proposal(task, f"a{agent}", nonce, 1, 1.0, {"wish": 1.0}, "wish"))
        self.h.commit(wishes, twice=True)

    # --- time

    @rule(ms=st.sampled_from([9_000, 1, 16_000, 400_000, -1_500, -30_000]), twice=SOMETIMES)
    def time_passes(self, ms: int, twice: bool) -> None:
        self.h.pass_time(ms)
        self.h.sweep(twice)

    @rule(crashed=st.integers(0, 3), rounds=st.integers(1, 3), holds=st.integers(0, 31))
    def crash(self, crashed: int, rounds: int, holds: int) -> None:
        """One agent is silent for a while, the others are not. Then it is back."""
        self.h.look(1)
        self.h.commit(self.h.plans[1])
        for _ in range(rounds):
            self.h.pass_time(7_000)
            others = [p for i, p in enumerate(self.processes) if i != crashed]
            self.h.apply_beats([self._repeat(process) for process in others])
            self.h.sweep()
        process = self.processes[crashed]
        assert process.last
        new_boot = holds & 1 == 1 and process.boots < MOST_BOOTS
        back = self._say(process, process.last.model_dump(), holds, starts=new_boot)
        self.h.apply_beats([back], twice=True)

    @rule(
        what=st.sampled_from(
            ["reclaim", "recount", "timeout", "due", "expire", "release", "forget", "retire"]
        ),
        pick=PICK,
    )
    def look_at_random(self, what: str, pick: int) -> None:
        agent = f"a{pick % 5}"
        match what:
            case "reclaim":
                self.h.reclaim(agent, twice=True)
            case "retire":
                self.h.retire(agent, twice=True)
            case "recount":
                self.h.recount(agent, twice=True)
            case "timeout":
                self.h.run_timeouts(twice=True)
            case "forget":
                self.h.forget(twice=True)
            case "due":
                self.h.move_due(twice=True)
            case "expire":
                self.h.expire(twice=True)
            case _:
                self.h.release(twice=True)

    # --- judgement

    @invariant()
    def all_is_well(self) -> None:
        self.h.check()

    def teardown(self) -> None:
        """Everything that was accepted ends: two fresh agents do what is left. Nothing stays."""
        if self.h.broken or not self.h.beats:
            return  # the first fault is the one to tell
        self.h.settle([item for item in self.h.dones if item.entry in self.h.unsettled])
        for role in self.h.model.paused.copy():
            self.h.resume(role)
        self._leave(self.processes[::2])
        workers = [Process(f"w{i}") for i in range(len(ROLES))]
        for process, role in zip(workers, ROLES, strict=True):
            declared: dict[str, Any] = {
                "agent": process.id, "role": role, "max_concurrent": 3, "ttl_ms": 30_000, "skills": {"go": 9},
            }  # fmt: skip
            self.h.apply_beats([self._say(process, declared, 0, starts=True)])
        tasks = self.h.model.tasks
        for _ in range(60):
            self.h.pass_time(9_000)
            self.h.apply_beats([self._repeat(worker) for worker in workers])
            self.h.sweep()
            self.h.look(0)
            self.h.commit(self.h.plans[0])
            mine = [
                Completion(agent=a, task=t, attempt=n, lease=x, status=Status.COMPLETED)
                for t, a, n, x in self.h.open_grants("w")
            ]
            self.h.settle([self.h.send_done(done) for done in mine])
            if all(task.state in FINAL for task in tasks.values()) and not self.h.model.untold:
                break
        self._leave([*self.processes, *workers])
        self.h.sweep()
        self.h.check_empty()

    def _leave(self, processes: list[Process]) -> None:
        for process in processes:
            known = self.h.model.agents.get(process.id)
            if known and process.last and known.boot != process.last.boot:
                # Its start was overtaken by what came late: it has to start once more.
                again = self._say(process, process.last.model_dump(), 0, starts=True)
                self.h.apply_beats([again])
            self.h.apply_beats([self._repeat(process, mode=Mode.STOPPED)])


@pytest.mark.timeout(7_200)
def test_the_ledger_does_what_the_model_does(redis_server: EmbeddedRedis) -> None:
    profile = os.environ.get("HYPOTHESIS_PROFILE", "")
    with connect(redis_server.url) as client:
        machine = type("Machine", (LedgerMachine,), {"client": client})
        run_state_machine_as_test(machine, settings=PROFILES.get(profile, PROFILES["machine"]))


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("strategy", ["round_robin", "random", "fit"])
def test_the_ledger_does_the_same_with_other_strategies(
    redis_server: EmbeddedRedis, strategy: str
) -> None:
    chosen = PROFILES.get(os.environ.get("HYPOTHESIS_PROFILE", ""), PROFILES["machine"])
    fewer = settings(chosen, max_examples=max(6, chosen.max_examples // 4))
    with connect(redis_server.url) as client:
        facts = {"client": client, "strategy": strategy}
        run_state_machine_as_test(type("Machine", (LedgerMachine,), facts), settings=fewer)
