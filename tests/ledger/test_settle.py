"""The script `settle`: completions take effect."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from balancer.core.lanes import AgentClass, Lane, class_definition, lane_definition
from balancer.ledger import Pool
from balancer.ledger import reclaim as reclaims
from balancer.ledger import settle as settles
from balancer.ledger import timeout as timeouts
from balancer.ledger.settle import CompletionEntry, stored_result
from balancer.protocol import BadEvent, Completion, Status, read_completion
from balancer.protocol.keys import GROUP
from tests.support.factories import (
    GONE,
    NOW_MS,
    NOW_US,
    Clock,
    assert_bad_argument,
    assert_guarded,
    assign,
    beat,
    changes,
    complete,
    completion_entry,
    drain,
    entries,
    fields,
    make_task,
    nonce,
    populate,
    settle,
    submit,
    tried,
)

LANE, DEFINITION = lane_definition(Lane("dev", "general", 1))
CLASS, _ = class_definition(AgentClass("dev", (), 1))


@pytest.fixture
def working(virtual_pool: Pool, clock: Clock) -> Pool:
    """a1 has worked on t1 for two seconds."""
    submit(virtual_pool, make_task(max_failures=2))
    beat(virtual_pool)
    assign(virtual_pool)
    virtual_pool.client.delete(virtual_pool.keys.wake)
    clock.advance(2)
    return virtual_pool


def task(pool: Pool, id_: str = "t1") -> dict[str, str]:
    return dict(pool.client.hgetall(pool.keys.task(id_)))


def freed(pool: Pool) -> dict[str, Any]:
    """What changes when a1's only unit comes free."""
    at_ms = NOW_MS + 2_000
    ((inbox, _),) = entries(pool, pool.keys.inbox("a1"))
    return {
        **fields("agent:a1", used="0", n="0", freed_us=f"{at_ms}000"),
        f"held:a1 {task(pool)['nonce']}": GONE,
        f"inbox:a1 {inbox}": GONE,
        "leases t1": GONE,
        f"free:{CLASS} a1": at_ms,
        f"fc:dev {CLASS}": 1,
        **fields("role:dev", used="0", running="0"),
        **fields("pool", used="0", running="0"),
        "wake": ["1"],
    }


def test_completed_task_frees_its_unit(working: Pool) -> None:
    done = completion_entry(working, result='{"a":1}')
    expected = freed(working)

    with changes(working) as seen:
        assert settle(working, done) == ["ok"]

    assert seen.state == expected | {
        **fields("task:t1", state="completed", close="completed", ended_us=str(NOW_US + 2_000_000)),
        **fields("task:t1", reason="", took_ms="1500"),
        "result:t1": '{"result":{"a":1}}',
        "completed t1": NOW_US + 2_000_000,
        f"lanedef {LANE}": GONE,
        f"laneref {LANE}": GONE,
        f"completions {done.entry}": GONE,
        "role:dev completed": "1",
        "pool completed": "1",
    }
    assert seen.events == [("completed", "t1", "a1", "ok")]


def test_failed_try_waits_for_its_retry(working: Pool) -> None:
    done = completion_entry(working, "t1", "failed", error="no luck")
    expected = freed(working)

    with changes(working) as seen:
        assert settle(working, done) == ["retry"]

    assert seen.state == expected | {
        **fields("task:t1", state="failed", close="failed", failures="1", reason="failed"),
        "result:t1": '{"error":"no luck"}',
        "failed t1": NOW_US + 7_000_000,
        "hist:t1": [f"a1 {NOW_US} {NOW_US + 2_000_000} failed"],
        f"completions {done.entry}": GONE,
        **fields("role:dev", failed_attempts="1", returned="1"),
        **fields("pool", failed_attempts="1", returned="1"),
        **tried("a1"),
    }
    assert seen.events == [("failed", "t1", "a1", "retry")]


def test_last_allowed_failure_is_the_end(working: Pool) -> None:
    working.client.hset(working.keys.task("t1"), "failures", 1)
    done = completion_entry(working, "t1", "failed")
    expected = freed(working)

    with changes(working) as seen:
        assert settle(working, done) == ["dead"]

    assert seen.state == expected | {
        **fields("task:t1", state="dead", close="failed", failures="2", reason="failed"),
        **fields("task:t1", ended_us=str(NOW_US + 2_000_000), took_ms="2000"),
        "hist:t1": [f"a1 {NOW_US} {NOW_US + 2_000_000} failed"],
        "dead t1": NOW_US + 2_000_000,
        f"lanedef {LANE}": GONE,
        f"laneref {LANE}": GONE,
        f"completions {done.entry}": GONE,
        **fields("role:dev", failed_attempts="1", dead="1"),
        **fields("pool", failed_attempts="1", dead="1"),
    }
    assert seen.events == [("failed", "t1", "a1", "dead")]


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_the_same_call_again_changes_only_the_count_of_duplicates(
    working: Pool, status: str
) -> None:
    done = completion_entry(working, "t1", status)
    settle(working, done)

    with changes(working) as seen:
        assert settle(working, done) == ["duplicate"]

    assert seen.state == {"pool completions_duplicate": "1"}
    assert not seen.events


def test_the_same_completion_sent_twice_counts_once(working: Pool) -> None:
    """The agent got no answer and sent again: two entries of the stream, in one call."""
    first = completion_entry(working, result="1")
    second = completion_entry(working, "t1", "failed")

    assert settle(working, first, second) == ["ok", "duplicate"]
    assert task(working)["state"] == "completed"
    assert entries(working, working.keys.completions) == []


@pytest.mark.parametrize(
    "wrong",
    [{"lease": nonce("other")}, {"attempt": 2}, {"agent": "a2"}],
    ids=["lease", "attempt", "agent"],
)
def test_completion_of_another_lease_is_stale(working: Pool, wrong: dict[str, Any]) -> None:
    done = completion_entry(working, **wrong)

    with changes(working) as seen:
        assert settle(working, done) == ["stale"]

    assert seen.state == {f"completions {done.entry}": GONE, "pool completions_stale": "1"}
    assert not seen.events


def test_completion_of_an_unknown_task_is_unknown(working: Pool) -> None:
    done = completion_entry(working, "nobody")

    with changes(working) as seen:
        assert settle(working, done) == ["unknown"]

    assert seen.state == {f"completions {done.entry}": GONE, "pool completions_unknown": "1"}


def test_completion_after_reclaim_is_stale(working: Pool) -> None:
    done = completion_entry(working)
    beat(working, mode="stopped")
    reclaims.reclaim(working, "a1")

    with changes(working) as seen:
        assert settle(working, done) == ["stale"]

    assert seen.state == {f"completions {done.entry}": GONE, "pool completions_stale": "1"}


def test_completion_after_timeout_is_stale(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, make_task(run_timeout_s=1))
    beat(virtual_pool)
    assign(virtual_pool)
    done = completion_entry(virtual_pool)
    clock.advance(7)
    assert timeouts.timeout(virtual_pool).retry == 1

    assert settle(virtual_pool, done) == ["stale"]
    assert task(virtual_pool)["state"] == "failed"


def test_completion_of_an_earlier_try_is_stale_while_the_next_one_runs(
    working: Pool, clock: Clock
) -> None:
    old = completion_entry(working)
    beat(working, mode="stopped")
    reclaims.reclaim(working, "a1")
    beat(working, mode="running")
    assign(working)
    new = completion_entry(working)

    assert settle(working, old, new) == ["stale", "ok"]


def test_malformed_entry_is_set_aside(working: Pool) -> None:
    entry = working.client.xadd(working.keys.completions, {"what": "ever"})

    with changes(working) as seen:
        assert settle(
            working, CompletionEntry(entry, None, "agent: missing", '{"what":"ever"}')
        ) == ["bad"]

    ((rejected, content),) = entries(working, working.keys.rejected)
    assert content == {
        "stream": "completions",
        "entry": entry,
        "reason": "agent: missing",
        "raw": '{"what":"ever"}',
    }
    assert seen.state == {
        f"completions {entry}": GONE,
        f"rejected {rejected}": content,
        "rejected groups": {},
        "pool completions_bad": "1",
    }


def test_entries_are_acknowledged_with_their_effect(working: Pool) -> None:
    """Nothing is left in the group's pending list, whatever the outcome."""
    completion_entry(working)
    completion_entry(working, "nobody")
    working.client.xadd(working.keys.completions, {"what": "ever"})
    read = working.client.xreadgroup(GROUP, "c1", {working.keys.completions: ">"})
    assert read
    assert working.client.xpending(working.keys.completions, GROUP)["pending"] == 3
    said = [(entry, content) for entry, content in entries(working, working.keys.completions)]
    items = [
        CompletionEntry(entry, Completion.model_validate(content), "", "")
        if "task" in content
        else CompletionEntry(entry, None, "agent: missing")
        for entry, content in (
            (e, {k: int(v) if k in {"attempt", "duration_ms"} else v for k, v in c.items()})
            for e, c in said
        )
    ]

    assert settle(working, *items) == ["ok", "unknown", "bad"]
    assert working.client.xpending(working.keys.completions, GROUP)["pending"] == 0
    assert entries(working, working.keys.completions) == []


def test_bytes_that_are_no_text_are_read_and_set_aside(pool: Pool) -> None:
    """Any agent can write them; an error while reading would stop the consumer for ever."""
    pool.client.xadd(pool.keys.completions, {"agent": b"\xff\xfe", b"\x80": "x"})

    reply = pool.client.xreadgroup(GROUP, "c1", {pool.keys.completions: ">"})

    (((entry, content),),) = reply.values()
    with pytest.raises(BadEvent) as caught:
        read_completion(content)
    assert settle(pool, CompletionEntry(entry, None, str(caught.value), str(content))) == ["bad"]
    assert entries(pool, pool.keys.completions) == []


@pytest.fixture
def busy(virtual_pool: Pool) -> Pool:
    """A hundred tasks, each on a unit of one of ten agents."""
    submit(virtual_pool, *(f"t{n}" for n in range(100)))
    for n in range(10):
        beat(virtual_pool, f"a{n}", max_concurrent=10)
    assert len(drain(virtual_pool)) == 100
    return virtual_pool


def test_a_hundred_completions_in_one_call(busy: Pool) -> None:
    done = [completion_entry(busy, f"t{n}") for n in range(100)]

    assert settle(busy, *done) == ["ok"] * 100
    assert busy.client.hmget(busy.keys.pool, ["used", "running", "completed"]) == ["0", "0", "100"]


def test_one_bad_entry_of_a_hundred_does_not_wedge_the_rest(busy: Pool) -> None:
    done = [completion_entry(busy, f"t{n}") for n in range(100)]
    done[57] = CompletionEntry(done[57].entry, None, "attempt: 'x' is not a whole number")

    assert settle(busy, *done) == ["ok"] * 57 + ["bad"] + ["ok"] * 42
    assert busy.client.hmget(busy.keys.pool, ["used", "running", "completed"]) == ["1", "1", "99"]
    assert entries(busy, busy.keys.completions) == []
    assert complete(busy, "t57") == "ok"


@pytest.mark.damaged
def test_one_broken_record_of_a_hundred_does_not_wedge_the_rest(busy: Pool) -> None:
    """A key of the wrong type fails inside the script; what was applied before it must still be counted."""
    done = [completion_entry(busy, f"t{n}") for n in range(100)]
    busy.client.set(busy.keys.task("t57"), "not a hash")

    assert settle(busy, *done) == ["ok"] * 57 + ["bad"] + ["ok"] * 42
    assert busy.client.hmget(busy.keys.pool, ["used", "running", "completed"]) == ["1", "1", "99"]
    ((_, content),) = entries(busy, busy.keys.rejected)
    assert content["entry"] == done[57].entry
    assert "WRONGTYPE" in content["reason"]
    assert entries(busy, busy.keys.completions) == []
    busy.client.delete(busy.keys.task("t57"))


def test_settle_says_whether_children_wait(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1", make_task("child", depends_on=("t1",)), "t2")
    beat(virtual_pool, max_concurrent=2)
    assign(virtual_pool, "t1")
    assign(virtual_pool, "t2")

    assert not settles.settle(virtual_pool, [completion_entry(virtual_pool, "t2")]).release_due
    assert settles.settle(virtual_pool, [completion_entry(virtual_pool, "t1")]).release_due


def test_settle_of_a_parent_leaves_its_children_to_release(virtual_pool: Pool) -> None:
    """A thousand children cost a settle no more than one."""
    submit(virtual_pool, "t1", *(make_task(f"c{n}", depends_on=("t1",)) for n in range(1_000)))
    beat(virtual_pool)
    assign(virtual_pool)

    with changes(virtual_pool) as seen:
        assert complete(virtual_pool) == "ok"

    assert seen.state["release t1"] == NOW_US
    assert not [key for key in seen.state if re.search(r"[ :]c\d+\b", key)]


# --- what is kept of a try ---


def done(**facts: str) -> Completion:
    return Completion(
        agent="a", task="t", attempt=1, lease=nonce(1), status=Status.COMPLETED, **facts
    )


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({}, ""),
        ({"result": "7"}, '{"result":7}'),
        ({"result": '{"ü":[1,null]}'}, '{"result":{"ü":[1,null]}}'),
        ({"result": '"' + 4_094 * "x" + '"'}, '{"result":"' + 4_094 * "x" + '"}'),
        ({"result": '"' + 4_095 * "x" + '"'}, '{"dropped":"too_large"}'),
        ({"result": '"' + 2_048 * "ü" + '"'}, '{"dropped":"too_large"}'),
        ({"result": "{"}, '{"dropped":"not_json"}'),
        ({"result": "NaN"}, '{"dropped":"not_json"}'),
        ({"result": "-Infinity"}, '{"dropped":"not_json"}'),
        ({"result": 2_000 * "[" + 2_000 * "]"}, '{"dropped":"not_json"}'),
        ({"error": "bad", "result": "1"}, '{"error":"bad","result":1}'),
        ({"error": 5_000 * "e"}, '{"error":"' + 2_048 * "e" + '"}'),
        ({"error": "e" + 2_000 * "ü"}, '{"error":"e' + 1_023 * "ü" + '"}'),
    ],
    ids=lambda value: str(value)[:40],
)
def test_stored_result_is_bounded_json(said: dict[str, str], kept: str) -> None:
    assert stored_result(done(**said)) == kept
    assert not kept or json.loads(kept)


def test_task_with_a_broken_result_still_completes(working: Pool) -> None:
    assert complete(working, result="{not json") == "ok"

    assert working.client.get(working.keys.result("t1")) == '{"dropped":"not_json"}'


# --- faults ---


def test_settle_runs_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    """It frees more than it takes, and without it nothing would ever get better."""
    submit(pool, make_task("t1"), make_task("t2", max_failures=1), "t3", "t4")
    beat(pool, max_concurrent=4)
    for n in range(1, 5):
        assign(pool, f"t{n}")
    rubbish = CompletionEntry(
        pool.client.xadd(pool.keys.completions, {"x": "y"}), None, "agent: missing"
    )
    unknown = completion_entry(pool, "nobody")
    one, two, three = (
        completion_entry(pool, f"t{n}", s)
        for n, s in ((1, "completed"), (2, "failed"), (3, "failed"))
    )
    four = completion_entry(pool, "t4", result="4")

    with out_of_memory():
        for batch, outcomes in (
            ([rubbish], ["bad"]),
            ([unknown], ["unknown"]),
            ([one], ["ok"]),
            ([two], ["dead"]),
        ):
            assert settle(pool, *batch) == outcomes
        assert settle(pool, three, four) == ["retry", "ok"]
        assert settle(pool, one) == ["duplicate"]

    assert pool.client.hmget(pool.keys.pool, ["used", "completed", "dead"]) == ["0", "2", "1"]


def args_of(pool: Pool, *items: str) -> list[str | int]:
    out: list[str | int] = [5_000_000, 60_000_000, 0]
    for id_ in items:
        known = task(pool, id_)
        out += ["1-1", "event", "a1", id_, "1", known.get("nonce", ""), "completed", "", 7]
    return out


def test_settle_of_nothing_calls_nothing(virtual_pool: Pool) -> None:
    assert settles.settle(virtual_pool, []).outcomes == []


def test_settle_on_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    assert_guarded(virtual_pool, settles.SCRIPT, args_of(virtual_pool, "assigned"))


def test_settle_on_a_real_pool_with_a_time_of_the_callers_writes_nothing(pool: Pool) -> None:
    populate(pool)
    assert_guarded(pool, settles.SCRIPT, args_of(pool, "assigned"))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, "nan"), (0, "-1"), (0, "0x10"), (0, "1e6"), (0, "86400000001"), (1, "nan"), (1, "-1"), (1, "86400000001"),
        (2, "nan"), (2, "-1"), (2, "1000001"), (2, "0.5"), (12, "abc"), (12, "1-"), (12, ""), (13, "gossip"),
        (18, "finished"), (18, ""), (19, 8_193 * "x"), (20, "x"), (20, "nan"), (20, "-1"), (20, "0x10"),
        (20, str(2**53)),
    ],
)  # fmt: skip
def test_settle_with_a_bad_argument_writes_nothing(working: Pool, at: int, value: str) -> None:
    args = args_of(working, "t1", "t1")
    args[at] = value

    assert_bad_argument(working, settles.SCRIPT, args)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: a[:3],
        lambda a: a[:-1],
        lambda a: [*a, "x"],
        lambda a: a[:3] + a[3:] * 101,
        lambda a: [],
    ],
)
def test_settle_of_half_or_too_many_entries_writes_nothing(
    working: Pool, spoil: Callable[[list[str | int]], list[object]]
) -> None:
    assert_bad_argument(working, settles.SCRIPT, spoil(args_of(working, "t1")))
