"""Every script that writes, in a state in which its call does something. Add a row for a new script: a test
fails without one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from balancer.core.model import Priority
from balancer.core.settings import PoolSettings
from balancer.ledger import Pool, role_set
from balancer.ledger import beat as beats
from balancer.ledger import cancel as cancels
from balancer.ledger import commit as commits
from balancer.ledger import settle as settles
from balancer.ledger import submit as submits
from balancer.ledger.agent_set import Verb, agent_set
from balancer.ledger.configure import configure
from balancer.ledger.due import due
from balancer.ledger.expire import expire
from balancer.ledger.gc import gc
from balancer.ledger.pool import UNLOCK
from balancer.ledger.reclaim import reclaim
from balancer.ledger.recount import recount
from balancer.ledger.release import release
from balancer.ledger.reprioritise import reprioritise
from balancer.ledger.rescore import rescore
from balancer.ledger.retire import retire
from balancer.ledger.retry import retry
from balancer.ledger.tick import tick
from balancer.ledger.timeout import timeout
from balancer.ledger.view import Viewer
from tests.support.factories import (
    Clock,
    assign,
    beat,
    beat_entry,
    complete,
    completion_entry,
    heartbeat,
    later,
    make_task,
    nonce,
    proposal,
    submit,
)

#: One call of one script, the same each time.
Act = Callable[[Pool], object]
Prepare = Callable[[Pool, Clock], Act]


class Case(NamedTuple):
    """A call of a script. `counted`: counters of refused repeats, which a repeat may raise."""

    script: str
    what: str
    prepare: Prepare
    counted: frozenset[str] = frozenset()


CASES: list[Case] = []


def case(script: str, what: str = "", *counted: str) -> Callable[[Prepare], Prepare]:
    """Add a row to the table."""

    def add(prepare: Prepare) -> Prepare:
        CASES.append(Case(script, what or script, prepare, frozenset(counted)))
        return prepare

    return add


def _held(pool: Pool, *tasks: str, **facts: Any) -> None:
    """a1 of four units holds these tasks."""
    submit(pool, *(make_task(task, **facts) for task in tasks))
    beat(pool, max_concurrent=4)
    for task in tasks:
        assign(pool, task)


@case("init")
def _init(pool: Pool, clock: Clock) -> Act:
    pool.client.flushall()
    return lambda via: Pool.create(via.client, pool.name, clock=clock)


@case("submit")
def _submit(pool: Pool, _: Clock) -> Act:
    submit(pool, "parent")
    tasks = [
        make_task("t1", dedup_key="once"),
        make_task("t2", depends_on=("parent",)),
        make_task("t3", not_before=later(60), expires_at=later(90)),
    ]
    return lambda via: submits.submit(via, tasks)


@case("cancel")
def _cancel(pool: Pool, _: Clock) -> Act:
    submit(pool, "t1", "t2")
    return lambda via: cancels.cancel(via, ["t1"])


@case("cancel", "cancel what an agent holds")
def _cancel_held(pool: Pool, _: Clock) -> Act:
    _held(pool, "t1")
    return lambda via: cancels.cancel(via, ["t1"])


@case("retry")
def _retry(pool: Pool, _: Clock) -> Act:
    _held(pool, "t1", max_failures=1)
    complete(pool, "t1", "failed")
    return lambda via: retry(via, ["t1"])


@case("reprioritise")
def _reprioritise(pool: Pool, _: Clock) -> Act:
    submit(pool, "t1", "t2")
    return lambda via: reprioritise(via, ["t2"], Priority.CRITICAL)


@case("configure")
def _configure(pool: Pool, _: Clock) -> Act:
    submit(pool, "t1")
    settings = PoolSettings(strategy="fit")

    def act(via: Pool) -> object:
        via.settings_ver = 1  # as an exchange that has not heard the first answer
        return configure(via, settings)

    return act


@case("rescore")
def _rescore(pool: Pool, _: Clock) -> Act:
    submit(pool, "t1", "t2")
    configure(pool, PoolSettings(strategy="fit"))
    return rescore


@case("gc")
def _gc(pool: Pool, clock: Clock) -> Act:
    _held(pool, "t1", "t2", dedup_key=None)
    complete(pool, "t1")
    clock.advance(pool.settings.retention_s)
    return gc


@case("view", "view with the lock")
def _view(pool: Pool, _: Clock) -> Act:
    submit(pool, "t1")
    beat(pool)
    return lambda via: Viewer(via).locked_view("mine", 60_000)


@case("unlock")
def _unlock(pool: Pool, _: Clock) -> Act:
    pool.client.set(pool.keys.drain_lock, "mine")
    return lambda via: via.run(UNLOCK, ["mine"])


@case("commit")
def _commit(pool: Pool, _: Clock) -> Act:
    submit(pool, "t1", "t2")
    beat(pool, max_concurrent=4)
    pool.client.set(pool.keys.drain_lock, "mine")
    proposals = [proposal("t1"), proposal("t2")]
    return lambda via: commits.commit(via, proposals, "mine")


@case("beat", "heartbeat that joins", "pool heartbeats_stale")
def _beat_joins(pool: Pool, _: Clock) -> Act:
    entry = beat_entry(pool, heartbeat("a1"))
    return lambda via: beats.beat(via, [entry], caught_up=True)


@case("beat", "heartbeat that resumes", "pool heartbeats_stale")
def _beat_resumes(pool: Pool, _: Clock) -> Act:
    _held(pool, "t1")
    entry = beat_entry(
        pool, heartbeat("a1", 2, max_concurrent=4, start=True, held=(nonce("t1"),), seq=1)
    )
    return lambda via: beats.beat(via, [entry], caught_up=True)


@case("settle", "completed", "pool completions_duplicate")
def _settle(pool: Pool, _: Clock) -> Act:
    _held(pool, "t1")
    entry = completion_entry(pool, "t1", result="42")
    return lambda via: settles.settle(via, [entry])


@case("settle", "failed, to be tried again", "pool completions_duplicate")
def _settle_retry(pool: Pool, _: Clock) -> Act:
    _held(pool, "t1")
    entry = completion_entry(pool, "t1", "failed", error="no")
    return lambda via: settles.settle(via, [entry])


@case("settle", "failed for good", "pool completions_duplicate")
def _settle_dead(pool: Pool, _: Clock) -> Act:
    _held(pool, "t1", max_failures=1)
    entry = completion_entry(pool, "t1", "failed", error="no")
    return lambda via: settles.settle(via, [entry])


@case("settle", "rejected", "pool completions_duplicate")
def _settle_rejected(pool: Pool, _: Clock) -> Act:
    _held(pool, "t1")
    entry = completion_entry(pool, "t1", "rejected", error="not here")
    return lambda via: settles.settle(via, [entry])


@case("settle", "of a task being cancelled", "pool completions_duplicate")
def _settle_cancelled(pool: Pool, _: Clock) -> Act:
    _held(pool, "t1")
    cancels.cancel(pool, ["t1"])
    entry = completion_entry(pool, "t1", "cancelled")
    return lambda via: settles.settle(via, [entry])


@case("release")
def _release(pool: Pool, _: Clock) -> Act:
    _held(pool, "t1")
    submit(pool, make_task("t2", depends_on=("t1",)))
    complete(pool, "t1")
    return release


@case("reclaim")
def _reclaim(pool: Pool, clock: Clock) -> Act:
    _held(pool, "t1", "t2")
    clock.advance(60)
    beat(pool, "a2")
    return lambda via: reclaim(via, "a1")


@case("retire")
def _retire(pool: Pool, clock: Clock) -> Act:
    _held(pool, "t1", "t2")
    agent_set(pool, "a1", Verb.RETIRE, 10)
    clock.advance(10)
    beat(pool, max_concurrent=4)
    return lambda via: retire(via, "a1")


@case("timeout")
def _timeout(pool: Pool, clock: Clock) -> Act:
    _held(pool, "t1", "t2", run_timeout_s=1.0)
    clock.advance(60)
    return timeout


@case("due", "a retry")
def _due(pool: Pool, clock: Clock) -> Act:
    _held(pool, "t1")
    complete(pool, "t1", "failed")
    clock.advance(3_600)
    return due


@case("due", "a scheduled task")
def _due_scheduled(pool: Pool, clock: Clock) -> Act:
    submit(pool, make_task("t1", not_before=later(60)))
    clock.advance(60)
    return due


@case("expire")
def _expire(pool: Pool, clock: Clock) -> Act:
    submit(pool, make_task("t1", expires_at=later(60)))
    clock.advance(60)
    return expire


@case("tick")
def _tick(pool: Pool, clock: Clock) -> Act:
    clock.advance(5)
    return tick


@case("recount")
def _recount(pool: Pool, _: Clock) -> Act:
    _held(pool, "t1")
    pool.client.hset(pool.keys.agent("a1"), "n", 3)
    pool.client.hincrby(pool.keys.pool, "running", 2)
    pool.client.hincrby(pool.keys.role("dev"), "running", 2)
    return lambda via: recount(via, "a1")


def _queue(act: Act) -> Prepare:
    def prepare(pool: Pool, _: Clock) -> Act:
        submit(pool, "t1", "t2")
        return act

    return prepare


case("role_set", "pause a queue")(_queue(lambda via: role_set.pause(via, "dev")))
case("role_set", "purge a queue")(
    _queue(lambda via: via.run(role_set.SCRIPT, ["dev", "purge", "pending", 0, ""]))
)


@case("role_set", "resume a queue")
def _resume_queue(pool: Pool, _: Clock) -> Act:
    submit(pool, "t1")
    role_set.pause(pool, "dev")
    return lambda via: role_set.resume(via, "dev")


@case("agent_set", "pause an agent")
def _pause_agent(pool: Pool, _: Clock) -> Act:
    beat(pool)
    return lambda via: agent_set(via, "a1", Verb.PAUSE)


@case("agent_set", "resume an agent")
def _resume_agent(pool: Pool, _: Clock) -> Act:
    beat(pool)
    agent_set(pool, "a1", Verb.PAUSE)
    return lambda via: agent_set(via, "a1", Verb.RESUME)


@case("agent_set", "retire an agent")
def _retire_agent(pool: Pool, _: Clock) -> Act:
    _held(pool, "t1")
    return lambda via: agent_set(via, "a1", Verb.RETIRE, 60)


def scripts() -> Iterator[str]:
    """The scripts of the table."""
    return (case.script for case in CASES)
