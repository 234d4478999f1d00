"""What every benchmark is given: a Redis of its own, fresh pools, and the server's own clocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from balancer.core.settings import PoolSettings
from balancer.ledger import beat, cancel, commit, recount, release, settle, submit, timeout, view
from balancer.ledger import due as dues
from balancer.ledger import reclaim as reclaims
from balancer.ledger import tick as ticks
from balancer.ledger.audit import AGENTS, TASKS, TOTALS
from balancer.ledger.pool import Pool
from balancer.protocol import TextRedis, connect
from benchmarks.report import Figure

SCRIPTS = [
    *(module.SCRIPT for module in (submit, view, commit, settle, beat, release, reclaims, timeout)),
    *(module.SCRIPT for module in (dues, cancel, ticks, recount)),
    *(TOTALS, AGENTS, TASKS),
]


#: Emptying a Redis of a few hundred thousand tasks takes seconds on a busy machine.
PATIENCE_S = 60.0


def quiet() -> None:
    """No log lines between the figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))


class ServerClock:
    """How long Redis itself worked, by its own counters: inside scripts, and its whole process."""

    def __init__(self, client: TextRedis) -> None:
        self._client = client

    def script_us(self) -> float:
        """Time spent inside scripts so far."""
        return float(self._client.info("commandstats").get("cmdstat_evalsha", {}).get("usec", 0))

    def cpu_us(self) -> float:
        """CPU that the server has used so far, user and system."""
        cpu = self._client.info("cpu")
        return 1e6 * (float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]))


@dataclass
class Bench:
    """One run of the benchmarks."""

    url: str
    quick: bool
    client: TextRedis = field(init=False)
    clock: ServerClock = field(init=False)
    figures: list[Figure] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = connect(self.url, block_s=PATIENCE_S)
        self.clock = ServerClock(self.client)
        for script in SCRIPTS:
            self.client.script_load(script.text)

    def pick(self, full: int, quick: int) -> int:
        """How much of something: for a full run, or for a quick one."""
        return quick if self.quick else full

    @contextmanager
    def pool(self, settings: PoolSettings | None = None) -> Iterator[Pool]:
        """An empty pool, alone in an empty Redis; gone afterwards."""
        self.client.flushall()
        yield Pool.create(self.client, "bench", settings)
        self.client.flushall()

    def add(self, figure: Figure) -> None:
        """Keep a figure, and show that the run moves on."""
        self.figures.append(figure)


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved(
    calls: Sequence[Callable[[], float]], repetitions: int, warm: bool = True
) -> list[list[float]]:
    """Each call once a round, round after round, so that a noisy moment hits all alike."""
    results: list[list[float]] = [[] for _ in calls]
    if warm:
        for call in calls:
            call()
    for _ in range(repetitions):
        for into, call in zip(results, calls, strict=True):
            into.append(call())
    return results
