"""A whole pool in one test: what time and threads do elsewhere, a test does here."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime
from typing import ClassVar

from balancer.aio import AsyncBalancer
from balancer.client import Balancer
from balancer.core.errors import BalancerError, InvalidInput, NotFound, WaitTimeout
from balancer.core.planner import Planner
from balancer.core.settings import PoolSettings
from balancer.inputs import check_seconds
from balancer.ledger.exchange import Pause
from balancer.ledger.pool import Pool
from balancer.ledger.tick import tick
from balancer.ledger.timeout import GRACE_MS
from balancer.ledger.view import Viewer
from balancer.loops.consumer import CompletionConsumer, HeartbeatConsumer
from balancer.loops.drainer import Drainer
from balancer.loops.sweeper import Sweeper
from balancer.protocol import Mode
from balancer.testing.agent import VirtualAgent
from balancer.testing.driver import AwaitedDriver, VirtualDriver
from balancer.testing.fake import fake_redis
from balancer.testing.foresight import next_plan_us
from worker import Agent

#: When a pool's clock starts, unless a test says otherwise.
START = datetime(2026, 1, 1, tzinfo=UTC)
#: Rounds without an end in sight before a pool says that it never becomes idle.
MOST_ROUNDS = 10_000
#: A wait this long, in which nothing is left to happen, is given up at once.
_FOR_EVER_S = 3_600.0
_NO_GAP_MS = 2**53 - 1


class TestPool(Balancer):
    """A Balancer whose pool lives in this process, for tests. Its time stands still: nothing happens
    but in `run_until_idle`, `advance` and `wait`, and then in the same order each time.

    Args:
        settings: of the pool; default: as a pool that is created without any.
        now: when its clock starts.

    Raises:
        FakeRedisMissing: fakeredis is not installed: pip install 'workload-balancer[testing]'.
    """

    __test__: ClassVar[bool] = False  # no test itself, whatever pytest thinks of its name

    def __init__(self, settings: PoolSettings | None = None, *, now: datetime = START) -> None:
        if now.tzinfo is None:
            raise InvalidInput(f"now: {now} has no time zone")
        self._now_us = round(now.timestamp() * 1_000_000)
        client = fake_redis()
        self._virtual = VirtualDriver(client, lambda: self._now_us / 1e6, self._pause)
        self._driver = self._virtual
        self._pool = pool = Pool.create(client, "test", settings, lambda: self._now_us)
        self._agents: dict[str, VirtualAgent] = {}
        self._beats = itertools.count(1)
        self._busy = False
        self._heartbeats = HeartbeatConsumer(pool, client, "test", block_s=0.001)
        self._completions = CompletionConsumer(pool, client, "test", block_s=0.001)
        self._drainer, self._sweeper = Drainer(pool, client), Sweeper(pool)
        self._viewer = Viewer(pool)

    @property
    def now(self) -> datetime:
        """The pool's time."""
        return datetime.fromtimestamp(self._now_us / 1e6, UTC)

    def add_agent(self, agent: Agent, *, takes_s: float = 0.0) -> None:
        """Let an agent of your program work here: its declaration and its handlers count, it connects
        to nothing. Adding it again is a restart: it resumes what it held.

        Args:
            agent: not started.
            takes_s: how long each of its tries takes; its handler is called at the end of that time.

        Raises:
            InvalidInput: takes_s is no time.
        """
        check_seconds("takes_s", takes_s)
        if takes_s < 0:
            raise InvalidInput(f"takes_s: {takes_s!r} is below 0")
        added = VirtualAgent(agent, takes_s, self._pool.client, self._pool.keys)
        self._agents[added.id] = added

    def crash_agent(self, agent_id: str) -> None:
        """Let an agent vanish without a word, with all it does: it is lost when its TTL has passed.

        Raises:
            NotFound: it was not added.
        """
        self._taken_out(agent_id)

    def stop_agent(self, agent_id: str) -> None:
        """Let an agent say that it has stopped; what it still does goes to others.

        Raises:
            NotFound: it was not added.
        """
        self._taken_out(agent_id).beat(self._now_us // 1_000, next(self._beats), Mode.STOPPED)

    def run_until_idle(self) -> None:
        """Assign, run and settle until nothing is left to do at this moment.

        Raises:
            BalancerError: there is no end to it: tasks make tasks, or a handler called this.
        """
        if self._busy:
            raise BalancerError("a handler or a callback cannot run the pool that runs it")
        self._busy = True
        try:
            for _ in range(MOST_ROUNDS):
                if not self._round():
                    return
        finally:
            self._busy = False
        raise BalancerError(
            f"the pool is not idle after {MOST_ROUNDS:,} rounds: do tasks make tasks?"
        )

    def advance(self, seconds: float) -> None:
        """Let time pass. Whatever is due in between happens at its time: retries, timeouts, expiry,
        tries that end, agents that are found lost.

        Raises:
            InvalidInput: it is no number of seconds, or below 0.
        """
        check_seconds("seconds", seconds)
        if not 0 <= seconds < math.inf:
            raise InvalidInput(f"seconds: {seconds!r} is not a finite number of seconds from 0")
        self._go_on(Pause(seconds))

    def as_async(self) -> AsyncBalancer:
        """The same pool for code that takes an AsyncBalancer."""
        door = AsyncBalancer("redis://127.0.0.1", self._pool.name)
        door._driver = AwaitedDriver(self._virtual)
        door._ask, door._pool = door._driver.run, self._pool
        return door

    def _pause(self, step: Pause) -> None:
        """What a call that waits does: it lets the pool go on."""
        if step.seconds > 0 or step.until:
            self._go_on(step)

    def _go_on(self, step: Pause) -> None:
        """Moment by moment until the time is over or the signal is set."""
        self.run_until_idle()
        until_us = self._now_us + step.seconds * 1e6
        while not (step.until and step.until.is_set()):
            moment_us = self._next_moment_us()
            if moment_us == math.inf and step.until and step.seconds >= _FOR_EVER_S:
                raise WaitTimeout("nothing is left to happen in this pool that could end the wait")
            self._now_us = math.ceil(min(moment_us, until_us))
            self.run_until_idle()
            if moment_us >= until_us:
                return

    def _round(self) -> bool:
        """Everything that may happen at this moment, once; whether anything did."""
        now_us, agents = self._now_us, list(self._agents.values())
        for agent in agents:
            agent.beat(now_us // 1_000, next(self._beats))
        self._heartbeats.step()
        # Elsewhere balancers tick twice a second: nobody is to take a leap of this clock for an outage.
        tick(self._pool, gap_ms=_NO_GAP_MS)
        swept = self._sweeper.step()
        settled = self._completions.step()
        drained = self._drainer.step()
        worked = sum([agent.work(now_us / 1e6) for agent in agents])
        for agent in agents:
            if agent.is_done:
                self.stop_agent(agent.id)
                worked += 1
        self._ask(self._driver.watch.look(self._pool, self._driver.watch.waited_for()))
        return bool(worked or settled or drained.assigned or drained.more or any(swept[:-1]))

    def _next_moment_us(self) -> float:
        """When something will happen by time alone."""
        keys, now_us = self._pool.keys, self._now_us
        late_us = {keys.scheduled: 0, keys.failed: 0, keys.expiry: 0, keys.leases: GRACE_MS * 1_000}
        pipe = self._pool.client.pipeline(transaction=False)
        for key, after_us in late_us.items():
            # What is due and has not happened waits for something else.
            pipe.zrangebyscore(key, f"({now_us - after_us}", "+inf", 0, 1, withscores=True)
        pipe.zrange(keys.agent_timers, 0, -1, withscores=True)
        for agent_id in self._agents:
            pipe.hget(keys.agent(agent_id), "admin")
        replies = pipe.execute()
        rows, timers, admins = (
            replies[: len(late_us)],
            replies[len(late_us)],
            replies[len(late_us) + 1 :],
        )
        due_us = [
            float(row[0][1]) + after_us
            for row, after_us in zip(rows, late_us.values(), strict=True)
            if row
        ]
        # An agent that beats moves its timer on, unless it is to retire; only silence makes it count.
        beating = {id_ for id_, admin in zip(self._agents, admins, strict=True) if not admin}
        silent_us = [1_000 * (float(ms) + 1) for id_, ms in timers if id_ not in beating]
        due_us += [moment_us for moment_us in silent_us if moment_us > now_us]
        due_us += [agent.next_end_s() * 1e6 for agent in self._agents.values()]
        due_us.append(next_plan_us(self._viewer, Planner(self._pool.settings)))
        return min(due_us)

    def _taken_out(self, agent_id: str) -> VirtualAgent:
        if agent_id not in self._agents:
            raise NotFound(f"agent {agent_id!r} was not added to this pool")
        return self._agents.pop(agent_id)
