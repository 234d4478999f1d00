"""A replay through the real scripts and the real planner, in a pool whose clock is ours.

What a fleet does in hours happens here moment by moment: what ends is settled, what arrives is submitted,
then view, plan and commit go on until nothing more fits. Some things are left out, for they change no
decision: completions do not travel through their stream (the script that settles them is the same),
nobody else plans (so there is no lock), agents are silent after their first heartbeat (silence is
judged against heartbeats alone), and run timeouts are not enforced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from balancer.core.errors import BalancerError
from balancer.core.planner import NOBODY, Planner
from balancer.core.settings import PoolSettings
from balancer.core.view import beyond
from balancer.ledger import commit, settle
from balancer.ledger.beat import CAP_STARTS, beat
from balancer.ledger.exchange import Exchange, T
from balancer.ledger.pool import Pool
from balancer.ledger.release import CAP as RELEASES
from balancer.ledger.release import SCRIPT as RELEASE
from balancer.ledger.release import Released, release
from balancer.ledger.rescore import rescore
from balancer.ledger.submit import SCRIPT as SUBMIT
from balancer.ledger.submit import Outcome, Submitted, submit
from balancer.ledger.tick import tick
from balancer.ledger.view import SCRIPT as VIEW
from balancer.ledger.view import Viewer
from balancer.protocol import TextRedis
from balancer.simulate.books import START_US, Books, Try
from balancer.simulate.cast import completion_of, heartbeats, task_of
from balancer.simulate.engine import Run
from balancer.simulate.fleet import Fleet
from balancer.simulate.together import Begun, say
from balancer.simulate.trace import Trace

#: Sweepers come by every half second; here after so many completions.
SWEEP_EVERY = 20
#: No leap of this clock is an outage.
NO_GAP_MS = 2**53 - 1
#: Tasks read in one round trip; most calls that wait to be said.
_PAGE, _MOST_OWED = 1_000, 100

Tell = Callable[[int], None]


class Replayed(NamedTuple):
    """What became of each task, and what was expected of it at normal speed, seconds."""

    run: Run
    estimate_s: list[float]


def replay(
    client: TextRedis,
    settings: PoolSettings,
    trace: Trace,
    arrivals: Sequence[float],
    fleet: Fleet,
    *,
    learned: bool = False,
    foretold: bool = False,
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
        foretold: producers know how long each task takes, and say so.
        tell: is told how many more tasks have ended.

    Raises:
        BalancerError: the pool did what it never may: a bug.
    """
    played = _Replay(client, settings, trace, arrivals, fleet, learned=learned, foretold=foretold)
    return played.run(tell)


class _Replay:
    """One replay."""

    def __init__(
        self,
        client: TextRedis,
        settings: PoolSettings,
        trace: Trace,
        arrivals: Sequence[float],
        fleet: Fleet,
        *,
        learned: bool,
        foretold: bool,
    ) -> None:
        self._books = books = Books(trace, arrivals, fleet)
        self._pool = Pool.create(client, "simulated", settings, lambda: books.now_us)
        self._planner = Planner(settings)
        self._viewer = Viewer(self._pool, self._planner.pivot)
        self._tasks = [task_of(row, foretold=foretold) for row in trace.rows]
        self._children = trace.children
        #: How many tasks had ended when a sweeper last came by.
        self._swept = 0
        #: Calls that were made and not yet said, each with what holds its answer against what was expected.
        self._owed: list[tuple[Begun[Any], Callable[[], None]]] = []
        for script in (SUBMIT, settle.SCRIPT, RELEASE, VIEW, commit.SCRIPT):
            client.script_load(script.text)  # or calls of one round trip would be said twice
        beats = heartbeats(fleet, trace.categories, START_US // 1000, learned=learned)
        for at in range(0, len(beats), CAP_STARTS):
            beat(self._pool, beats[at : at + CAP_STARTS], caught_up=True)

    def run(self, tell: Tell) -> Replayed:
        """Moment by moment until the last task has ended."""
        books = self._books
        while not books.is_done:
            books.go_on()
            if over := books.pop_ended():
                self._settle(over)
                tell(len(over))
                if books.ended - self._swept >= SWEEP_EVERY:
                    self._sweep()
            if new := books.pop_arrived():
                tasks = [self._tasks[i] for i in new]
                self._owe(submit.steps(self._pool, tasks), _check_submitted)
            self._drain()
        self._say()
        return Replayed(books.run(), self._estimates_s())

    def _estimates_s(self) -> list[float]:
        """What each task was expected to take at normal speed when it was last given its place in the queue."""
        out: list[float] = []
        for at in range(0, len(self._tasks), _PAGE):
            pipe = self._pool.client.pipeline(transaction=False)
            for task in self._tasks[at : at + _PAGE]:
                pipe.hget(self._pool.keys.task(task.id), "e")
            out += [int(packed.partition("|")[0]) / 1000 for packed in pipe.execute()]
        return out

    def _settle(self, over: Sequence[Try]) -> None:
        for at in range(0, len(over), settle.CAP):
            done = [completion_of(each.lease, each.took_us) for each in over[at : at + settle.CAP]]
            self._owe(settle.settle.steps(self._pool, done), _check_settled)
        told = sum(len(self._children[each.task]) for each in over)
        if told:
            for _ in range((told + len(over)) // RELEASES):
                self._owe(release.steps(self._pool), lambda _released: None)
            self._owe(release.steps(self._pool), _check_released)

    def _sweep(self) -> None:
        """What a sweeper would do that changes decisions: what waits is scored anew where that is due."""
        self._swept = self._books.ended
        self._say()
        if tick(self._pool, gap_ms=NO_GAP_MS).rescore_due:
            while rescore(self._pool).more:
                pass

    def _drain(self) -> None:
        """View, plan, commit until nothing fits, as a drainer does; where nothing waits or nothing is free
        there is nothing to look at.
        """
        page, kept, looks, others = 0, NOBODY, 0, 0
        while self._books.may_fit:
            pivot = others or self._planner.pivot()
            look = Begun(self._viewer.looked(page, pivot=pivot))
            self._say(look)
            proposals, is_last, kept = self._planner.decide(
                look.answer, kept=kept if page else NOBODY
            )
            if proposals:
                self._owe(commit.commit.steps(self._pool, proposals), _check_committed)
                for proposal in proposals:
                    self._books.start(proposal)
                if is_last:
                    return
                looks = others = 0
            elif look.answer.more:
                page += 1
            elif (looks := looks + 1) < look.answer.looks:
                # A drainer comes by again before long, and sees other classes then.
                page, others = 0, beyond(pivot)
            else:
                return

    def _owe(self, exchange: Exchange[T], check: Callable[[T], None]) -> None:
        """A call whose answer is known beforehand, for nobody else is here: it is made now, by the pool's
        clock, and said with the next one that has to be waited for.
        """
        begun = Begun(exchange)
        self._owed.append((begun, lambda: check(begun.answer)))
        if len(self._owed) >= _MOST_OWED:
            self._say()

    def _say(self, *more: Begun[Any]) -> None:
        owed, self._owed = self._owed, []
        say(self._pool.client, [*(begun for begun, _ in owed), *more])
        for _, check in owed:
            check()


def _check_submitted(answers: Sequence[Submitted]) -> None:
    for answer in answers:
        if answer.outcome not in (Outcome.ACCEPTED, Outcome.BLOCKED):
            raise BalancerError(f"task {answer.task_id}: {answer.outcome} {answer.detail}")


def _check_settled(settled: settle.Settled) -> None:
    if wrong := set(settled.outcomes) - {settle.Outcome.OK}:
        raise BalancerError(f"completions answered {', '.join(wrong)}")


def _check_released(released: Released) -> None:
    if released.more:
        raise BalancerError("children of ended tasks were not told of it")


def _check_committed(answers: Sequence[commit.Committed]) -> None:
    if wrong := {answer.outcome for answer in answers} - {commit.Outcome.ASSIGNED}:
        raise BalancerError(f"proposals answered {', '.join(wrong)}")
