"""One pool on a real Redis beside its model: every call goes to both, and both must agree.

Nothing that was ever sent is thrown away: heartbeats and completions stay in bags and can come
again, late and out of order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from balancer.core.model import Priority, Task
from balancer.core.planner import Planner, Proposal
from balancer.core.queue_order import QueueOrder
from balancer.core.settings import PoolSettings
from balancer.core.strategies import make_strategy, queue_of
from balancer.ledger import Pool
from balancer.ledger.agent_set import Verb, agent_set
from balancer.ledger.audit import audit
from balancer.ledger.backoff import WHOLE
from balancer.ledger.beat import BeatEntry, beat
from balancer.ledger.cancel import cancel
from balancer.ledger.commit import commit
from balancer.ledger.configure import configure
from balancer.ledger.due import due
from balancer.ledger.expire import expire
from balancer.ledger.gc import gc
from balancer.ledger.reclaim import reclaim
from balancer.ledger.recount import recount
from balancer.ledger.release import release
from balancer.ledger.reprioritise import reprioritise
from balancer.ledger.rescore import rescore
from balancer.ledger.retire import retire
from balancer.ledger.retry import retry
from balancer.ledger.role_set import pause, purge, resume
from balancer.ledger.settle import CompletionEntry, settle, stored_result
from balancer.ledger.submit import submit
from balancer.ledger.tick import GRACE_MS, Memory, tick
from balancer.ledger.timeout import GRACE_MS as TIMEOUT_GRACE_MS
from balancer.ledger.timeout import timeout
from balancer.ledger.view import Viewer
from balancer.protocol import Completion, Heartbeat, TextRedis
from balancer.protocol.keys import GROUP
from tests.machine import picture
from tests.machine.model import FINAL, Draws, Model

BASE_US = 1_750_000_000_000_000
#: What counts as a gap between sweeps: more than in a pool, for the machine's time goes in large steps.
GAP_MS = 10_000
SETTINGS = PoolSettings(
    max_losses=2,
    max_cost=3,
    max_concurrent=2,
    max_pending=6,
    retry_max_delay_s=8.0,
    retention_s=1_000.0,
    retention_count=12,
)
#: Task, agent, attempt, nonce.
Grant = tuple[str, str, int, str]


class Harness:
    """Calls in pairs, and the judgement."""

    def __init__(self, client: TextRedis, strategy: str = "best_match") -> None:
        client.flushall()
        settings = SETTINGS.model_copy(update={"strategy": strategy})
        self.client = client
        self.now_us = self.latest_us = BASE_US
        self.latest_grace_ms = 0
        self.pool = Pool.create(client, "machine", settings, clock=lambda: self.now_us)
        self.model, self.planner = Model(settings), Planner(settings)
        self.drainers = [Viewer(self.pool, lambda: self.planner.pivot()) for _ in range(2)]  # noqa: PLW0108
        self.plans: list[list[Proposal]] = [[], []]
        self.beats: list[BeatEntry] = []
        self.dones: list[CompletionEntry] = []
        self.unsettled: set[str] = set()
        self.grants: list[Grant] = []
        self.last_entry = (0, 0)
        #: Thousandths of Redis' memory that are used.
        self.used = 0
        #: A fault was found: whatever follows is of no interest.
        self.broken = False

    @property
    def now_ms(self) -> int:
        return self.now_us // 1000

    def pass_time(self, ms: int) -> None:
        self.now_us += 1000 * ms
        self.latest_us = max(self.latest_us, self.now_us)

    # --- producers

    def submit(self, tasks: Sequence[Task], twice: bool = False) -> None:
        self._both(
            lambda: [(answer.task_id, answer.outcome.value) for answer in submit(self.pool, tasks)],
            lambda: [self.model.submit(task, self.now_us) for task in tasks],
            twice,
        )

    def cancel(self, ids: Sequence[str], twice: bool = False) -> None:
        self._both(
            lambda: [answer.outcome.value for answer in cancel(self.pool, ids)],
            lambda: [self.model.cancel(id_, self.now_us) for id_ in ids],
            twice,
        )

    def pause(self, role: str, twice: bool = False) -> None:
        self._both(lambda: pause(self.pool, role), lambda: self.model.pause(role), twice)

    def resume(self, role: str, twice: bool = False) -> None:
        self._both(lambda: resume(self.pool, role), lambda: self.model.resume(role), twice)

    def purge(self, role: str, twice: bool = False) -> None:
        self._both(
            lambda: purge(self.pool, role), lambda: self.model.purge(role, self.now_us), twice
        )

    def retry(self, ids: Sequence[str], twice: bool = False) -> None:
        self._both(
            lambda: [answer.outcome.value for answer in retry(self.pool, ids)],
            lambda: [self.model.retry(id_, self.now_us) for id_ in ids],
            twice,
        )

    def reprioritise(self, ids: Sequence[str], priority: Priority, twice: bool = False) -> None:
        self._both(
            lambda: [answer.outcome.value for answer in reprioritise(self.pool, ids, priority)],
            lambda: [self.model.reprioritise(id_, priority) for id_ in ids],
            twice,
        )

    def configure(self, change: Mapping[str, object], twice: bool = False) -> None:
        """Other settings. Agents get a turn of the new order with whatever comes of them next; here at once, so that
        calls without an effect have none.
        """
        settings = self.model.settings.model_copy(update=change)

        def predicted() -> str:
            is_same, self.model.settings = settings == self.model.settings, settings
            return "already" if is_same else "ok"

        self._both(lambda: configure(self.pool, settings).value, predicted, twice, is_event=False)
        self.planner = Planner(settings)
        for agent in self.model.agents:
            recount(self.pool, agent)

    def rescore(self) -> None:
        """One page, of as many roles as there may be."""
        rescore(self.pool)

    def forget(self, twice: bool = False) -> None:
        self._both(lambda: tuple(gc(self.pool)), lambda: (self.model.gc(self.now_us), False), twice)

    # --- agents

    def send_beat(self, message: Heartbeat) -> BeatEntry:
        entry = self.client.xadd(self.pool.keys.heartbeats, message.fields(), id=self.entry())
        self.beats.append(BeatEntry(entry, message))
        return self.beats[-1]

    def apply_beats(
        self, items: Sequence[BeatEntry], *, caught_up: bool = True, twice: bool = False
    ) -> None:
        def predicted() -> list[str]:
            heard = [
                self.model.beat(item.entry, item.beat, self.now_us) if item.beat else ("bad", 0)
                for item in items
            ]
            newest_ms = max([ms for _, ms in heard], default=0)
            self.model.heard(newest_ms, caught_up, self.now_ms)
            return [outcome for outcome, _ in heard]

        def call() -> list[str]:
            return [outcome.value for outcome in beat(self.pool, items, caught_up=caught_up)]

        self._both(call, predicted, twice)

    def send_done(self, done: Completion) -> CompletionEntry:
        self.dones.append(CompletionEntry(self.add_completion(done.fields()), done))
        return self.dones[-1]

    def add_completion(self, fields: dict[str, str]) -> str:
        entry = str(self.client.xadd(self.pool.keys.completions, fields, id=self.entry()))
        self.unsettled.add(entry)
        return entry

    def settle(
        self, entries: Sequence[CompletionEntry], twice: bool = False, draw: int = WHOLE
    ) -> None:
        def call() -> tuple[list[str], bool]:
            answer = settle(self.pool, entries, draw=draw)
            return [outcome.value for outcome in answer.outcomes], answer.release_due

        def predicted() -> tuple[list[str], bool]:
            draws = Draws(draw)
            outcomes = [
                self.model.settle(done, stored_result(done), self.now_us, draws) if done else "bad"
                for _, done, *_ in entries
            ]
            return outcomes, bool(entries and self.model.untold)

        # Read as the consumer reads: from here on they are its own, until settled.
        self.client.xreadgroup(GROUP, "c1", {self.pool.keys.completions: ">"})
        self._both(call, predicted, twice)
        self.unsettled -= {item.entry for item in entries}

    def open_grants(self, prefix: str = "") -> list[Grant]:
        tasks = self.model.tasks
        return [
            (task, agent, attempt, nonce)
            for task, agent, attempt, nonce in self.grants
            if task in tasks
            and (tasks[task].state, tasks[task].nonce) == ("assigned", nonce)
            and agent.startswith(prefix)
        ]

    # --- drainers

    def look(self, drainer: int) -> None:
        """Take the wake-up, read a view, plan. The plan is kept, whatever happens meanwhile."""
        self.client.lpop(self.pool.keys.wake)
        self.model.added = False
        self.plans[drainer] = plan = self.planner.plan(self.drainers[drainer].view())
        self._check_plan(plan)

    def commit(self, plan: Sequence[Proposal], twice: bool = False) -> None:
        def predicted() -> list[tuple[str, int]]:
            answers = []
            for wish in plan:
                outcome, attempt = self.model.commit(wish, self.now_us)
                if outcome == "assigned":
                    agent = self.model.agents[wish.agent]
                    self.expect(agent.used <= agent.max, True, f"{wish.agent} within its units")
                    self.grants.append((wish.task, wish.agent, attempt, wish.nonce))
                answers.append((outcome, attempt))
            return answers

        def call() -> list[tuple[str, int]]:
            return [(answer.outcome.value, answer.attempt) for answer in commit(self.pool, plan)]

        self._both(call, predicted, twice)

    def _check_plan(self, plan: Sequence[Proposal]) -> None:
        """A fresh plan holds whole, and no task waits that a healthy agent could take."""
        tasks, free = self.model.tasks, self.model.free()
        busy = {id_ for id_, agent in self.model.agents.items() if agent.held}
        for wish in plan:
            known, most = tasks[wish.task], self.model.agents[wish.agent].max
            free[wish.agent] -= most if known.alone else known.task.cost
            busy.add(wish.agent)
            is_open = known.state == "pending" and known.task.role not in self.model.paused
            holds = is_open and free[wish.agent] >= 0
            self.expect(holds, True, f"a fresh plan holds: {wish}")
            able = self.model.able(known)
            self.expect(wish.agent in able, True, f"{wish.agent} is one that may have {wish.task}")
            silent_ms = min(self.model.mark_ms, self.now_ms) - self.model.agents[wish.agent].beat_ms
            is_healthy = silent_ms <= self.model.agents[wish.agent].ttl_ms
            self.expect(
                is_healthy, True, f"{wish.agent}, which gets {wish.task}, is healthy enough"
            )
            if set(able) - set(known.tried):
                self.expect(wish.agent in known.tried, False, f"{wish.task} failed on {wish.agent}")
        if self.pool.settings.strategy == "fit":
            return  # a slower agent may have to wait
        waiting = {
            id_
            for id_, task in tasks.items()
            if task.state == "pending" and task.task.role not in self.model.paused
        }
        mark_ms = min(self.model.mark_ms, self.now_ms)
        left = [tasks[id_] for id_ in waiting - {wish.task for wish in plan}]
        for role in {one.task.role for one in left}:
            fitting, kept = set[str](), 0
            for one in (one for one in left if one.task.role == role):
                able = self.model.able(one)
                barred = set(one.avoid if self.now_ms < one.avoid_until_ms else ())
                barred |= set(one.tried if able.keys() - set(one.tried) else ())
                healthy = {
                    id_
                    for id_, agent in able.items()
                    if mark_ms - agent.beat_ms < agent.ttl_ms * 2 // 3 and id_ not in barred
                }
                fits = {
                    id_
                    for id_ in healthy
                    if free[id_] >= one.task.cost and not (one.alone and id_ in busy)
                }
                fitting |= fits
                # One agent a role may be kept for a task that nobody has room for.
                kept = 1 if healthy and not fits else kept
            self.expect(
                len(fitting & busy if kept else fitting) <= kept, True, f"{fitting} get no work"
            )
            self.expect(len(fitting - busy), 0, f"{fitting - busy} hold nothing and get no work")

    # --- time

    def sweep(self, twice: bool = False) -> None:
        """Tick, and do all that it says is due."""
        ticked = self._both(
            lambda: tuple(tick(self.pool, gap_ms=GAP_MS, memory=Memory(self.used, 1_000)))[:7],
            lambda: self.model.tick(GRACE_MS, GAP_MS, self.now_us, self.used),
            twice,
            part=lambda answer: answer[:4] + answer[5:],
            is_event=False,
        )
        self.latest_grace_ms = max(self.latest_grace_ms, self.model.grace_until_ms)
        _, tries_due, leases_due, release_due, agents, expiry_due, _ = ticked
        if leases_due:
            self.run_timeouts(twice)
        for agent in agents:
            if self.reclaim(agent, twice)[0] == "must_retire":
                self.retire(agent, twice)
        if tries_due:
            self.move_due(twice)
        if expiry_due:
            self.expire(twice)
        if release_due:
            self.release(twice)
        self.rescore()

    def agent_set(self, agent: str, verb: Verb, wait_s: int, twice: bool = False) -> None:
        def call() -> tuple[str, int]:
            outcome, held = agent_set(self.pool, agent, verb, wait_s)
            return outcome.value, held

        self._both(
            call,
            lambda: self.model.agent_set(agent, verb.value, 1000 * wait_s, self.now_ms),
            twice,
        )

    def retire(self, agent: str, twice: bool = False) -> None:
        def call() -> tuple[str, int]:
            outcome, requeued, _ = retire(self.pool, agent)
            return outcome.value, requeued

        self._both(call, lambda: self.model.retire(agent, self.now_us), twice)

    def reclaim(self, agent: str, twice: bool = False) -> Any:
        def call() -> tuple[Any, ...]:
            outcome, *rest = reclaim(self.pool, agent)
            return outcome.value, *rest

        def predicted() -> tuple[Any, ...]:
            return *self.model.reclaim(agent, self.now_us), False

        return self._both(call, predicted, twice, is_event=False)

    def run_timeouts(self, twice: bool = False, draw: int = WHOLE // 2) -> None:
        def predicted() -> tuple[int, int, int, bool]:
            return *self.model.timeout(TIMEOUT_GRACE_MS, self.now_us, Draws(draw)), False

        self._both(lambda: tuple(timeout(self.pool, draw=draw)), predicted, twice)

    def move_due(self, twice: bool = False) -> None:
        def predicted() -> tuple[int, bool]:
            return self.model.due(self.now_us), False

        self._both(lambda: tuple(due(self.pool)), predicted, twice)

    def expire(self, twice: bool = False) -> None:
        def predicted() -> tuple[int, bool]:
            return self.model.expire(self.now_us), False

        self._both(lambda: tuple(expire(self.pool)), predicted, twice)

    def release(self, twice: bool = False) -> None:
        def predicted() -> tuple[int, int, int, bool]:
            return *self.model.release(self.now_us), False

        self._both(lambda: tuple(release(self.pool)), predicted, twice, is_event=False)

    def recount(self, agent: str, twice: bool = False) -> None:
        known = self.model.agents.get(agent)
        units, leases = (known.used, len(known.held)) if known else (0, 0)
        want = ("exact" if known else "unknown", units, units, leases, leases)
        self._both(lambda: tuple(recount(self.pool, agent)), lambda: want, twice)

    # --- judgement

    def check(self) -> None:
        """What must be true after every step."""
        verdict = audit(self.pool)
        self.expect((verdict.exact, verdict.violations), (True, []), "audit")
        seen = picture.take(self.pool)
        wrong = picture.disagreements(seen, self.latest_us // 1000, self.latest_grace_ms)
        self.expect(wrong, [], "disagreements")
        completed = {id_ for id_, task in self.model.tasks.items() if task.state == "completed"}
        once = {id_ for id_, task in self.model.tasks.items() if task.completions == 1}
        self.expect(once, completed, "tasks that completed once")
        self.expect(picture.tasks(seen), self.model.tasks_as_stored(), "tasks")
        self.expect(picture.agents(seen), self.model.agents_as_stored(), "agents")
        self.expect(int(seen["meta"]["hb_mark_ms"]), self.model.mark_ms, "hb_mark_ms")
        if self.model.added:
            self.expect(seen.get("wake"), ["1"], "wake after work or units were added")
        self.expect(set(seen.get("completions", ())), self.unsettled, "completions to settle")
        if "rescore" not in seen:
            self.expect(picture.places(seen), self._places(seen), "places in the queue")
        read = self.client.xpending_range(self.pool.keys.completions, GROUP, "-", "+", 1000)
        settled = {item["message_id"] for item in read} - self.unsettled
        self.expect(settled, set(), "settled, but not acknowledged")

    def _places(self, seen: picture.Picture) -> dict[str, int]:
        """Where each pending task belongs by the settings of now, whatever they were when it came."""
        order = QueueOrder.of(self.model.settings, queue_of(make_strategy(self.model.settings)))
        return {
            id_: int(f["ready_us"])
            + order.delay_us(Priority(f["d"].split("|")[0]), int(f["e"].split("|")[0]))
            for id_, f in picture.under(seen, "task").items()
            if f["state"] == "pending"
        }

    def check_empty(self) -> None:
        """What must be true when all work has ended and all agents have left."""
        self.check()
        seen = picture.take(self.pool)
        states = {id_: task["state"] for id_, task in picture.under(seen, "task").items()}
        self.expect(set(states), set(self.model.tasks), "tasks that were accepted")
        self.expect({s for s in states.values() if s not in FINAL}, set(), "states that go on")
        self.expect(picture.left_over(seen), {}, "left over")

    def expect(self, found: object, want: object, what: str) -> None:
        if found != want:
            self.broken = True
            raise AssertionError(f"{what}\n   found: {found}\nexpected: {want}")

    def entry(self) -> str:
        """A stream entry id, as the server would make it at this time."""
        ms, seq = self.last_entry
        self.last_entry = (self.now_ms, 0) if self.now_ms > ms else (ms, seq + 1)
        return f"{self.last_entry[0]}-{self.last_entry[1]}"

    def _both(
        self,
        call: Callable[[], Any],
        predicted: Callable[[], Any],
        twice: bool,
        part: Callable[[Any], Any] = lambda answer: answer,
        is_event: bool = True,
    ) -> Any:
        """Make a call and hold its answer against the model's.

        What the model calls a no-op must leave no trace, and neither must any call that is sent
        again. `is_event` is false where a no-op may write: an agent that turns out to be alive
        is looked at later.
        """
        units, story = self.model.free(), self.model.story()
        want = predicted()
        self.model.note_freed(units)
        is_idle = is_event and self.model.story() == story
        before = picture.take(self.pool) if is_idle else {}
        answer = self._checked(call, part, want, "answer")
        if is_idle:
            self._expect_same(before, "a call without an effect")
        if twice:
            before = picture.take(self.pool)
            self._checked(call, part, predicted(), "answer when sent again")
            self._expect_same(before, "the same call sent again")
        return answer

    def _checked(
        self, call: Callable[[], Any], part: Callable[[Any], Any], want: Any, what: str
    ) -> Any:
        try:
            answer = call()
        except Exception:
            self.broken = True
            raise
        self.expect(part(answer), want, what)
        return answer

    def _expect_same(self, before: picture.Picture, what: str) -> None:
        old, new = (picture.without_noise(seen) for seen in (before, picture.take(self.pool)))
        written = {name: value for name, value in new.items() if old.get(name) != value}
        self.expect(written, {}, f"{what}: what it wrote")
        self.expect(set(old) - set(new), set(), f"{what}: what it removed")
