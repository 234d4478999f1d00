"""Waiting for room in a pool that takes no more work."""

from __future__ import annotations

import random
from collections.abc import Callable

from balancer.core.errors import RedisFull
from balancer.inputs import check_block
from balancer.ledger.exchange import Exchange, Pause
from balancer.ledger.submit import Outcome, Submitted

#: How long full memory is left alone before it is asked again, seconds: a sweep may have judged anew.
MEMORY_RETRY_S = 0.5


def with_room(send: Callable[[], Exchange[list[Submitted]]], block_s: float) -> Exchange[Submitted]:
    """The answer for one task, which is sent again while there is no room for it.

    Args:
        send: submits the task; safe to repeat.
        block_s: how long to go on; then the last answer stands.

    Raises:
        InvalidInput: block_s is no time that ends.
        RedisFull: Redis itself had no room for the last one sent.
    """
    check_block(block_s)
    until = (yield Pause()) + block_s
    while True:
        full: RedisFull | None = None
        try:
            (answer,) = yield from send()
        except RedisFull as error:  # not told by the pool
            full = error
        left_s = until - (yield Pause())
        delay_s = MEMORY_RETRY_S if full else _retry_after_s(answer)
        if left_s <= 0 or delay_s is None:
            if full:
                raise full
            return answer
        # All who wait were told the same: spread out, they find room instead of each other.
        yield Pause(min(left_s, delay_s * random.uniform(1.0, 1.5)))


def _retry_after_s(answer: Submitted) -> float | None:
    """When to ask again; None where asking again would not help, or need not."""
    if answer.queue:
        return answer.queue.retry_after_s
    return MEMORY_RETRY_S if answer.outcome is Outcome.REDIS_FULL else None
