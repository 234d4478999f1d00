"""`balancer submit` with all that a task may ask for, and `balancer queue`: in this process, on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from balancer.core.names import new_id
from balancer.core.settings import PoolSettings, RoleSettings
from balancer.embedded import EmbeddedRedis
from balancer.ledger.pool import Pool
from balancer.ledger.tick import Memory, tick
from balancer.protocol.connect import connect
from tests.flow.test_cli import Answer, Command, balancer, server
from tests.support.factories import assign, beat, changes

__all__ = ["balancer", "server"]


@pytest.fixture
def pool(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A new pool that nobody serves, named by the environment; of role small two tasks may wait."""
    monkeypatch.setenv("BALANCER_REDIS_URL", server.url)
    monkeypatch.setenv("BALANCER_POOL", name := new_id())
    with connect(server.url) as client:
        yield Pool.create(client, name, PoolSettings(roles={"small": RoleSettings(max_pending=2)}))


def test_every_option_of_a_task(balancer: Command, pool: Pool) -> None:
    asked = "--max-wait 7.5 --on-parent-failure skip --expires-at 2150-01-01T00:00:00+02:00"
    later = ["--not-before", "2149-01-01T00:00:00Z", "--dedup-key", "order 17"]
    task_id = balancer("submit", "--role", "dev", *asked.split(), *later).out.strip()

    shown = balancer("task", "show", task_id, "--json").data

    assert (shown["state"], shown["max_wait_s"], shown["on_parent_failure"]) == (
        "scheduled",
        7.5,
        "skip",
    )
    assert (shown["not_before"], shown["expires_at"]) == (5_648_745_600.0, 5_680_274_400.0)
    assert shown["waits"].startswith("for its time, in ")
    text = balancer("task", "show", task_id).out
    assert "2149-01-01 00:00:00 UTC" in text
    assert "2149-12-31 22:00:00 UTC" in text
    assert [row["id"] for row in balancer("task", "ls", "--state", "scheduled", "--json").data] == [
        task_id
    ]


def test_repeat_of_a_dedup_key_prints_the_first_id(balancer: Command, pool: Pool) -> None:
    first = balancer("submit", "--role", "dev", "--dedup-key", "k")
    again = balancer("submit", "--role", "dev", "--dedup-key", "k", "--payload", "5")

    assert first.err == ""
    assert (again.code, again.out) == (0, first.out)
    assert again.err == f"this dedup key stands for {first.out.strip()} (pending)\n"


def test_full_queue_is_75(balancer: Command, pool: Pool) -> None:
    for _ in range(2):
        assert balancer("submit", "--role", "small").code == 0

    with changes(pool) as seen:
        refused = balancer("submit", "--role", "small", "--json")
        waited = balancer("submit", "--role", "small", "--block", "0.05")

    assert (refused.code, refused.out, waited.code) == (75, "", 75)
    assert (refused.error["code"], refused.error["retryable"]) == ("queue_full", True)
    assert "2 tasks wait (max_pending 2)" in refused.error["message"]
    assert seen.nothing
    assert balancer("submit", "--role", "dev").code == 0


@pytest.mark.parametrize(
    ("second", "code", "counts"),
    [
        ('{"id": "b", "role": "dev"}', 75, "3 accepted, 1 queue_full"),
        (
            '{"id": "b", "role": "dev", "depends_on": ["x"]}',
            6,
            "2 accepted, 1 unknown_parent, 1 queue_full",
        ),
        ('{"id": "a", "role": "dev"}', 5, "2 accepted, 1 conflict, 1 queue_full"),
    ],
)
def test_bulk_is_75_when_only_room_is_missing(
    balancer: Command,
    pool: Pool,
    second: str,
    code: int,
    counts: str,
) -> None:
    lines = [
        '{"id": "a", "role": "small"}',
        second,
        *(f'{{"id": "c{n}", "role": "small"}}' for n in range(2)),
    ]

    answer = balancer("submit", "--file", "-", stdin="\n".join(lines).encode())

    assert answer.code == code
    assert counts in answer.err


def test_bulk_names_the_numbers_of_a_full_queue(balancer: Command, pool: Pool) -> None:
    lines = "\n".join(f'{{"id": "c{n}", "role": "small"}}' for n in range(3)).encode()

    rows = balancer("submit", "--file", "-", "--json", stdin=lines).lines
    text = balancer("submit", "--file", "-", stdin=lines).err

    assert [row["outcome"] for row in rows] == ["accepted", "accepted", "queue_full"]
    assert rows[0] == {"id": "c0", "outcome": "accepted", "detail": ""}
    assert rows[2].keys() == {
        *("id", "outcome", "detail", "depth", "limit", "oldest_s", "retry_after_s")
    }
    assert (rows[2]["id"], rows[2]["depth"], rows[2]["limit"]) == ("c2", 2, 2)
    assert 0 <= rows[2]["oldest_s"] < 60
    assert 0 < rows[2]["retry_after_s"] <= 60
    assert rows[2]["detail"].startswith("2 tasks wait (max_pending 2), the oldest for ")
    assert "error: task c2: queue_full (2 tasks wait (max_pending 2), the oldest for " in text


def test_full_memory_is_75(balancer: Command, pool: Pool) -> None:
    tick(pool, memory=Memory(9, 10))

    refused = balancer("submit", "--role", "dev", "--json")

    assert (refused.code, refused.error["code"]) == (75, "redis_full")


def test_queue_is_paused_and_resumed(balancer: Command, pool: Pool) -> None:
    task_id = balancer("submit", "--role", "dev").out.strip()
    beat(pool)

    assert balancer("queue", "pause", "dev") == Answer(0, "", "the queue of dev is paused\n")
    assert balancer("queue", "pause", "dev", "--json").data == {"role": "dev", "queue": "paused"}
    (row,) = balancer("queue", "ls", "--json").data
    assert (row["paused"], row["pending"], row["waiting"], row["max_pending"]) == (
        True,
        1,
        1,
        1_000_000,
    )
    assert "paused" in balancer("queue", "ls").out
    assert (
        balancer("task", "show", task_id, "--json").data["waits"]
        == "the queue of role dev is paused"
    )
    assert balancer("submit", "--role", "dev").err == "the queue of role dev is paused\n"
    assert balancer("queue", "resume", "dev").err == "the queue of dev is open\n"
    assert balancer("queue", "resume", "dev", "--json").data == {"role": "dev", "queue": "open"}
    assert (
        "0 of 1 unit of role dev are used"
        in balancer("task", "show", task_id, "--json").data["waits"]
    )


def test_roles_with_work_and_no_agent_are_told(balancer: Command, pool: Pool) -> None:
    for role in ("dev", "dev", "ops", "idle"):
        balancer("submit", "--role", role)
    balancer("queue", "purge", "idle", "--yes")
    beat(pool, "o1", role="ops")
    told = "dev: 2 pending tasks and no live agent; start one: worker run --role dev -- PROGRAM\n"
    assert balancer("queue", "ls").err == told
    assert balancer("queue", "ls", "--json").err == ""
    beat(pool)
    assert balancer("queue", "ls").err == ""


def test_purge_does_nothing_without_yes(balancer: Command, pool: Pool) -> None:
    for n in range(3):
        balancer("submit", "--role", "dev", "--id", f"t{n}")
    beat(pool)
    assign(pool, "t0")

    with changes(pool) as seen:
        asked = balancer("queue", "purge", "dev", "--json")

    assert (asked.code, asked.out) == (2, "")
    assert "2 waiting tasks of dev would be cancelled" in asked.error["message"]
    assert seen.nothing
    assert balancer("queue", "purge", "dev", "--yes").err == "2 waiting tasks of dev cancelled\n"
    assert balancer("queue", "purge", "dev", "--yes", "--json").data == {
        "role": "dev",
        "cancelled": 0,
    }
    shown = balancer("task", "show", "t1", "--json").data
    assert (shown["state"], shown["reason"]) == ("cancelled", "purged")
    assert balancer("task", "show", "t0", "--json").data["state"] == "assigned"


@pytest.mark.parametrize("verb", [["pause"], ["resume"], ["purge"], ["purge", "--yes"]])
def test_role_that_was_never_heard_of_is_not_found(
    balancer: Command,
    pool: Pool,
    verb: list[str],
) -> None:
    answer = balancer("queue", *verb, "nobody", "--json")

    assert (answer.code, answer.error["code"]) == (3, "not_found")
    assert "nobody" in answer.error["message"]
