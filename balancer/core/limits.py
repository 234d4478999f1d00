"""How long a task may run whose producer says nothing of it. Twin of limit_of in `ledger/commit.lua`."""

from __future__ import annotations

import math

from balancer.core.effort import FEW, Estimate
from balancer.core.model import DEFAULT_RUN_TIMEOUT_S, MAX_RUN_TIMEOUT_S


def derived_timeout_ms(
    estimate: Estimate, permille: int, least_s: int, here_ms: int | None = None
) -> int:
    """The run timeout that follows from what is expected of a task, milliseconds.

    Args:
        estimate: as the task bears it.
        permille: `run_timeout_factor` of the pool, in thousandths; 0: none follows.
        least_s: `min_run_timeout_s` of the pool.
        here_ms: what the task is expected to take on its agent; None: at speed 1.
    """
    if not permille or estimate.n < FEW:
        return 1_000 * DEFAULT_RUN_TIMEOUT_S
    mean_ms = max(1, estimate.mean_ms)
    p90_ms = estimate.p90_ms * (mean_ms if here_ms is None else here_ms) / mean_ms
    longest_ms = 1_000 * MAX_RUN_TIMEOUT_S
    return math.floor(max(1_000 * least_s, min(longest_ms, permille * p90_ms / 1_000)))
