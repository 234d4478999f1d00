"""Applying a batch that holds an entry on which the script errs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from balancer.core.errors import BadArgument
from balancer.loops.stream import RAW, bisected

Entry = int | str


class Server:
    """Errs on a batch that holds one of the entries in `errs_on`; counts the calls it takes."""

    def __init__(self, *errs_on: int, error: Exception | None = None) -> None:
        self.errs_on, self.error, self.calls = set(errs_on), error or ResponseError("odd"), 0

    def __call__(self, part: Sequence[Entry]) -> list[str]:
        self.calls += 1
        if self.errs_on & set(part):
            raise self.error
        return [f"done {item}" for item in part]


def batch(*entries: Entry) -> list[Entry]:
    return list(entries)


def aside(item: Entry, reason: str) -> Entry:
    return f"{item} aside: {reason}"


def test_nothing_is_no_call() -> None:
    server = Server()
    assert bisected(batch(), server, aside) == []
    assert server.calls == 0


def test_a_good_batch_is_one_call() -> None:
    server = Server()
    assert bisected(batch(1, 2, 3), server, aside) == ["done 1", "done 2", "done 3"]
    assert server.calls == 1


@pytest.mark.parametrize("error", [ResponseError("odd"), BadArgument("entry: no")])
def test_only_the_entry_that_errs_is_set_aside_and_the_order_stays(error: Exception) -> None:
    server = Server(57, error=error)
    answers = bisected(batch(*range(100)), server, aside)
    assert answers[57] == f"done 57 aside: {error}"
    assert answers[:57] + answers[58:] == [f"done {n}" for n in range(100) if n != 57]
    assert server.calls < 20


def test_every_entry_may_err() -> None:
    assert bisected(batch(1, 2), Server(1, 2), aside) == ["done 1 aside: odd", "done 2 aside: odd"]


def test_a_long_reason_is_cut() -> None:
    (answer,) = bisected(batch(1), Server(1, error=ResponseError("x" * 5_000)), aside)
    assert len(answer) < RAW + 50


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("command not allowed"),
        ReadOnlyError("replica"),
        ResponseError("MISCONF errors writing"),
        ResponseError("NOREPLICAS not enough"),
        ResponseError("BUSY a script"),
    ],
)
def test_a_server_that_cannot_write_now_is_no_fault_of_an_entry(error: Exception) -> None:
    server = Server(1, error=error)
    with pytest.raises(type(error)):
        bisected(batch(1, 2), server, aside)
    assert server.calls == 1
