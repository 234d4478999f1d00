"""The consumers: events take effect once, in whatever state their consumer was left."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from balancer.core.errors import SafeStop
from balancer.ledger import Pool
from balancer.ledger.read_tasks import task_statuses
from balancer.loops import consumer as consumers
from balancer.loops.consumer import CompletionConsumer, HeartbeatConsumer, newest_only
from balancer.loops.loop import Loop
from balancer.protocol import TextRedis
from balancer.protocol.keys import GROUP
from tests.support.factories import (
    assign,
    beat,
    beat_entry,
    boot_of,
    completion_entry,
    dump,
    entries,
    heartbeat,
    make_task,
    submit,
)
from tests.support.wait import wait_until

ended = threading.Event()
ended.set()


def state(pool: Pool, task: str = "t1") -> str:
    status = task_statuses(pool, [task])[0]
    return status.state.value if status else "unknown"


def heartbeats(pool: Pool, reading: TextRedis) -> HeartbeatConsumer:
    return HeartbeatConsumer(pool, reading, "c0", block_s=0.001)


def completions(pool: Pool, reading: TextRedis, name: str = "c0") -> CompletionConsumer:
    return CompletionConsumer(pool, reading, name, block_s=0.001)


def unsettled(pool: Pool) -> int:
    return int(pool.client.xpending(pool.keys.completions, GROUP)["pending"])


# --- heartbeats ---


def test_heartbeats_are_applied_in_one_call_and_the_pool_knows_that_it_heard_all(
    pool: Pool, reading: TextRedis
) -> None:
    for name in ("a1", "a2", "a3"):
        beat_entry(pool, heartbeat(name, start=True))
    assert [word.value for word in heartbeats(pool, reading).step()] == ["joined"] * 3
    assert pool.client.zcard(pool.keys.alive) == 3
    mark = int(pool.client.hget(pool.keys.meta, "hb_mark_ms"))
    assert mark >= max(
        score for _, score in pool.client.zrange(pool.keys.alive, 0, -1, withscores=True)
    )


def test_an_idle_stream_moves_the_mark(pool: Pool, reading: TextRedis) -> None:
    assert heartbeats(pool, reading).step() == []
    assert int(pool.client.hget(pool.keys.meta, "hb_mark_ms")) > 0


def test_a_malformed_heartbeat_is_set_aside_and_the_rest_applied(
    pool: Pool, reading: TextRedis
) -> None:
    bad = {**heartbeat("a2").fields(), "max_concurrent": "nan"}
    beat_entry(pool, heartbeat("a1"))
    pool.client.xadd(pool.keys.heartbeats, bad)
    beat_entry(pool, heartbeat("a3"))
    assert [word.value for word in heartbeats(pool, reading).step()] == ["joined", "bad", "joined"]
    (_, aside), *rest = entries(pool, pool.keys.rejected)
    assert rest == []
    assert aside["stream"] == "heartbeats"
    assert "max_concurrent" in aside["reason"]
    assert "nan" in aside["reason"]


def test_a_restarted_agent_loses_at_once_what_it_does_not_resume(
    pool: Pool, reading: TextRedis
) -> None:
    beat(pool, "a1", max_concurrent=2)
    submit(pool, "t1", "t2")
    kept, _ = assign(pool, "t1"), assign(pool, "t2")
    beat_entry(pool, heartbeat("a1", boot=2, max_concurrent=2, start=True, held=(kept,)))
    assert [word.value for word in heartbeats(pool, reading).step()] == ["stale", "new_boot"]
    assert (state(pool, "t1"), state(pool, "t2")) == ("assigned", "pending")


def test_many_restarts_are_applied_in_bounded_calls(pool: Pool, reading: TextRedis) -> None:
    for n in range(50):
        beat_entry(pool, heartbeat(f"a{n}", start=True))
    consumer = heartbeats(pool, reading)
    assert [len(consumer.step()) for _ in range(4)] == [20, 20, 10, 0]
    assert pool.client.zcard(pool.keys.alive) == 50


def test_newest_only_keeps_starts_bad_entries_and_each_boots_newest(pool: Pool) -> None:
    beats = [
        beat_entry(pool, item)
        for item in (
            heartbeat("a1", seq=1, start=True),
            heartbeat("a1", seq=2),
            heartbeat("a2", seq=1),
            heartbeat("a1", seq=3),
            heartbeat("a1", boot=2, seq=1),
        )
    ]
    bad = beats[0]._replace(beat=None)
    kept = newest_only([*beats, bad])
    assert kept == [beats[0], beats[2], beats[3], beats[4], bad]


def test_a_heartbeat_that_was_read_but_not_applied_is_applied_by_the_next_pass(
    pool: Pool, reading: TextRedis
) -> None:
    beat_entry(pool, heartbeat("a1"))
    consumer = heartbeats(pool, reading)
    genesis, pool.genesis = pool.genesis, boot_of("another pool")
    with pytest.raises(Exception, match="not the one that was opened"):
        consumer.step()
    pool.genesis = genesis
    assert [word.value for word in consumer.step()] == ["joined"]


# --- completions ---


def test_completions_are_settled_acknowledged_and_deleted(pool: Pool, reading: TextRedis) -> None:
    beat(pool, max_concurrent=2)
    submit(pool, "t1", "t2", make_task("child", depends_on=("t1", "t2")))
    for task in ("t1", "t2"):
        assign(pool, task)
        completion_entry(pool, task)
    assert [word.value for word in completions(pool, reading).step()] == ["ok", "ok"]
    assert [state(pool, task) for task in ("t1", "t2", "child")] == [
        "completed",
        "completed",
        "pending",
    ]
    assert (pool.client.xlen(pool.keys.completions), unsettled(pool)) == (0, 0)


def test_what_a_consumer_read_before_it_died_comes_first_when_its_name_returns(
    pool: Pool, reading: TextRedis
) -> None:
    beat(pool)
    submit(pool, "t1")
    assign(pool)
    completion_entry(pool)
    reading.xreadgroup(GROUP, "c0", {pool.keys.completions: ">"})
    assert unsettled(pool) == 1
    assert [word.value for word in completions(pool, reading).step()] == ["ok"]
    assert (state(pool), unsettled(pool)) == ("completed", 0)


def test_what_a_dead_consumer_left_is_claimed_once_it_lay_idle(
    pool: Pool, reading: TextRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(pool)
    submit(pool, "t1")
    assign(pool)
    completion_entry(pool)
    reading.xreadgroup(GROUP, "c7", {pool.keys.completions: ">"})
    assert completions(pool, reading).step() == []
    assert state(pool) == "assigned"
    monkeypatch.setattr(consumers, "CLAIM_IDLE_MS", 0)
    assert [word.value for word in completions(pool, reading).step()] == ["ok"]
    assert (state(pool), unsettled(pool)) == ("completed", 0)


def test_a_completion_whose_settling_failed_is_settled_by_the_next_pass(
    pool: Pool, reading: TextRedis
) -> None:
    beat(pool)
    submit(pool, "t1")
    assign(pool)
    completion_entry(pool)
    consumer = completions(pool, reading)
    genesis, pool.genesis = pool.genesis, boot_of("another pool")
    with pytest.raises(Exception, match="not the one that was opened"):
        consumer.step()
    assert (state(pool), unsettled(pool)) == ("assigned", 1)
    pool.genesis = genesis
    restarted = completions(pool, reading)
    assert [word.value for word in restarted.step()] == ["ok"]
    assert (state(pool), unsettled(pool)) == ("completed", 0)


def test_malformed_completions_are_set_aside_with_the_reason_and_stop_nothing(
    pool: Pool, reading: TextRedis
) -> None:
    beat(pool)
    submit(pool, "t1")
    assign(pool)
    wrong = [{"x": "y"}, {"v": "99"}, {"v": "1", "status": "done", "task": "a:b"}]
    for fields in wrong:
        pool.client.xadd(pool.keys.completions, fields)
    completion_entry(pool)
    outcomes = [word.value for word in completions(pool, reading).step()]
    assert outcomes == ["bad", "bad", "bad", "ok"]
    reasons = [fields["reason"] for _, fields in entries(pool, pool.keys.rejected)]
    assert len(reasons) == 3
    assert "99" in reasons[1]
    assert (pool.client.xlen(pool.keys.completions), unsettled(pool)) == (0, 0)


@pytest.mark.damaged
def test_an_entry_on_which_the_script_errs_does_not_wedge_the_other_99(
    pool: Pool, reading: TextRedis
) -> None:
    beat(pool, max_concurrent=100)
    tasks = [f"t{n}" for n in range(100)]
    submit(pool, *tasks)
    for task in tasks:
        assign(pool, task)
        completion_entry(pool, task)
    pool.client.delete(pool.keys.task("t57"))
    pool.client.set(pool.keys.task("t57"), "not a hash")
    outcomes = [word.value for word in completions(pool, reading).step()]
    assert outcomes == ["ok"] * 57 + ["bad"] + ["ok"] * 42
    assert pool.client.hget(pool.keys.agent("a1"), "used") == "1"
    assert pool.client.hlen(pool.keys.held("a1")) == 1
    assert (pool.client.xlen(pool.keys.completions), unsettled(pool)) == (0, 0)
    assert len(entries(pool, pool.keys.rejected)) == 1
    pool.client.delete(pool.keys.task("t57"))


@pytest.mark.parametrize("stream", ["heartbeats", "completions"])
def test_a_group_that_was_destroyed_is_made_anew_from_the_start(
    pool: Pool, reading: TextRedis, stream: str
) -> None:
    beat(pool)
    submit(pool, "t1")
    assign(pool)
    completion_entry(pool)
    beat_entry(pool, heartbeat("a2"))
    pool.client.xgroup_destroy(getattr(pool.keys, stream), GROUP)
    consumer = (heartbeats if stream == "heartbeats" else completions)(pool, reading)
    consumer.step()
    consumer.step()
    if stream == "heartbeats":
        assert pool.client.zscore(pool.keys.alive, "a2") is not None
    else:
        assert state(pool) == "completed"


def test_nothing_new_changes_nothing(pool: Pool, reading: TextRedis) -> None:
    beat(pool)
    consumer = completions(pool, reading)
    consumer.step()
    before = dump(pool.client)
    assert consumer.step() == []
    assert dump(pool.client) == before


@pytest.mark.parametrize("result", ['"\\ud800"', '{"a": "x\\udfff"}', "1e999", "[NaN]"])
def test_a_result_that_redis_cannot_hold_completes_without_it(
    pool: Pool, reading: TextRedis, result: str
) -> None:
    beat(pool)
    submit(pool, "t1")
    assign(pool)
    completion_entry(pool, result=result)
    assert [word.value for word in completions(pool, reading).step()] == ["ok"]
    assert pool.client.get(pool.keys.result("t1")) == '{"dropped":"not_json"}'


@pytest.mark.parametrize("kind", [heartbeats, completions])
def test_a_redis_that_lost_the_pool_is_left_alone(
    pool: Pool, reading: TextRedis, kind: Callable[[Pool, TextRedis], Loop]
) -> None:
    loop, stop = kind(pool, reading), threading.Event()
    pool.client.flushall()
    with pytest.raises(SafeStop):
        loop.step()
    loop._failed(SafeStop("gone"), stop=ended)
    stranger = Pool.create(pool.client, "p")
    before = dump(pool.client)
    thread = threading.Thread(target=loop.run, args=(stop,), daemon=True)
    thread.start()
    wait_until(lambda: loop._failures > 2, "it has looked again")
    stop.set()
    thread.join(10)
    assert dump(pool.client) == before
    assert stranger.genesis != pool.genesis
