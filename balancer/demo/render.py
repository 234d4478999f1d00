"""The report for a person to read."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def render(report: dict[str, Any]) -> RenderableType:
    """Every figure of the report, the verdict last."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(report):
        table.add_row(name, Text(value))
    return Group(table, Text(""), *_verdict(report))


def _rows(r: dict[str, Any]) -> list[tuple[str, str]]:
    arrivals = f"arrivals {r['arrival_factor']:,.0f}" if r["arrival_factor"] else "all at once"
    return [
        ("trace", f"{r['trace']}, {r['submitted']:,} tasks"),
        ("times faster", f"durations {r['speed']:,.4g}, {arrivals}: load {r['load']:g}"),
        ("fleet", f"{r['agents']} agents with {r['capacity']} units, {r['replicas']} balancers"),
        ("on the way", f"{r['killed']} agents killed, {r['restarts']} processes started again"),
        ("ended", f"{r['completed']:,} completed, {r['dead']} dead, {r['cancelled']} cancelled"),
        (
            "tried again",
            f"{r['failed_attempts']} failed, {r['reclaimed']} reclaimed from dead agents",
        ),
        (
            "late news",
            f"{r['stale_completions']} stale and {r['duplicate_completions']} duplicate completions, no effect",
        ),
        ("wait", _percentiles(r["wait_s"], "s")),
        ("dispatch", f"{_percentiles(r['dispatch_ms'], 'ms')}, from free unit and ready task"),
        ("throughput", f"{r['tasks_per_s']:g} tasks/s, {r['elapsed_s']:g} s in all"),
        (
            "recounted",
            f"{r['lost']} lost, {r['overcommits']} overcommits, counters off by {r['counter_drift']}",
        ),
        ("audit", _audit(r["audit"])),
    ]


def _percentiles(values: dict[str, float], unit: str) -> str:
    return ", ".join(f"{name} {value:g} {unit}" for name, value in values.items())


def _audit(audit: dict[str, Any]) -> str:
    if not audit["clean"]:
        return f"{len(audit['violations'])} violations"
    return "clean" if audit["exact"] else "clean, without sums: the pool did not stand still"


def _verdict(report: dict[str, Any]) -> list[Text]:
    if report["ok"]:
        return [
            Text("OK: everything submitted ended, once, and every counter is right.", "bold green")
        ]
    return [
        Text("NOT OK:", "bold red"),
        *(Text(f"  {problem}", "red") for problem in report["problems"]),
    ]
