"""A replay through the real scripts and the real planner, in a pool whose clock is ours.

What a fleet does in hours happens here moment by moment: what ends is settled, what arrives is submitted,
then view, plan and commit go on until nothing more fits. Some things are left out, for they change no
decision: completions do not travel through their stream (the script that settles them is the same),
nobody else plans (so there is no lock), agents are silent after their first heartbeat (silence is
judged against heartbeats alone), and run timeouts are not enforced.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from balancer.core.errors import BalancerError
from balancer.core.planner import Planner, Proposal, leaves_nothing
from balancer.core.settings import PoolSettings
from balancer.ledger import commit, settle
from balancer.ledger.beat import CAP_STARTS, BeatEntry, beat
from balancer.ledger.pool import Pool
from balancer.ledger.release import release
from balancer.ledger.submit import Outcome, submit
from balancer.ledger.view import Viewer
from balancer.protocol import TextRedis
from balancer.simulate.cast import completion_of, heartbeats, submissions, task_of
from balancer.simulate.engine import Run
from balancer.simulate.fleet import Fleet
from balancer.simulate.trace import Trace

#: When the clock of the pool starts, microseconds since 1970.
START_US = 1_800_000_000_000_000

#: Tasks read in one round trip.
_PAGE = 1_000

Tell = Callable[[int], None]


class Replayed(NamedTuple):
    """What became of each task, and what was expected of it at normal speed, seconds."""

    run: Run
    estimate_s: list[float]


class _Try(NamedTuple):
    """A task that runs. The first that ends is the smallest."""

    end_us: int
    task: int
    agent: int
    took_us: int
    lease: Proposal


def replay(
    client: TextRedis,
    settings: PoolSettings,
    trace: Trace,
    arrivals: Sequence[float],
    fleet: Fleet,
    *,
    learned: bool = False,
    tell: Tell = lambda _more: None,
) -> Replayed:
    """When each task was ready, began and ended, and where; and how long it was expected to take.

    Args:
        client: of an empty Redis of our own.
        settings: of the pool, the strategy among them.
        trace: the tasks.
        arrivals: when each arrives, seconds.
        fleet: the agents.
        learned: agents do not declare how fast they are, only their specializations.
        tell: is told how many more tasks have ended.

    Raises:
        BalancerError: the pool did what it never may: a bug.
    """
    return _Replay(client, settings, trace, arrivals, fleet, learned=learned).run(tell)


class _Replay:
    """The state of one replay."""

    def __init__(
        self,
        client: TextRedis,
        settings: PoolSettings,
        trace: Trace,
        arrivals: Sequence[float],
        fleet: Fleet,
        *,
        learned: bool,
    ) -> None:
        self._now_us = START_US
        self._pool = Pool.create(client, "simulated", settings, lambda: self._now_us)
        self._planner = Planner(settings)
        self._viewer = Viewer(self._pool, self._planner.pivot)
        self._trace, self._fleet = trace, fleet
        self._tasks = [task_of(row) for row in trace.rows]
        self._number = {task.id: i for i, task in enumerate(self._tasks)}
        self._place = {agent.id: j for j, agent in enumerate(fleet.agents)}
        self._open = [len(parents) for parents in trace.parents]
        self._arrival_us = [START_US + round(1e6 * at) for at in arrivals]
        self._line = submissions(trace, self._arrival_us)
        self._running: list[_Try] = []
        self._waiting, self._free = Counter[str](), Counter[str]()
        for agent in fleet.agents:
            self._free[agent.role] += agent.slots
        count = len(self._tasks)
        self._ready_us, self._start_us = list(self._arrival_us), [0] * count
        self._end_us, self._where = [0] * count, [-1] * count
        self._is_submitted = [False] * count
        self._ended = self._submitted = 0
        self._join(heartbeats(fleet, trace.categories, START_US // 1000, learned=learned))

    def run(self, tell: Tell) -> Replayed:
        """Moment by moment until the last task has ended."""
        while self._ended < len(self._tasks):
            self._now_us = self._next_moment_us()
            if over := self._pop_ended():
                self._settle(over)
                tell(len(over))
            if new := self._pop_arrived():
                self._submit(new)
            self._drain()
        run = Run(
            _seconds(self._ready_us), _seconds(self._start_us), _seconds(self._end_us), self._where
        )
        return Replayed(run, self._estimates_s())

    def _estimates_s(self) -> list[float]:
        """What each task was expected to take at normal speed when it was last given its place in the queue."""
        out: list[float] = []
        for at in range(0, len(self._tasks), _PAGE):
            pipe = self._pool.client.pipeline(transaction=False)
            for task in self._tasks[at : at + _PAGE]:
                pipe.hget(self._pool.keys.task(task.id), "e")
            out += [int(packed.partition("|")[0]) / 1000 for packed in pipe.execute()]
        return out

    def _next_moment_us(self) -> int:
        """When something happens next."""
        moments = [self._running[0].end_us] if self._running else []
        if self._submitted < len(self._line):
            moments.append(self._line[self._submitted][0])
        if not moments:
            left = len(self._tasks) - self._ended
            raise BalancerError(f"the replay stands still: {left} tasks wait and nothing runs")
        return min(moments)

    def _pop_ended(self) -> list[_Try]:
        over = []
        while self._running and self._running[0].end_us <= self._now_us:
            over.append(heapq.heappop(self._running))
        return over

    def _pop_arrived(self) -> list[int]:
        start = self._submitted
        while self._submitted < len(self._line) and self._line[self._submitted][0] <= self._now_us:
            self._submitted += 1
        return [i for _, i in self._line[start : self._submitted]]

    def _join(self, beats: Sequence[BeatEntry]) -> None:
        for at in range(0, len(beats), CAP_STARTS):
            beat(self._pool, beats[at : at + CAP_STARTS], caught_up=True)

    def _submit(self, new: Sequence[int]) -> None:
        answers = submit(self._pool, [self._tasks[i] for i in new])
        for i, answer in zip(new, answers, strict=True):
            if answer.outcome not in (Outcome.ACCEPTED, Outcome.BLOCKED):
                raise BalancerError(f"task {answer.task_id}: {answer.outcome} {answer.detail}")
            self._is_submitted[i] = True
            if not self._open[i]:
                self._note_ready(i)

    def _settle(self, over: Sequence[_Try]) -> None:
        for at in range(0, len(over), settle.CAP):
            some = over[at : at + settle.CAP]
            settled = settle.settle(
                self._pool, [completion_of(each.lease, each.took_us) for each in some]
            )
            if wrong := [word for word in settled.outcomes if word is not settle.Outcome.OK]:
                raise BalancerError(f"completions answered {', '.join(wrong)}")
            more = settled.release_due
            while more:
                more = release(self._pool).more
        for each in over:
            self._note_ended(each)

    def _note_ended(self, each: _Try) -> None:
        self._ended += 1
        self._end_us[each.task] = each.end_us
        self._free[self._fleet.agents[each.agent].role] += 1
        for child in self._trace.children[each.task]:
            self._open[child] -= 1
            if not self._open[child] and self._is_submitted[child]:
                self._note_ready(child)

    def _note_ready(self, i: int) -> None:
        self._ready_us[i] = self._now_us
        self._waiting[self._tasks[i].role] += 1

    def _drain(self) -> None:
        """View, plan, commit until nothing fits, as a drainer does; where nothing waits or nothing is free
        there is nothing to look at.
        """
        page = 0
        while any(waiting and self._free[role] for role, waiting in self._waiting.items()):
            view = self._viewer.view(page)
            proposals = self._planner.plan(view)
            if proposals:
                self._commit(proposals)
                if leaves_nothing(view, proposals):
                    return
            elif view.more:
                page += 1
            else:
                return

    def _commit(self, proposals: Sequence[Proposal]) -> None:
        for proposal, answer in zip(proposals, commit.commit(self._pool, proposals), strict=True):
            if answer.outcome is not commit.Outcome.ASSIGNED:  # nobody else is here
                raise BalancerError(f"task {proposal.task} to {proposal.agent}: {answer.outcome}")
            i, j = self._number[proposal.task], self._place[proposal.agent]
            role = self._tasks[i].role
            self._waiting[role] -= 1
            self._free[role] -= 1
            speed = self._fleet.agents[j].speeds[self._trace.category[i]]
            took_us = max(1, round(1e6 * self._trace.size_s[i] / speed))
            self._start_us[i], self._where[i] = self._now_us, j
            heapq.heappush(self._running, _Try(self._now_us + took_us, i, j, took_us, proposal))


def _seconds(moments_us: Sequence[int]) -> list[float]:
    """On the clock of the arrivals."""
    return [(moment_us - START_US) / 1e6 for moment_us in moments_us]
