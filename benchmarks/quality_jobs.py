"""What is replayed, and the processes that do it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from balancer.simulate.experiment import Outcome, Scenario, document, simulate
from balancer.simulate.load import flattened
from balancer.simulate.pure import CLAIRVOYANT
from balancer.simulate.trace import Trace, load_trace
from benchmarks.harness import quiet
from benchmarks.quality_goals import EARLY, HIGH_LOAD, OURS, PLAIN_QUEUE, SCORES
from benchmarks.quality_points import KINDS, LOADS

SEEDS = (1, 2, 3)
#: Of these the growth over years is taken out: so many pieces with equal work a second.
BLOCKS = {"jira": 24}
#: How much of a trace a quick run replays, with the first seed alone.
QUICK_TASKS = 3_000


class Found(NamedTuple):
    """A trace of the folder."""

    path: Path
    blocks: int


@dataclass(frozen=True)
class Job:
    """One trace, one load, one fleet: what a process does at a time."""

    found: Found
    limit: int | None
    scenario: Scenario
    strategies: tuple[str, ...]
    seed: int


def find(folder: Path, only: str = "") -> tuple[list[Found], list[str]]:
    """The traces that are there, and the kinds that are not."""
    there: list[Found] = []
    lacking: list[str] = []
    for kind in KINDS:
        files = sorted(folder.glob(f"{kind}*.csv")) + sorted(folder.glob(f"{kind}*.csv.gz"))
        there += [Found(path, BLOCKS.get(kind, 0)) for path in files if only in path.name]
        if not files:
            lacking.append(kind)
    return there, lacking


def jobs_of(there: Sequence[Found], *, learned: bool, quick: bool) -> Iterator[Job]:
    """Everything that is to be replayed."""
    for found in there:
        for load in LOADS:
            for equal in (False, True):
                scenario = Scenario(load, equal_agents=equal)
                for each, strategies in _plans(scenario, learned=learned):
                    for seed in SEEDS[:1] if quick else SEEDS:
                        yield Job(found, QUICK_TASKS if quick else None, each, strategies, seed)


def _plans(scenario: Scenario, *, learned: bool) -> Iterator[tuple[Scenario, tuple[str, ...]]]:
    """Which strategies one load and one kind of fleet is replayed under."""
    is_high, unlike = scenario.load == HIGH_LOAD, not scenario.equal_agents
    if learned:
        yield replace(scenario, learned=True), (OURS, PLAIN_QUEUE)
        if is_high and unlike:
            yield scenario, (OURS, PLAIN_QUEUE)
        return
    more = (*CLAIRVOYANT, *(SCORES if is_high else ())) if unlike else ()
    yield scenario, (OURS, PLAIN_QUEUE, *EARLY, *more)


@lru_cache(maxsize=2)
def trace_of(found: Found, limit: int | None) -> Trace:
    """Its tasks, as they are replayed."""
    trace = load_trace(found.path, limit)
    return flattened(trace, found.blocks) if found.blocks else trace


def run(job: Job) -> Outcome:
    """What a process does."""
    quiet()
    outcome = simulate(trace_of(job.found, job.limit), job.scenario, job.strategies, job.seed)
    return outcome._replace(bound=replace(outcome.bound, release_s=[]))  # too long to be sent


def cells_of(jobs: Sequence[Job], workers: int) -> list[dict[str, Any]]:
    """What `balancer simulate --json` would say of each trace, load and kind of fleet.

    Raises:
        BalancerError: a trace is none, or there is no redis-server.
    """
    done: dict[Job, Outcome] = {}
    # The longest first, so that the processes end together.
    ordered = sorted(jobs, key=lambda job: -len(trace_of(job.found, job.limit)))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        ProcessPoolExecutor(workers) as processes,
        Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar,
    ):
        shown = bar.add_task("replays", total=len(jobs))
        futures = {processes.submit(run, job): job for job in ordered}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                bar.advance(shown)
        except BaseException:
            processes.shutdown(wait=False, cancel_futures=True)
            raise
    groups: dict[tuple[Found, Scenario], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.found, job.scenario), []).append(job)
    return [_cell(group, [done[job] for job in group]) for group in groups.values()]


def _cell(group: Sequence[Job], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    first = group[0]
    trace = trace_of(first.found, first.limit)
    seeds = [job.seed for job in group]
    return document(trace, first.scenario, first.strategies, seeds, outcomes)
