"""How good decisions are: recorded workloads replayed through the real scripts and the real planner, beside
what queues and routers without a balancer make of them. `python -m benchmarks.quality --traces FOLDER`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from balancer.core.errors import BalancerError
from balancer.simulate.experiment import BASELINE, Outcome, Scenario, document, simulate
from balancer.simulate.load import flattened
from balancer.simulate.pure import CLAIRVOYANT
from balancer.simulate.trace import Trace, load_trace
from benchmarks import decisions, goals, reference
from benchmarks.harness import quiet

#: The traces by the beginning of their names, with the pieces into which growth over years is flattened.
KINDS = {
    "copilot_agent": 0,
    "azure_llm": 0,
    "mooncake_conv": 0,
    "alibaba_gpu_pods": 0,
    "wfinstances_dag": 0,
    "jira_issues_effort": 24,
}
LOADS, SEEDS = (0.6, 0.8, 0.95), (1, 2, 3)
#: Where best_match, and the score of the first seed, are looked at.
HEAVY = 0.95
QUEUES = ("jsq", "po2", "early_random", "early_rr")
QUICK_TASKS = 3_000
RESULTS = Path(__file__).parent / "results" / "quality.json"


class Found(NamedTuple):
    """A trace of the folder."""

    path: Path
    blocks: int


@dataclass(frozen=True)
class Job:
    """One fleet, one load: what one process does at a time."""

    found: Found
    limit: int | None
    scenario: Scenario
    strategies: tuple[str, ...]
    seed: int


def find(folder: Path, only: str) -> tuple[list[Found], list[str]]:
    """The traces that are there, and the kinds that are not."""
    there: list[Found] = []
    absent: list[str] = []
    for kind, blocks in KINDS.items():
        files = sorted(path for path in folder.glob(f"{kind}*.csv*") if only in path.name)
        there += [Found(path, blocks) for path in files]
        if not files:
            absent.append(kind)
    return there, absent


def jobs_of(there: Sequence[Found], *, learned: bool, quick: bool) -> Iterator[Job]:
    """Everything that is to be replayed."""
    limit, seeds = (QUICK_TASKS, SEEDS[:1]) if quick else (None, SEEDS)
    for found in there:
        for load in LOADS:
            for equal in (False, True):
                for scenario, strategies in _plans(
                    Scenario(load, equal_agents=equal), learned=learned
                ):
                    for seed in seeds:
                        yield Job(found, limit, scenario, strategies, seed)


def _plans(scenario: Scenario, *, learned: bool) -> Iterator[tuple[Scenario, tuple[str, ...]]]:
    """What is asked of one load and one kind of fleet."""
    heavy, unlike = scenario.load == HEAVY, not scenario.equal_agents
    if learned:
        yield replace(scenario, learned=True), ("fit", BASELINE)
        if heavy:
            yield scenario, ("fit", BASELINE)
        return
    more = (*CLAIRVOYANT, *(("best_match", "seed") if heavy else ())) if unlike else ()
    yield scenario, ("fit", BASELINE, *QUEUES, *more)


@lru_cache(maxsize=1)
def _trace(found: Found, limit: int | None) -> Trace:
    trace = load_trace(found.path, limit)
    return flattened(trace, found.blocks) if found.blocks else trace


def run(job: Job) -> Outcome:
    """In a process of its own."""
    quiet()
    outcome = simulate(_trace(job.found, job.limit), job.scenario, job.strategies, job.seed)
    return outcome._replace(bound=replace(outcome.bound, release_s=[]))


def cells(jobs: Sequence[Job], workers: int) -> list[dict[str, Any]]:
    """What `balancer simulate --json` would say of each trace, load and kind of fleet."""
    done: dict[Job, Outcome] = {}
    # The longest first, so that the last ones end together; of one trace one after the other, so that it is read once.
    ordered = sorted(jobs, key=lambda job: (-job.found.path.stat().st_size, job.found.path))
    with _bar() as bar, ProcessPoolExecutor(workers) as processes:
        task = bar.add_task("replays", total=len(jobs))
        futures = {processes.submit(run, job): job for job in ordered}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                bar.advance(task)
        except BaseException:
            processes.shutdown(cancel_futures=True)
            raise
    groups: dict[tuple[Found, Scenario], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.found, job.scenario), []).append(job)
    return [
        document(
            _trace(found, group[0].limit),
            scenario,
            group[0].strategies,
            [job.seed for job in group],
            [done[job] for job in group],
        )
        for (found, scenario), group in groups.items()
    ]


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))


def main() -> int:
    """Replay, compare, judge. 0: no goal was missed; 1: one was; 2: there is nothing to replay."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--traces", type=Path, required=True, help="a folder of traces")
    parser.add_argument("--only", default="", help="traces whose file name holds this")
    parser.add_argument("--quick", action="store_true", help="3,000 tasks, one seed, no verdict")
    parser.add_argument(
        "--learned", action="store_true", help="agents do not say how fast they are"
    )
    parser.add_argument("--reference", type=Path, nargs="*", default=[], help="files or folders")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, default=RESULTS, help="default: %(default)s")
    chosen = parser.parse_args()
    quiet()
    start = time.monotonic()
    there, absent = find(chosen.traces, chosen.only)
    if absent and not chosen.only:
        tell(f"not in {chosen.traces}: {', '.join(absent)}")
    if not there:
        tell(f"no trace in {chosen.traces}: TRACES=FOLDER names where they are")
        return 2
    try:
        known = reference.read(chosen.reference)
        jobs = list(jobs_of(there, learned=chosen.learned, quick=chosen.quick))
        found = cells(jobs, chosen.workers)
    except BalancerError as error:
        tell(str(error))
        return 2
    decision_ms = None if chosen.quick or chosen.learned else decisions.measure()
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    report = {"quick": chosen.quick, "absent": absent, "decision_ms": decision_ms, "cells": found}
    chosen.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(table(found))
    if known:
        print(reference.compared(found, known))
    missed = 0
    if not chosen.quick:
        verdicts = goals.judge(found, decision_ms)
        print(goals.table(verdicts))
        missed = sum(verdict.is_missed for verdict in verdicts)
    minutes = (time.monotonic() - start) / 60
    print(f"\n{minutes:.0f} min; JSON: {chosen.json}")
    return 1 if missed else 0


def tell(text: str) -> None:
    """A line for whoever sits there."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def table(found: Sequence[dict[str, Any]]) -> str:
    """Mean flow of each strategy in units of the bound, and of `fit` against the baseline."""
    lines = [
        "| trace | load | agents | strategy | flow / bound | flow / fifo_pull | weighted | high wait | p99 wait | max wait | makespan / bound |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in found:
        base = cell["strategies"][BASELINE]
        agents = "equal" if cell["equal_agents"] else f"gain {cell['gain']:g}"
        agents += ", learned" if cell["learned"] else ""
        for name, row in cell["strategies"].items():
            against = (
                _ratio(row[key], base[key])
                for key in (
                    "mean_flow_s",
                    "weighted_flow_s",
                    "high_wait_s",
                    "p99_wait_s",
                    "max_wait_s",
                )
            )
            cells_ = (
                cell["trace"], f"{cell['load']:g}", agents, name, f"{row['flow_over_bound']:.2f}",
                *against, f"{row['makespan_over_bound']:.2f}",
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells_)} |")
    return "\n".join(lines)


def _ratio(value: float | None, base: float | None) -> str:
    return f"{value / base:.2f}" if value is not None and base else "-"


if __name__ == "__main__":
    sys.exit(main())
