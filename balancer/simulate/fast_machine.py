"""One machine that does the work of a whole role: what no schedule on the real agents can beat."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence


def serve(
    release_s: Sequence[float],
    work: Sequence[float],
    speed: float,
    rank: Sequence[float] | None = None,
) -> tuple[list[float], list[float]]:
    """When each job ends, and its mean busy time: the mean moment at which it is worked on; seconds.

    The machine works on the job of the smallest rank (None: the shortest remaining first, SRPT), interrupts it when a
    better one is released, and is never idle while there is work.
    """
    arrivals = sorted(range(len(work)), key=release_s.__getitem__)
    left = list(work)
    ends, busy = [0.0] * len(work), [0.0] * len(work)
    jobs: list[tuple[float, int]] = []
    now, coming = 0.0, 0
    while coming < len(arrivals) or jobs:
        if not jobs:
            now = max(now, release_s[arrivals[coming]])
        while coming < len(arrivals) and release_s[arrivals[coming]] <= now:
            job = arrivals[coming]
            heapq.heappush(jobs, (left[job] if rank is None else rank[job], job))
            coming += 1
        until = release_s[arrivals[coming]] if coming < len(arrivals) else math.inf
        _, job = heapq.heappop(jobs)
        end = now + left[job] / speed
        if end <= until:
            busy[job] += left[job] * (now + end) / 2
            busy[job] /= work[job]
            ends[job] = now = end
        else:
            done = (until - now) * speed
            busy[job] += done * (now + until) / 2
            left[job] -= done
            now = until
            heapq.heappush(jobs, (left[job] if rank is None else rank[job], job))
    return ends, busy
