"""How long each script keeps Redis busy at its cap. Everybody else waits meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from balancer.core.settings import PoolSettings
from balancer.ledger.pool import Pool
from benchmarks import script_cases as cases
from benchmarks.aims import SCRIPT_MS
from benchmarks.harness import Bench
from benchmarks.report import Figure

#: Prepares one call, untimed; gives the call.
Prepare = Callable[[], Callable[[], object]]


class Case(NamedTuple):
    """One script at its cap: sets the pool up for so many calls."""

    name: str
    set_up: Callable[[Pool, int], Prepare]


CASES = [
    Case("submit, 200 tasks", cases.submits),
    Case("view, 128 units of 1,000 agents", cases.views),
    Case("view, 64 lanes, 256 classes, 512 agents", cases.wide_views),
    Case("view, 64 lanes of failed tasks, 256 classes", cases.failed_views),
    Case("view, 20 roles of 100 agents", cases.many_roles),
    Case("commit, 128 proposals", cases.commits),
    Case("settle, 100 completions", cases.settles),
    Case("beat, 100 heartbeats", cases.beats),
    Case("beat, 100 agents join", cases.joins),
    Case("release, 200 children", cases.releases),
    Case("reclaim, 150 leases", cases.reclaims),
    Case("timeout, 50 leases", cases.timeouts),
    Case("due, 100 retries", cases.dues),
    Case("expire, 200 tasks", cases.expires),
    Case("role_set, 200 tasks purged", cases.purges),
    Case("cancel, 200 tasks", cases.cancels),
    Case("cancel, 200 tasks that run", cases.cancels_of_running),
    Case("retry, 200 tasks", cases.retries),
    Case("reprioritise, 200 tasks", cases.moves),
    Case("gc, 200 tasks", cases.forgets),
    Case("tick, 1,000 agents", cases.ticks),
    Case("recount, 1,000 leases", cases.recounts),
    Case("audit, totals", cases.audits),
    Case("audit_agents, 100 agents", cases.agent_audits),
    Case("audit_tasks, 200 tasks", cases.task_audits),
]


def run(bench: Bench) -> None:
    """Add the server time of every script, by the server's own clock."""
    calls = bench.pick(15, 4)
    for name, set_up in CASES:
        with bench.pool(PoolSettings(retry_delay_s=0.001, max_losses=100)) as pool:
            prepare = set_up(pool, calls)
            values = []
            for _ in range(calls):
                call = prepare()
                bench.client.config_resetstat()
                call()
                values.append(bench.clock.script_us() / 1e3)
        bench.add(Figure("scripts", name, "ms", values, SCRIPT_MS))
