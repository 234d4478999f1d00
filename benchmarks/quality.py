"""How good decisions are: recorded workloads replayed through the real scripts and the real planner, beside
what queues and routers without a balancer make of them. `python -m benchmarks.quality --traces FOLDER`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from balancer.core.errors import BalancerError
from benchmarks import decisions
from benchmarks.harness import quiet
from benchmarks.quality_estimates import online_correlation
from benchmarks.quality_goals import judge, judge_learned
from benchmarks.quality_jobs import Found, cells_of, find, jobs_of, trace_of
from benchmarks.quality_points import Check, Verdict, absent, points
from benchmarks.quality_tables import compared, flows, read_references, relative, verdicts

RESULTS = Path(__file__).parent / "results" / "quality.json"
#: Goal 14: the 99th percentile of one decision, milliseconds.
DECISION_MS = 5.0


def main() -> int:
    """Replay, compare, judge. 0: no figure misses its goal; 1: one does, or is absent; 2: nothing was replayed."""
    chosen = _parser().parse_args()
    quiet()
    start = time.monotonic()
    there, lacking = find(chosen.traces, chosen.only)
    if lacking:
        _tell(f"not in {chosen.traces}: {', '.join(lacking)}")
    if not there:
        _tell(f"no trace to replay in {chosen.traces}: TRACES=FOLDER says where they are")
        return 2
    try:
        known = read_references(chosen.reference)
        jobs = list(jobs_of(there, learned=chosen.learned, quick=chosen.quick))
        cells = cells_of(jobs, chosen.workers)
    except BalancerError as error:
        _tell(f"error: {error}")
        return 2
    print(flows(cells))
    print(relative(cells))
    if known:
        print(compared(points(cells), known))
    missed = 0
    found: list[Verdict] = []
    if not chosen.quick:
        found = _judge(cells, there, learned=chosen.learned)
        print(verdicts(found))
        missed = sum(verdict.word != "pass" for verdict in found)
        for where in [] if chosen.learned else absent(points(cells)):
            print(f"absent: {where}")
    _keep(chosen.json, chosen, cells, found)
    minutes = (time.monotonic() - start) / 60
    print(f"\n{len(jobs)} replays, {minutes:.0f} min; JSON: {chosen.json}")
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--traces", type=Path, required=True, help="a folder of traces")
    parser.add_argument("--only", default="", help="only files whose name holds this")
    parser.add_argument("--quick", action="store_true", help="3,000 tasks, one seed, no verdict")
    parser.add_argument(
        "--learned", action="store_true", help="agents do not say how fast they are"
    )
    parser.add_argument("--reference", type=Path, nargs="*", default=[], help="files or folders")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", type=Path, default=RESULTS, help="default: %(default)s")
    return parser


def _judge(
    cells: Sequence[dict[str, Any]], there: Sequence[Found], *, learned: bool
) -> list[Verdict]:
    if learned:
        return judge_learned(
            points(cell for cell in cells if cell["learned"]),
            points(cell for cell in cells if not cell["learned"]),
        )
    # Of the estimator itself; what a strategy's own order makes of it stands beside its figures.
    traces = [trace_of(found, None) for found in there]
    correlations = {trace.name: online_correlation(trace) for trace in traces}
    _tell("measuring decisions ...")
    took = Check(
        f"{decisions.WAITING:,} waiting, {decisions.AGENTS} agents, p99 ms",
        decisions.measure(),
        DECISION_MS,
    )
    return [*judge(points(cells), correlations), Verdict(14, "time of one decision", [took])]


def _keep(
    path: Path, chosen: argparse.Namespace, cells: Sequence[dict[str, Any]], found: list[Verdict]
) -> None:
    goals = {str(verdict.number): verdict.word for verdict in found}
    report = {"quick": chosen.quick, "learned": chosen.learned, "goals": goals, "cells": cells}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1), encoding="utf-8")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
