"""Stream entries that break their format or say what is not so, through the real consumers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.loops.consumer import CompletionConsumer, HeartbeatConsumer
from balancer.protocol import Keys, TextRedis, connect
from balancer.protocol.keys import GROUP
from tests.bad_input.conftest import SECRET
from tests.support.factories import (
    State,
    assign,
    beat,
    boot_of,
    changes,
    complete,
    completion_entry,
    entries,
    heartbeat,
    make_task,
    nonce,
    submit,
)

Logged = Callable[[], list[dict[str, Any]]]

ESC = "\x1b[31m"


@pytest.fixture
def reading(redis_server: EmbeddedRedis) -> Iterator[TextRedis]:
    with connect(redis_server.url, block_s=60) as client:
        yield client


def hear(pool: Pool, reading: TextRedis) -> list[str]:
    outcomes = HeartbeatConsumer(pool, reading, "c0", block_s=0.001).step()
    return [outcome.value for outcome in outcomes]


def settle(pool: Pool, reading: TextRedis) -> list[str]:
    outcomes = CompletionConsumer(pool, reading, "c0", block_s=0.001).step()
    return [outcome.value for outcome in outcomes]


def aside(pool: Pool) -> list[dict[str, str]]:
    return [fields for _, fields in entries(pool, pool.keys.rejected)]


def but_streams(state: State) -> State:
    """What changed beside the streams that were read, and the mark of when that was."""
    passing = ("heartbeats", "completions", "rejected", "meta hb_mark_ms")
    return {name: value for name, value in state.items() if not name.startswith(passing)}


#: Row, fields that differ from a good heartbeat (None: absent), what the reason says.
HEARTBEATS: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = [
    ("max-negative", {"max_concurrent": "-1"}, ("max_concurrent: '-1'", "plain digits")),
    ("max-10^9", {"max_concurrent": "1000000000"}, ("max_concurrent: '1000000000'", "1000")),
    ("max-1001", {"max_concurrent": "1001"}, ("max_concurrent: '1001'", "1000")),
    ("max-nan", {"max_concurrent": "nan"}, ("max_concurrent: 'nan'", "plain digits")),
    ("max-inf", {"max_concurrent": "inf"}, ("max_concurrent: 'inf'", "plain digits")),
    ("max-0x10", {"max_concurrent": "0x10"}, ("max_concurrent: '0x10'", "plain digits")),
    ("max-1_000", {"max_concurrent": "1_000"}, ("max_concurrent: '1_000'", "plain digits")),
    ("max-fullwidth", {"max_concurrent": "\uff11\uff12"}, ("max_concurrent: '\uff11\uff12'", "plain digits")),
    ("max-1e3", {"max_concurrent": "1e3"}, ("max_concurrent: '1e3'", "plain digits")),
    ("max-empty", {"max_concurrent": ""}, ("max_concurrent: ''", "plain digits")),
    ("seq-nan", {"seq": "nan"}, ("seq: 'nan'", "plain digits")),
    ("seq-10^15", {"seq": "1" + "0" * 15}, ("seq", "plain digits")),
    ("ttl-nan", {"ttl_ms": "nan"}, ("ttl_ms: 'nan'", "plain digits")),
    ("ttl-two-intervals", {"ttl_ms": "9000", "interval_ms": "5000"}, ("ttl_ms: 9000", "two intervals")),
    ("interval-0", {"interval_ms": "0"}, ("interval_ms: '0'", "100")),
    ("held-50000", {"held": ",".join(nonce(n) for n in range(50_000))}, ("held", "at most 1000")),
    ("held-junk", {"held": "x,y"}, ("held.0: 'x'", "pattern")),
    ("specializations-65", {"specializations": ",s" * 65}, ("specializations", "at most 64")),
    ("skills-nan", {"skills": "go:nan"}, ("skills.go: 'nan'", "whole number")),
    ("skills-101", {"skills": "go:101"}, ("skills.go: '101'", "100")),
    ("skills-lua", {"skills": "'..redis.call('FLUSHALL')..':1"}, ("skills", "pattern")),
    ("skills-quote", {"skills": 'a"]:1'}, ("skills", "pattern")),
    ("skills-65", {"skills": ",".join(f"s{n}:1" for n in range(65))}, ("skills", "at most 64")),
    ("speed-nan", {"speed": "nan"}, ("speed: 'nan'", "decimal number")),
    ("speed-inf", {"speed": "1e999"}, ("speed: '1e999'", "decimal number")),
    ("speed-0", {"speed": "0"}, ("speed: '0.0'", "0.01")),
    ("speed-huge", {"speed": "9" * 400}, ("speed: '999", "decimal number")),
    ("speeds-junk", {"speeds": "bug"}, ("speeds: 'bug'", "a name and a number")),
    ("speeds-twice", {"speeds": "bug:1,bug:2"}, ("speeds: 'bug' is named twice",)),
    ("agent-colon", {"agent": "a:b"}, ("agent: 'a:b'", "pattern")),
    ("agent-braces", {"agent": "{p}"}, ("agent: '{p}'", "pattern")),
    ("agent-star", {"agent": "*"}, ("agent: '*'", "pattern")),
    ("agent-newline", {"agent": "a1\n"}, (r"agent: 'a1\n'", "pattern")),
    ("agent-nul", {"agent": "a\x00"}, (r"agent: 'a\x00'", "pattern")),
    ("agent-lua", {"agent": "'..redis.call('FLUSHALL')..'"}, ("agent", "pattern")),
    ("agent-missing", {"agent": None}, ("agent", "required")),
    ("role-escape", {"role": ESC}, (r"role: '\x1b[31m'", "pattern")),
    ("role-rq", {"role": "rq:job"}, ("role: 'rq:job'", "pattern")),
    ("role-lua", {"role": "']) redis.call('FLUSHALL') --"}, ("role", "pattern")),
    ("boot-short", {"boot": "abc"}, ("boot: 'abc'", "pattern")),
    ("boot-braces", {"boot": "{" + "0" * 31}, ("boot", "pattern")),
    ("mode-word", {"mode": "sleeping"}, ("mode: 'sleeping'", "'running', 'stopping' or 'stopped'")),
    ("version-99", {"v": "99"}, ("v: '99'", "not a version")),
    ("secret", {"role": f"redis://u:{SECRET}@h"}, ("role",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "words"), [pytest.param(*rest, id=id_) for id_, *rest in HEARTBEATS]
)
def test_heartbeat(
    pool: Pool,
    reading: TextRedis,
    logged: Logged,
    row: dict[str, str | None],
    words: tuple[str, ...],
) -> None:
    """Set aside with the reason, told once, and the loop goes on with the rest."""
    beat(pool, "a1", max_concurrent=2)
    hear(pool, reading)
    fields = heartbeat("a1", max_concurrent=2).fields() | row
    with changes(pool) as seen:
        pool.client.xadd(pool.keys.heartbeats, {k: v for k, v in fields.items() if v is not None})
        pool.client.xadd(pool.keys.heartbeats, heartbeat("a1", max_concurrent=2).fields())
        assert hear(pool, reading) == ["bad", "ok"]
    (found,) = aside(pool)
    assert found["stream"] == "heartbeats"
    assert len(found["raw"]) <= 1_000
    (line,) = logged()
    assert (line["event"], line["outcome"]) == ("heartbeat_applied", "bad")
    for word in words:
        assert word in found["reason"]
        assert word in line["reason"]
    kept = but_streams(seen.state)
    assert kept.pop("pool heartbeats_bad") == "1"
    assert set(kept) == {
        "agent:a1 entry",
        "agent:a1 seq",
        "agent:a1 beat_ms",
        "alive a1",
        "agent_timers a1",
    }
    assert seen.events == []


def test_zero_units_are_no_capacity(pool: Pool, reading: TextRedis) -> None:
    """And no mistake: nothing new is granted, what is held goes on."""
    beat(pool, "a1", max_concurrent=2)
    submit(pool, "t1", "t2")
    assign(pool, "t1")
    pool.client.xadd(pool.keys.heartbeats, heartbeat("a1", max_concurrent=0).fields())
    assert hear(pool, reading)[-1] == "changed"
    known = pool.client.hgetall(pool.keys.agent("a1"))
    assert (known["max"], known["used"], known["n"]) == ("0", "1", "1")
    assert pool.client.zcard(pool.keys.free_units("dev")) == 0


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        pytest.param(({"seq": 9}, {"seq": 8}), "stale", id="older-seq"),
        pytest.param(({"seq": 9}, {"seq": 9}), "stale", id="same-seq"),
        pytest.param(({}, {"boot": 2}), "other_boot", id="other-boot-while-live"),
    ],
)
def test_heartbeat_that_changes_nothing(
    pool: Pool,
    reading: TextRedis,
    logged: Logged,
    said: tuple[dict[str, Any], dict[str, Any]],
    outcome: str,
) -> None:
    first, then = said
    beat(pool, "a1", **first)
    hear(pool, reading)
    with changes(pool) as seen:
        pool.client.xadd(pool.keys.heartbeats, heartbeat("a1", **then).fields())
        assert hear(pool, reading) == [outcome]
    assert but_streams(seen.state) == {
        f"pool heartbeats_{outcome}": seen.state[f"pool heartbeats_{outcome}"]
    }
    assert [line["outcome"] for line in logged()] == ([] if outcome == "stale" else [outcome])


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"active": "0", "current_tasks": "0"}, id="active-0-while-one-is-leased"),
        pytest.param({"held": nonce("nobody's")}, id="foreign-lease-ids"),
        pytest.param({"ts": "1970-01-01"}, id="ts-1970"),
        pytest.param({"ts": "2999-01-01", "sent_at_ms": "nan"}, id="ts-2999"),
        pytest.param(
            {"used": "nan", "n": "-1", "state": "lost", "admin": "paused"}, id="fields-of-the-hash"
        ),
    ],
)
def test_what_an_agent_says_of_its_counters_is_ignored(
    pool: Pool, reading: TextRedis, logged: Logged, said: dict[str, str]
) -> None:
    beat(pool, "a1", max_concurrent=2)
    hear(pool, reading)
    submit(pool, "t1")
    assign(pool, "t1")
    with changes(pool) as seen:
        pool.client.xadd(pool.keys.heartbeats, heartbeat("a1", max_concurrent=2).fields() | said)
        assert hear(pool, reading) == ["ok"]
    assert set(but_streams(seen.state)) == {
        "agent:a1 entry", "agent:a1 seq", "agent:a1 beat_ms", "alive a1", "agent_timers a1",
    }  # fmt: skip
    assert logged() == []


# --- completions ---

DONE = {"agent": "a1", "task": "t1", "attempt": "1", "lease": nonce("l"), "status": "completed"}
COMPLETIONS: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = [
    ("no-fields-of-ours", dict.fromkeys(DONE) | {"x": "y"}, ("required",)),
    ("value-1-mb", {"task": "x" * 1_000_000}, ("task: 'xxx", "pattern")),
    ("junk", {"task": "\x00\x01\x02", "agent": "\x07"}, (r"agent: '\x07'", "pattern")),
    ("version-99", {"v": "99"}, ("v: '99'", "not a version")),
    ("status-done", {"status": "done"}, ("status: 'done'", "'completed', 'failed'")),
    ("status-escape", {"status": ESC}, (r"status: '\x1b[31m'", "'completed'")),
    ("attempt-nan", {"attempt": "nan"}, ("attempt: 'nan'", "plain digits")),
    ("attempt-0x10", {"attempt": "0x1"}, ("attempt: '0x1'", "plain digits")),
    ("attempt-10^9", {"attempt": "1000000000"}, ("attempt: '1000000000'", "1000000")),
    ("attempt-negative", {"attempt": "-1"}, ("attempt: '-1'", "plain digits")),
    ("attempt-fullwidth", {"attempt": "\uff11"}, ("attempt: '\uff11'", "plain digits")),
    ("duration-inf", {"duration_ms": "inf"}, ("duration_ms: 'inf'", "plain digits")),
    ("lease-short", {"lease": "abc"}, ("lease: 'abc'", "pattern")),
    ("task-colon", {"task": "a:b"}, ("task: 'a:b'", "pattern")),
    ("task-braces", {"task": "{p}:meta"}, ("task: '{p}:meta'", "pattern")),
    ("task-newline", {"task": "t1\n"}, (r"task: 't1\n'", "pattern")),
    ("agent-lua", {"agent": "'..redis.call('FLUSHALL')..'"}, ("agent", "pattern")),
    ("agent-missing", {"agent": None}, ("agent", "required")),
]  # fmt: skip


@pytest.fixture
def held(pool: Pool, reading: TextRedis) -> Pool:
    """Task t1 is with agent a1."""
    beat(pool, "a1", max_concurrent=2)
    hear(pool, reading)
    submit(pool, "t1")
    assign(pool, "t1")
    return pool


@pytest.mark.parametrize(
    ("row", "words"), [pytest.param(*rest, id=id_) for id_, *rest in COMPLETIONS]
)
def test_completion(
    held: Pool,
    reading: TextRedis,
    logged: Logged,
    row: dict[str, str | None],
    words: tuple[str, ...],
) -> None:
    fields = {name: value for name, value in (DONE | row).items() if value is not None}
    with changes(held) as seen:
        entry = held.client.xadd(held.keys.completions, fields)
        assert settle(held, reading) == ["bad"]
    (found,) = aside(held)
    assert (found["stream"], found["entry"], len(found["raw"]) <= 1_000) == (
        "completions",
        entry,
        True,
    )
    (line,) = logged()
    assert (line["event"], line["outcome"], line["entry"]) == ("completion_ignored", "bad", entry)
    for word in words:
        assert word in found["reason"]
        assert word in line["reason"]
    assert but_streams(seen.state) == {"pool completions_bad": "1"}
    assert (
        held.client.xlen(held.keys.completions),
        held.client.xpending(held.keys.completions, GROUP)["pending"],
    ) == (0, 0)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        pytest.param({"task": "nobody"}, "unknown", id="unknown-task"),
        pytest.param({"lease": nonce("another")}, "stale", id="wrong-nonce"),
        pytest.param({"attempt": 2}, "stale", id="wrong-attempt"),
        pytest.param({"agent": "a2"}, "stale", id="other-agents-lease"),
        pytest.param({"status": "failed", "lease": nonce("x")}, "stale", id="wrong-nonce-failed"),
    ],
)
def test_completion_of_what_the_agent_does_not_hold(
    held: Pool, reading: TextRedis, logged: Logged, said: dict[str, Any], outcome: str
) -> None:
    task = said.pop("task", "t1")
    with changes(held) as seen:
        completion_entry(held, task, said.pop("status", "completed"), **said)
        assert settle(held, reading) == [outcome]
    assert but_streams(seen.state) == {f"pool completions_{outcome}": "1"}
    (line,) = logged()
    assert (line["event"], line["outcome"], line["task_id"]) == (
        "completion_ignored",
        outcome,
        task,
    )
    assert line["agent_id"] == said.get("agent", "a1")


def test_completion_again_is_a_duplicate(held: Pool, reading: TextRedis, logged: Logged) -> None:
    completion_entry(held)
    assert settle(held, reading) == ["ok"]
    with changes(held) as seen:
        completion_entry(held)
        assert settle(held, reading) == ["duplicate"]
    assert but_streams(seen.state) == {"pool completions_duplicate": "1"}
    assert logged() == []


def test_completion_of_a_cancelled_task_frees_its_unit_once(held: Pool, reading: TextRedis) -> None:
    from balancer.ledger.cancel import cancel

    assert [answer.outcome.value for answer in cancel(held, ["t1"])] == ["cancel_sent"]
    completion_entry(held)
    completion_entry(held)
    assert settle(held, reading) == ["cancelled", "duplicate"]
    assert held.client.hget(held.keys.agent("a1"), "used") == "0"
    assert held.client.hget(held.keys.task("t1"), "state") == "cancelled"


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        pytest.param('"' + "x" * 10_000_000 + '"', '{"dropped":"too_large"}', id="10-mb"),
        pytest.param("not json", '{"dropped":"not_json"}', id="not-json"),
        pytest.param("[NaN]", '{"dropped":"not_json"}', id="nan"),
        pytest.param("1e999", '{"dropped":"not_json"}', id="1e999"),
        pytest.param("9" * 4_000, '{"result":' + "9" * 4_000 + "}", id="4000-digits"),
        pytest.param("[" * 2_000, '{"dropped":"not_json"}', id="deep"),
        pytest.param(r'"\ud800"', '{"dropped":"not_json"}', id="surrogate"),
    ],
)
def test_result_that_cannot_be_kept(held: Pool, reading: TextRedis, result: str, kept: str) -> None:
    """The task has completed all the same."""
    completion_entry(held, result=result)
    assert settle(held, reading) == ["ok"]
    assert held.client.get(held.keys.result("t1")) == kept


def test_a_storm_of_bad_completions_is_told_in_part(
    held: Pool, reading: TextRedis, logged: Logged
) -> None:
    for _ in range(100):
        held.client.xadd(held.keys.completions, DONE | {"status": "done"})
    assert settle(held, reading) == ["bad"] * 100
    lines = logged()
    assert [line["event"] for line in lines] == ["completion_ignored"] * 10 + [
        "completions_ignored"
    ]
    assert lines[-1]["more"] == 90


@pytest.mark.parametrize("stream", ["heartbeats", "completions"])
def test_bytes_that_are_no_text(
    pool: Pool, reading: TextRedis, redis_server: EmbeddedRedis, logged: Logged, stream: str
) -> None:
    with connect(redis_server.url) as client:
        client.execute_command(
            "XADD", getattr(pool.keys, stream), "*", b"\xff\xfe", b"\x80\x00", b"agent", b"\xc3\x28"
        )
    assert (hear if stream == "heartbeats" else settle)(pool, reading) == ["bad"]
    assert len(aside(pool)) == len(logged()) == 1


# --- an agent's strings ---

#: Every one is a name that the rules take; none may reach beyond its own key.
TRICKY = ["meta", "a.b", "inbox", "0", "none", "redis.call", "a" * 64, "-".join("ab"), "p.settings"]


@pytest.mark.parametrize("name", TRICKY)
def test_an_agent_may_be_called_anything_that_is_a_name(
    pool: Pool, reading: TextRedis, name: str
) -> None:
    """Each key that appears is one of the key table, with this name at its end."""
    before = set(pool.client.keys("*"))
    fields = heartbeat("a1", max_concurrent=2).fields() | {
        "agent": name, "role": name, "type": name, "specializations": name, "boot": boot_of(name),
    }  # fmt: skip
    pool.client.xadd(pool.keys.heartbeats, fields)
    assert hear(pool, reading) == ["joined"]
    submit(pool, make_task("t1", role=name, category=name))
    assign(pool, "t1", name)
    assert complete(pool, "t1") == "ok"
    keys, found = Keys("p"), pool.client.hget(pool.keys.agent(name), "class")
    lane = pool.client.hget(pool.keys.task("t1"), "lane")
    assert found
    assert lane
    assert set(pool.client.keys("*")) - before == {
        keys.agent(name), keys.inbox(name), keys.role(name), keys.free(found), keys.free_units(name),
        keys.capacity(name), keys.task("t1"), keys.alive, keys.agent_timers, keys.roles, keys.classdef, keys.classn,
        keys.pool, keys.events, keys.wake, keys.completed, keys.est,
    }  # fmt: skip
