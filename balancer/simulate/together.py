"""What several exchanges ask, said in the same round trips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic

from balancer.ledger.exchange import Asks, Exchange, Round, T, answered
from balancer.protocol import TextRedis


class Begun(Generic[T]):
    """An exchange that has said what it asks first, as of the moment at which it was begun.

    Attributes:
        answer: what it returned; there once `say` has carried it to its end.
    """

    answer: T

    def __init__(self, exchange: Exchange[T]) -> None:
        self._exchange = exchange
        self.asks: Asks | None = None
        self.go_on(None)

    def go_on(self, replies: Sequence[Any] | None) -> None:
        """Hand over the replies; what it asks next stands in `asks`, None when it is done."""
        try:
            asks = self._exchange.send(replies)
            assert isinstance(asks, Sequence), "an exchange that pauses cannot share a round trip"
            self.asks = asks
        except StopIteration as done:
            self.asks, self.answer = None, done.value


def say(client: TextRedis, begun: Sequence[Begun[Any]]) -> None:
    """Carry all of them to their ends, in this order, in as few round trips as the longest needs.

    Raises:
        What the client raises; the outcome of all of them may be unknown then.
    """
    while open_ := [each for each in begun if each.asks is not None]:
        replies = answered(client, Round([ask for each in open_ for ask in each.asks or ()]))
        start = 0
        for each in open_:
            stop = start + len(each.asks or ())
            each.go_on(replies[start:stop])
            start = stop
