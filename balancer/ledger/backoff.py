"""How long a failed try waits for the next: exponential, with full jitter."""

from __future__ import annotations

import random

from balancer.core.settings import PoolSettings
from balancer.ledger.exchange import Arg

#: A draw of this much is the whole of the wait that a try may get.
WHOLE = 1_000_000


def backoff_args(settings: PoolSettings, draw: int | None) -> list[Arg]:
    """The arguments that settle and timeout have in common: base and cap of the wait in microseconds,
    and which share of it a try gets.

    A try that failed for the n-th time waits a share of retry_delay_s x 2^(n - 1), of retry_max_delay_s
    at most, but 1 ms at least. The first failed try of a call gets `draw` of WHOLE (None: drawn here),
    each further one another share. Redis draws nothing, so a call that is sent twice does the same.
    """
    drawn = random.randrange(WHOLE + 1) if draw is None else draw
    base_us = round(settings.retry_delay_s * 1_000_000)
    return [base_us, round(settings.retry_max_delay_s * 1_000_000), drawn]
