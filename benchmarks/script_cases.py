"""Each script at its cap: what must be there, and the one call that is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice

from balancer.core.model import Mode, Priority, Task
from balancer.core.planner import Planner, Proposal
from balancer.ledger import (
    beat,
    cancel,
    commit,
    expire,
    gc,
    recount,
    release,
    reprioritise,
    retry,
    role_set,
    settle,
    submit,
    timeout,
)
from balancer.ledger import due as due_
from balancer.ledger import reclaim as reclaim_
from balancer.ledger import tick as tick_
from balancer.ledger.audit import AGENTS, TASKS, TOTALS
from balancer.ledger.pool import Pool
from balancer.ledger.view import Viewer
from balancer.protocol import Heartbeat, Status
from benchmarks import fleet

Prepare = Callable[[], Callable[[], object]]
FLEET = 1_000


def _agents(pool: Pool, n: int = FLEET) -> list[Heartbeat]:
    beats = [fleet.heartbeat(i) for i in range(n)]
    fleet.join(pool, beats)
    return beats


def submits(pool: Pool, _calls: int) -> Prepare:
    source = fleet.tasks()
    return lambda: partial(submit.submit, pool, list(islice(source, submit.CAP)))


def views(pool: Pool, _calls: int) -> Prepare:
    _agents(pool)
    fleet.fill(pool, 10_000)
    return lambda: Viewer(pool).view


def wide_views(pool: Pool, _calls: int) -> Prepare:
    fleet.join(
        pool,
        [fleet.agent(f"agent-{i}", 1 + i % 64, "dev", (f"s{i // 64 % 4}",)) for i in range(512)],
    )
    submit.submit(pool, [Task(role="dev", category=f"c{i % 64}") for i in range(1_000)])
    return lambda: Viewer(pool).view


def failed_views(pool: Pool, _calls: int) -> Prepare:
    """Each task in a lane of its own, as it failed on six agents."""
    fleet.join(
        pool,
        [fleet.agent(f"agent-{i}", 1 + i % 64, "dev", (f"s{i // 64 % 4}",)) for i in range(1_024)],
    )
    submit.submit(pool, [Task(role="dev", max_failures=90) for _ in range(64)])
    for attempt in range(1, 7):
        _settling(pool, fleet.assign(pool, 64), Status.FAILED, attempt)()
        time.sleep(0.05)
        due_.due(pool)
    return lambda: Viewer(pool).view


def many_roles(pool: Pool, _calls: int) -> Prepare:
    fleet.join(pool, [fleet.agent(f"agent-{i}", 5, f"role-{i % 20}") for i in range(2_000)])
    submit.submit(pool, [Task(role=f"role-{i % 20}") for i in range(4_000)])
    return lambda: Viewer(pool).view


def commits(pool: Pool, calls: int) -> Prepare:
    # One class: a plan then finds as many fresh agents as it may propose. One size: it takes from all lanes alike, and
    # ends at no lane of which it has seen all that it was shown.
    fleet.join(pool, [fleet.agent(f"agent-{i}", 10) for i in range(FLEET)])
    fleet.fill(pool, 128 * calls + 1_000, "dev", estimate_s=60)
    viewer, planner = Viewer(pool), Planner(pool.settings)

    def prepare() -> Callable[[], object]:
        proposals = planner.plan(viewer.view())
        if len(proposals) != commit.CAP:
            raise RuntimeError(f"{len(proposals)} proposals")
        return partial(commit.commit, pool, proposals)

    return prepare


def _settling(
    pool: Pool, leases: list[Proposal], status: Status, attempt: int = 1
) -> Callable[[], object]:
    done = [fleet.completion(lease, status, attempt) for lease in leases]
    entries = [pool.client.xadd(pool.keys.completions, one.fields()) for one in done]
    pairs = zip(entries, done, strict=True)
    return partial(settle.settle, pool, [settle.CompletionEntry(*pair) for pair in pairs])


def settles(pool: Pool, calls: int) -> Prepare:
    _agents(pool)
    fleet.fill(pool, settle.CAP * calls)
    return lambda: _settling(pool, fleet.assign(pool, settle.CAP), Status.COMPLETED)


def beats(pool: Pool, _calls: int) -> Prepare:
    fleet_ = _agents(pool, beat.CAP)
    seq = iter(range(2, 10_000))

    def prepare() -> Callable[[], object]:
        number, ms = next(seq), int(time.time() * 1000)
        entries = [
            beat.BeatEntry(f"{ms}-{i}", one.model_copy(update={"seq": number}))
            for i, one in enumerate(fleet_)
        ]
        return partial(beat.beat, pool, entries, caught_up=True)

    return prepare


def joins(pool: Pool, calls: int) -> Prepare:
    numbers = iter(range(calls))

    def prepare() -> Callable[[], object]:
        first, ms = beat.CAP * next(numbers), int(time.time() * 1000)
        new = [fleet.heartbeat(first + i) for i in range(beat.CAP)]
        entries = [beat.BeatEntry(f"{ms}-{i}", one) for i, one in enumerate(new)]
        return partial(beat.beat, pool, entries, caught_up=True)

    return prepare


def releases(pool: Pool, calls: int) -> Prepare:
    _agents(pool)
    for i in range(calls):
        submit.submit(pool, [Task(id=f"parent-{i}", role="dev")])
        parent = (f"parent-{i}",)
        submit.submit(pool, [Task(role="ops", depends_on=parent) for _ in range(200)])
    parents = iter(fleet.assign(pool, calls))

    def prepare() -> Callable[[], object]:
        fleet.finish(pool, [next(parents)])
        return partial(release.release, pool)

    return prepare


def reclaims(pool: Pool, calls: int) -> Prepare:
    numbers = iter(range(calls))

    def prepare() -> Callable[[], object]:
        agent = fleet.agent(f"agent-{next(numbers)}", 200)
        fleet.join(pool, [agent])
        fleet.fill(pool, 200 - pool.client.zcard(pool.keys.pending("dev")), "dev")
        fleet.assign(pool, 200)
        fleet.join(pool, [agent.model_copy(update={"seq": 2, "mode": Mode.STOPPED})])
        return partial(reclaim_.reclaim, pool, agent.agent)

    return prepare


def timeouts(pool: Pool, calls: int) -> Prepare:
    _agents(pool)
    n = 200 * calls
    submit.submit(pool, [Task(role="dev", run_timeout_s=1) for _ in range(n // 2)])
    submit.submit(pool, [Task(role="ops", run_timeout_s=1) for _ in range(n - n // 2)])
    fleet.assign(pool, n)
    time.sleep(1.1)
    return lambda: partial(timeout.timeout, pool, 0)


def dues(pool: Pool, calls: int) -> Prepare:
    _agents(pool)
    fleet.fill(pool, 200 * calls)
    for _ in range(2 * calls):
        _settling(pool, fleet.assign(pool, 100), Status.FAILED)()
    time.sleep(0.01)
    return lambda: partial(due_.due, pool)


def expires(pool: Pool, calls: int) -> Prepare:
    submit.submit(pool, [Task(role="dev", max_wait_s=0.001) for _ in range(200 * calls)])
    time.sleep(0.01)
    return lambda: partial(expire.expire, pool)


def purges(pool: Pool, _calls: int) -> Prepare:
    def prepare() -> Callable[[], object]:
        submit.submit(pool, [Task(role="dev") for _ in range(200)])
        return partial(pool.run, role_set.SCRIPT, ["dev", "purge", "pending", 0, ""])

    return prepare


def cancels(pool: Pool, _calls: int) -> Prepare:
    source = fleet.tasks()

    def prepare() -> Callable[[], object]:
        page = list(islice(source, cancel.CAP))
        submit.submit(pool, page)
        return partial(cancel.cancel, pool, [task.id for task in page])

    return prepare


def cancels_of_running(pool: Pool, calls: int) -> Prepare:
    _agents(pool)
    fleet.fill(pool, cancel.CAP * calls)

    def prepare() -> Callable[[], object]:
        ids = [lease.task for lease in fleet.assign(pool, cancel.CAP)]
        return partial(cancel.cancel, pool, ids)

    return prepare


def _dead(pool: Pool, count: int) -> list[str]:
    """So many tasks that failed for good."""
    tasks = [Task(role="dev", max_failures=1) for _ in range(count)]
    submit.submit(pool, tasks)
    for _ in range(count // settle.CAP):
        _settling(pool, fleet.assign(pool, settle.CAP), Status.FAILED)()
    return [task.id for task in tasks]


def retries(pool: Pool, calls: int) -> Prepare:
    _agents(pool)
    ids = iter(_dead(pool, retry.CAP * calls))
    return lambda: partial(retry.retry, pool, list(islice(ids, retry.CAP)))


def moves(pool: Pool, _calls: int) -> Prepare:
    source = fleet.tasks()
    priorities = cycle(Priority)

    def prepare() -> Callable[[], object]:
        page, priority = list(islice(source, reprioritise.CAP)), next(priorities)
        submit.submit(
            pool, [task.model_copy(update={"priority": next(priorities)}) for task in page]
        )
        return partial(reprioritise.reprioritise, pool, [task.id for task in page], priority)

    return prepare


def forgets(pool: Pool, calls: int) -> Prepare:
    _agents(pool)
    _dead(pool, gc.CAP * calls)
    return lambda: partial(pool.run, gc.SCRIPT, [0, 0])


def ticks(pool: Pool, _calls: int) -> Prepare:
    _agents(pool)
    return lambda: partial(tick_.tick, pool)


def recounts(pool: Pool, _calls: int) -> Prepare:
    fleet.join(pool, [fleet.agent("agent-0", 1_000)])
    fleet.fill(pool, 1_000, "dev")
    fleet.assign(pool, 1_000)
    return lambda: partial(recount.recount, pool, "agent-0")


def audits(pool: Pool, _calls: int) -> Prepare:
    _agents(pool)
    fleet.fill(pool, 1_000)
    return lambda: partial(pool.run, TOTALS)


def agent_audits(pool: Pool, _calls: int) -> Prepare:
    _agents(pool, 100)
    fleet.fill(pool, 300)
    fleet.assign(pool, 300)
    return lambda: partial(pool.run, AGENTS, [f"agent-{i}" for i in range(100)])


def task_audits(pool: Pool, _calls: int) -> Prepare:
    _agents(pool)
    fleet.fill(pool, 200)
    ids = [lease.task for lease in fleet.assign(pool, 200)]
    return lambda: partial(pool.run, TASKS, ids)
