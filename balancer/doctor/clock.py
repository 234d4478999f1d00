"""The clock that decides (Redis') beside ours, and how long a round trip takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from balancer.doctor.finding import Finding, ok, warn
from balancer.doctor.visit import Visit

#: Difference between the clocks, and jump while we look, that somebody should know of, seconds.
DIFFERENCE_S, JUMP_S = 2.0, 0.5
#: Round trips that are timed; a median above this is slow, seconds.
PINGS, SLOW_S = 20, 0.005


def clock(visit: Visit) -> Iterator[Finding]:
    """Redis' clock: near ours, and steady while we looked."""
    first, began = _difference(visit), time.monotonic()
    for _ in range(PINGS):
        last = _difference(visit)
    took_s = time.monotonic() - began
    jump = last - first
    shown = (
        f"Redis' clock is {abs(last):.3f} s {'ahead of' if last >= 0 else 'behind'} this machine's"
    )
    if abs(jump) > JUMP_S:
        yield warn(
            "clock",
            f"it jumped by {jump:+.3f} s within {took_s:.1f} s",
            "let NTP slew the clocks of both machines rather than step them",
        )
    elif abs(last) > DIFFERENCE_S:
        yield warn(
            "clock",
            shown,
            "run NTP on both: not_before and expires_at are judged by Redis' clock",
        )
    else:
        yield ok("clock", shown)


def _difference(visit: Visit) -> float:
    """How much Redis' clock is ahead, taking the middle of the round trip, seconds."""
    before = time.time()
    seconds, micros = visit.client.time()
    return float(seconds) + float(micros) / 1e6 - (before + time.time()) / 2


def latency(visit: Visit) -> Iterator[Finding]:
    """Round trips."""
    took = []
    for _ in range(PINGS):
        began = time.perf_counter()
        visit.client.ping()
        took.append(time.perf_counter() - began)
    median, worst = statistics.median(took), max(took)
    shown = f"median {1000 * median:.2f} ms, slowest {1000 * worst:.2f} ms of {PINGS} round trips"
    if median > SLOW_S:
        yield warn(
            "latency",
            shown,
            "run balancers near Redis: each assignment takes a few round trips",
        )
    else:
        yield ok("latency", shown)
