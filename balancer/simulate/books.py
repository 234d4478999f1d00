"""What a replay knows of its own: what waits, what runs and until when, which units are free. No Redis."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from balancer.core.errors import BalancerError, InvalidInput
from balancer.core.planner import Proposal
from balancer.simulate.engine import Run
from balancer.simulate.fleet import Fleet
from balancer.simulate.trace import Trace

#: When the clock of the pool starts, microseconds since 1970.
START_US = 1_800_000_000_000_000
#: How long a replay may last, seconds (158 years): scripts count microseconds exactly up to 2^53, and some look ahead.
LONGEST_S = 5_000_000_000


class Try(NamedTuple):
    """A task that runs. The first that ends is the smallest."""

    end_us: int
    task: int
    agent: int
    took_us: int
    lease: Proposal


class Books:
    """Tasks and agents by their places in trace and fleet; moments in microseconds of the pool's clock.

    Raises:
        InvalidInput: a task arrives, or ends, beyond what the clock of a pool can tell.
    """

    def __init__(self, trace: Trace, arrivals: Sequence[float], fleet: Fleet) -> None:
        self.now_us = START_US
        #: Tasks that have ended.
        self.ended = 0
        self._trace, self._fleet = trace, fleet
        self._task = {row.id: i for i, row in enumerate(trace.rows)}
        self._agent = {agent.id: j for j, agent in enumerate(fleet.agents)}
        self._open = [len(parents) for parents in trace.parents]
        for row, at_s in zip(trace.rows, arrivals, strict=True):
            _check_moment("arrival_s", row.line, row.arrival_s, "early that the task arrives", at_s)
        arrival_us = [START_US + round(1e6 * at) for at in arrivals]
        self._line, self._submitted = submissions(trace, arrival_us), 0
        self._is_submitted = [False] * len(trace)
        self._running: list[Try] = []
        self._waiting, self._free = Counter[str](), Counter[str]()
        for agent in fleet.agents:
            self._free[agent.role] += agent.slots
        self._ready_us, self._start_us = arrival_us, [0] * len(trace)
        self._end_us, self._where = [0] * len(trace), [-1] * len(trace)

    @property
    def is_done(self) -> bool:
        """Whether every task has ended."""
        return self.ended == len(self._trace)

    @property
    def may_fit(self) -> bool:
        """Whether any role has both a task that waits and a free unit."""
        return any(waiting and self._free[role] for role, waiting in self._waiting.items())

    def go_on(self) -> None:
        """Put the clock to the moment at which something happens next.

        Raises:
            BalancerError: nothing ever will, and not all tasks have ended.
        """
        moments = [self._running[0].end_us] if self._running else []
        if self._submitted < len(self._line):
            moments.append(self._line[self._submitted][0])
        if not moments:
            left = len(self._trace) - self.ended
            raise BalancerError(f"the replay stands still: {left} tasks wait and nothing runs")
        self.now_us = min(moments)

    def pop_ended(self) -> list[Try]:
        """What ends now; its children may be ready."""
        over = []
        while self._running and self._running[0].end_us <= self.now_us:
            over.append(each := heapq.heappop(self._running))
            self.ended += 1
            self._end_us[each.task] = each.end_us
            self._free[self._fleet.agents[each.agent].role] += 1
            for child in self._trace.children[each.task]:
                self._open[child] -= 1
                if self._is_submitted[child]:
                    self._note_ready(child)
        return over

    def pop_arrived(self) -> list[int]:
        """The tasks that are submitted now."""
        new = []
        while self._submitted < len(self._line) and self._line[self._submitted][0] <= self.now_us:
            task = self._line[self._submitted][1]
            self._submitted += 1
            self._is_submitted[task] = True
            self._note_ready(task)
            new.append(task)
        return new

    def start(self, lease: Proposal) -> None:
        """A task begins on an agent, and takes it as long as the trace and its speed say."""
        task, agent = self._task[lease.task], self._agent[lease.agent]
        role = self._trace.role[task]
        self._waiting[role] -= 1
        self._free[role] -= 1
        speed = self._fleet.agents[agent].speeds[self._trace.category[task]]
        took_us = max(1, round(1e6 * self._trace.size_s[task] / speed))
        row, end_s = self._trace.rows[task], (self.now_us - START_US + took_us) / 1e6
        _check_moment("duration_s", row.line, row.duration_s, "short that the task ends", end_s)
        self._start_us[task], self._where[task] = self.now_us, agent
        heapq.heappush(self._running, Try(self.now_us + took_us, task, agent, took_us, lease))

    def run(self) -> Run:
        """What became of each task, on the clock of the arrivals."""
        return Run(
            _seconds(self._ready_us), _seconds(self._start_us), _seconds(self._end_us), self._where
        )

    def _note_ready(self, task: int) -> None:
        if not self._open[task]:
            self._ready_us[task] = self.now_us
            self._waiting[self._trace.role[task]] += 1


def submissions(trace: Trace, arrival_us: Sequence[int]) -> list[tuple[int, int]]:
    """When each task is submitted, in order: as it arrives, but after its parents, whom the pool has to
    know. It could not have been ready before them.
    """
    at, depth = list(arrival_us), [0] * len(arrival_us)
    open_ = [len(parents) for parents in trace.parents]
    known = [task for task, parents in enumerate(open_) if not parents]
    for task in known:  # grows while it is gone through
        for child in trace.children[task]:
            at[child] = max(at[child], at[task])
            depth[child] = max(depth[child], depth[task] + 1)
            open_[child] -= 1
            if not open_[child]:
                known.append(child)
    return [
        (at[task], task) for task in sorted(known, key=lambda task: (at[task], depth[task], task))
    ]


def _seconds(moments_us: Sequence[int]) -> list[float]:
    return [(moment_us - START_US) / 1e6 for moment_us in moments_us]


def _check_moment(field: str, line: int, value: float, so: str, moment_s: float) -> None:
    if not moment_s <= LONGEST_S:
        raise InvalidInput(
            f"line {line}: {field} is {value:g}, must be: so {so} within {LONGEST_S:,} s at this load,"
            f" not after {moment_s:,.0f} s"
        )
