"""From the append-only file of a real server to a history, and which keys may be left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from balancer.embedded import EmbeddedRedis
from balancer.ledger.cancel import cancel
from balancer.ledger.pool import Pool
from balancer.ledger.reclaim import reclaim
from balancer.protocol import Keys, connect
from tests.chaos.aof import aof_files, read_transactions, stream_entry
from tests.chaos.history import Closing, Ended, Grant, Historian, Record, Reported
from tests.chaos.leaks import Expected, leaked
from tests.support.factories import (
    assign,
    beat,
    complete,
    completion_entry,
    nonce,
    settle,
    submit,
)

A, KEYS = "a1", Keys("p")


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """One that keeps an append-only file and nothing else."""
    with EmbeddedRedis(
        appendonly=True, config={"appendfsync": "always", "auto-aof-rewrite-percentage": "0"}
    ) as own:
        yield own


@pytest.fixture
def records(server: EmbeddedRedis) -> list[Record]:
    """Two tasks of which the first is lost with its agent, tried again and completed, and the second is cancelled."""
    with connect(server.url) as client:
        pool = Pool.create(client, "p")
        assert submit(pool, "t1", "t2") == ["accepted", "accepted"]
        assert beat(pool, A) == "joined"
        first = assign(pool, "t1", A, lease=1)
        stale = completion_entry(pool, "t1")
        server.kill()
        server.restart()
        assert beat(pool, A, mode="stopped") == "changed"
        assert reclaim(pool, A).requeued == 1
        assert beat(pool, A) == "joined"
        second = assign(pool, "t1", A, lease=2)
        assert settle(pool, stale) == ["stale"]
        for lie in ({"lease": nonce(3)}, {"attempt": 7}, {"agent": "a2"}):
            assert complete(pool, "t1", **lie) == "stale"
        assert complete(pool, "t1") == "ok"
        cancel(pool, ["t2"])
        assert (first, second) == (nonce(1), nonce(2))
    return list(Historian("p").read(read_transactions(aof_files(server.directory))))


def test_every_lease_and_every_end_is_read_in_order_over_a_crash(records: list[Record]) -> None:
    assert [type(record) for record in records] == [
        Grant, Reported, Closing, Grant, Reported, Reported, Reported, Reported, Closing, Ended, Ended,
    ]  # fmt: skip
    first, stale, revoked, second, *_, done, ended, cancelled = records
    assert isinstance(first, Grant)
    assert isinstance(second, Grant)
    assert isinstance(revoked, Closing)
    assert isinstance(done, Closing)
    assert (first.agent, first.task, first.attempt, first.cost, first.lease) == (
        A, "t1", 1, 1, nonce(1),
    )  # fmt: skip
    assert (second.attempt, second.lease) == (2, nonce(2))
    assert (revoked.lease, revoked.how) == (nonce(1), "revoked")
    assert (done.lease, done.how) == (nonce(2), "completed")
    assert 0 < first.at_ms <= revoked.at_ms <= second.at_ms <= done.at_ms
    assert stale == Reported(A, "t1", 1, nonce(1), "completed")
    assert [ended, cancelled] == [Ended("t1", "completed"), Ended("t2", "cancelled")]


COMMAND = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n%d\r\n"
MULTI, EXEC = b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n"
SELECT = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"


def test_what_was_not_finished_when_redis_died_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "appendonly.aof"
    file.write_bytes(
        SELECT + MULTI + COMMAND % 1 + COMMAND % 2 + EXEC + COMMAND % 3 + MULTI + COMMAND % 4
        + SELECT + COMMAND % 5 + MULTI + COMMAND % 6 + b"*3\r\n$3\r\nSE"
    )  # fmt: skip
    assert [[command[2] for command in part] for part in read_transactions(aof_files(tmp_path))] == [
        ["1", "2"], ["3"], ["5"],
    ]  # fmt: skip


def test_a_stream_entry_is_found_behind_all_options() -> None:
    fields = ["5-1", "task", "t1", "id", "7-7"]
    expected = ("5-1", {"task": "t1", "id": "7-7"})
    assert stream_entry(["XADD", "s", *fields]) == expected
    assert stream_entry(["XADD", "s", "MAXLEN", "=", "100", *fields]) == expected
    assert stream_entry(["XADD", "s", "NOMKSTREAM", "MINID", "=", "3-0", *fields]) == expected


GOOD_KEYS = [
    KEYS.meta,
    KEYS.task("t1"),
    KEYS.body("t1"),
    KEYS.agent(A),
    KEYS.inbox(A),
    KEYS.role("dev"),
    KEYS.est,
    KEYS.est_old,
    KEYS.capacity("dev"),
]
EXPECTED = Expected(KEYS.prefix, {"t1"}, {A}, {"dev"})


def test_no_key_of_a_drained_pool_is_left_over() -> None:
    assert leaked(GOOD_KEYS, EXPECTED) == []
    assert leaked([*GOOD_KEYS, f"{KEYS.prefix}dedup:a"], EXPECTED._replace(dedups=1)) == []
    assert leaked([*GOOD_KEYS, KEYS.parents("t1")], EXPECTED._replace(waited={"t1"})) == []


@pytest.mark.parametrize(
    "key",
    [
        KEYS.leases,
        KEYS.laneref,
        KEYS.rescore,
        KEYS.held(A),
        KEYS.parents("t1"),
        KEYS.lane("v1"),
        KEYS.pending("dev"),
        KEYS.body("t2"),
        KEYS.inbox("a2"),
        KEYS.role("other"),
        f"{KEYS.meta}:t1",
        "foreign",
    ],
)
def test_a_key_that_is_left_over_is_found(key: str) -> None:
    assert leaked([*GOOD_KEYS, key], EXPECTED) == [f"{key} is left"]


def test_a_record_or_a_dedup_key_that_is_missing_is_found() -> None:
    expected = EXPECTED._replace(tasks={"t1", "t2"}, dedups=1)
    assert leaked(GOOD_KEYS, expected) == [
        "0 dedup keys are held, 1 tasks have one",
        "the record of t2 is missing",
    ]
