"""The whole life: submitted, assigned, carried out, settled. One balancer process; 50 agents of 10
units in one more.
"""

from __future__ import annotations

import time

from balancer.protocol import Heartbeat
from benchmarks import fleet
from benchmarks.aims import END_TO_END, REDIS_CPU_US
from benchmarks.harness import Bench
from benchmarks.processes import balance, carry_out, running
from benchmarks.report import Figure, median

AGENTS, UNITS = 50, 10
DEADLINE_S = 120


def run(bench: Bench) -> None:
    """Add the rate of the closed loop and what each task costs Redis over its whole life."""
    n = bench.pick(20_000, 3_000)
    rounds = [_loop(bench, n) for _ in range(bench.pick(5, 3))]
    rates, cpu_submit, cpu_rest = (list(column) for column in zip(*rounds, strict=True))
    name = f"{n:,} waiting tasks, {AGENTS} agents of {UNITS} units"
    bench.add(Figure("end to end", name, "/s", rates, END_TO_END))
    whole = [a + b for a, b in zip(cpu_submit, cpu_rest, strict=True)]
    parts = {"submit us": median(cpu_submit), "the rest us": median(cpu_rest)}
    bench.add(Figure("end to end", "Redis CPU per task", "us", whole, REDIS_CPU_US, parts))


def _loop(bench: Bench, n: int) -> tuple[float, float, float]:
    """Tasks a second; Redis CPU of submitting and of the rest, microseconds per task."""
    beats = [_heartbeat(i) for i in range(AGENTS)]
    names = [beat.agent for beat in beats]
    with (
        bench.pool() as pool,
        running(balance, bench.url, pool.name),
        running(carry_out, bench.url, pool.name, names),
    ):
        before = bench.clock.cpu_us()
        fleet.fill(pool, n)
        submitted, start = bench.clock.cpu_us(), time.perf_counter()
        pipe = pool.client.pipeline(transaction=False)
        for beat in beats:
            pipe.xadd(pool.keys.heartbeats, beat.fields())
        pipe.execute()
        while pool.client.zcard(pool.keys.completed) < n:
            time.sleep(0.01)
            if time.perf_counter() - start > DEADLINE_S:
                raise RuntimeError(f"{n} tasks did not complete within {DEADLINE_S} s")
        rate = n / (time.perf_counter() - start)
        return rate, (submitted - before) / n, (bench.clock.cpu_us() - submitted) / n


def _heartbeat(number: int) -> Heartbeat:
    role = list(fleet.CATEGORIES)[number % len(fleet.CATEGORIES)]
    special = fleet.CATEGORIES[role][number % 4 : number % 4 + 1]
    return fleet.agent(f"agent-{number}", UNITS, role, special, start=True)
