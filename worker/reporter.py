"""Sends completions, in batches, again and again until they are in the stream."""

from __future__ import annotations

import time

from balancer.protocol import Keys, TextRedis
from worker.leases import Leases

#: Completions sent at once.
BATCH = 100
#: A step without work; every end of a task wakes the loop.
IDLE_S = 60.0


class Reporter:
    """Only knows what is FINISHED. A completion whose outcome is unknown goes again: the second is a duplicate."""

    def __init__(self, keys: Keys, client: TextRedis, leases: Leases) -> None:
        self._stream = keys.completions
        self._client = client
        self._leases = leases

    def step(self) -> float:
        """Send at most BATCH.

        Raises:
            redis.RedisError: some of them are not in the stream; they stay due.
        """
        batch = self._leases.unreported(BATCH)
        if not batch:
            return IDLE_S
        pipe = self._client.pipeline(transaction=False)
        for lease in batch:
            pipe.xadd(self._stream, lease.completion.fields())
        answers = pipe.execute(raise_on_error=False)
        refusals = [answer for answer in answers if isinstance(answer, Exception)]
        sent = [
            lease
            for lease, answer in zip(batch, answers, strict=True)
            if not isinstance(answer, Exception)
        ]
        self._leases.reported(sent, time.monotonic())
        if refusals:
            raise refusals[0]
        return 0.0
