"""Reading an event stream through its consumer group, and applying a batch that may hold one bad entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog
from redis.exceptions import RedisError, ResponseError

from balancer.core.errors import BadArgument
from balancer.ledger.pool import Pool
from balancer.protocol.causes import Reaction, cause
from balancer.protocol.connect import TextRedis
from balancer.protocol.keys import GROUP

log = structlog.get_logger("balancer")

#: Most of a malformed entry, or of an error, that is kept, characters.
RAW = 1_000

Fields = dict[str, str]
Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Reader:
    """One consumer's door to one stream.

    Args:
        pool: whose stream it is.
        client: a client of its own, made for reads that block this long.
        stream: key of the stream.
        consumer: name in the group, stable over restarts.
        count: most entries a read.
        noack: entries count as delivered when read.
    """

    pool: Pool
    client: TextRedis
    stream: str
    consumer: str
    count: int
    noack: bool = False

    def new(self, block_ms: int) -> list[tuple[str, Fields]]:
        """Entries nobody has read, waiting at most block_ms for the first."""
        return self._read(">", block_ms)

    def unacknowledged(self) -> list[tuple[str, Fields]]:
        """Entries that this consumer read before and never acknowledged."""
        return self._read("0", None)

    def abandoned(self, idle_ms: int) -> list[tuple[str, Fields]]:
        """Entries that some consumer read and left for idle_ms; they are this one's now."""
        claimed = self.client.xautoclaim(
            self.stream, GROUP, self.consumer, min_idle_time=idle_ms, count=self.count
        )
        return [(entry, fields) for entry, fields in claimed[1] if fields]

    def _read(self, after: str, block_ms: int | None) -> list[tuple[str, Fields]]:
        try:
            reply = self.client.xreadgroup(
                GROUP,
                self.consumer,
                {self.stream: after},
                count=self.count,
                block=block_ms,
                noack=self.noack,
            )
        except ResponseError as error:
            if cause(error).code != "NOGROUP":
                raise
            self.pool.verify()
            # From 0, not from the end: what lies in the stream has not been applied.
            log.critical("group_recreated", stream=self.stream, hint="balancer audit")
            self.client.xgroup_create(self.stream, GROUP, id="0", mkstream=True)
            return []
        return [(entry, fields or {}) for rows in reply.values() for entry, fields in rows]


def bisected(
    batch: Sequence[Item],
    call: Callable[[Sequence[Item]], list[Answer]],
    set_aside: Callable[[Item, str], Item],
) -> list[Answer]:
    """Apply a batch. When that errs, halve the batch until the one entry is found that it errs on,
    and set that one aside.

    Only for errors of an entry's making: when Redis is away, full, read-only or loading, or when what is
    stored is not what it should be, the error goes to the loop.
    """
    if not batch:
        return []
    try:
        return call(batch)
    except (RedisError, BadArgument, ValueError, TypeError) as error:
        if isinstance(error, RedisError) and cause(error).reaction is not Reaction.OWN:
            raise
        if len(batch) > 1:
            half = len(batch) // 2
            return [
                *bisected(batch[:half], call, set_aside),
                *bisected(batch[half:], call, set_aside),
            ]
        log.error("entry_set_aside", error=str(error)[:200])
        return call([set_aside(batch[0], str(error)[:RAW])])
