"""`balancer demo`: a real trace, real processes, some of them killed on the way, and a verdict."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console

from balancer.demo.live import View
from balancer.demo.options import DemoOptions
from balancer.demo.plan import Plan, make_plan
from balancer.demo.render import render
from balancer.demo.report import make_report
from balancer.demo.stage import POOL, Stage
from balancer.demo.stand_in import stand_in
from balancer.embedded import EmbeddedRedis, OwnRedis, ServerMissing
from balancer.trace import read

#: What the shell says of a program that Ctrl-C ended.
INTERRUPTED = 130


def run_demo(options: DemoOptions) -> int:
    """Run the demo and print its report. 0: clean; 1: not clean; 130: interrupted.

    Raises:
        InvalidInput: the options or the trace.
        OSError: the trace cannot be read.
        BalancerError: the demo could not be run.
    """
    began_at = time.monotonic()
    plan = make_plan(read(options.trace, options.limit), options)
    directory = Path(tempfile.mkdtemp(prefix="balancer-demo-"))
    is_clean = False
    try:
        with _interruptible(), _redis() as server:
            stage = Stage(
                plan,
                replicas=options.replicas,
                url=server.url,
                directory=directory,
                view=lambda fleet: View(
                    _title(plan, options), f"pool {POOL} at {server.url}", len(plan.tasks), fleet
                ),
                restart_redis=server.restart if isinstance(server, EmbeddedRedis) else _nothing,
            )
            report = make_report(plan, options, stage.run(began_at))
        is_clean = bool(report["ok"])
    except KeyboardInterrupt:
        print("interrupted: everything was stopped", file=sys.stderr)
        is_clean = True
        return INTERRUPTED
    finally:
        if options.keep or not is_clean:
            print(f"logs: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        Console().print(render(report))
    return 0 if is_clean else 1


def _title(plan: Plan, options: DemoOptions) -> str:
    return (
        f"{options.trace.name}: {len(plan.tasks):,} tasks in {plan.replay_s:.0f} s at load {options.load:g}; "
        f"{len(plan.agents)} agents, {plan.capacity} units, {options.replicas} balancers"
    )


def _redis() -> OwnRedis:
    try:
        return EmbeddedRedis(appendonly=True)
    except ServerMissing as missing:
        return stand_in(missing)


def _nothing() -> None:
    """Nothing to start again: the stand-in lives in this process."""


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
