"""Every call is safe to repeat: its reply is cut, so that nobody knows what became of it; it is sent again; there is
one effect.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import balancer.ledger
from balancer import AsyncBalancer, Balancer
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.ledger.script import Script
from balancer.ledger.submit import Submitted
from balancer.protocol import connect
from balancer.workload import WorkloadBalancer
from tests.faults.cases import CASES, Case, scripts
from tests.support.factories import Clock, assign, beat, complete, dump, make_task, submit
from tests.support.proxy import Proxy

LEDGER = Path(balancer.ledger.__file__).parent
ALL = {path.stem: path.read_text() for path in LEDGER.glob("*.lua")}
#: How a script says that it writes: by a command of its own, or by a part that writes for it.
WRITES = re.compile(
    r"redis\.call\('(?:[HPZ]?SET|HDEL|DEL|UNLINK|[HZ]?INCRBY|ZADD|ZREM|XADD|XTRIM|XDEL|SADD|SREM|RPUSH|PEXPIRE)'"
    r"|save_(?:common|agents|tasks)\(\)"
)


@pytest.fixture
def proxy(redis_server: EmbeddedRedis) -> Iterator[Proxy]:
    with Proxy(redis_server.url) as own:
        yield own


def flat(pool: Pool) -> dict[tuple[str, str], Any]:
    """Every fact of the database but the live tail of events' ids: (key, field) to value."""
    out: dict[tuple[str, str], Any] = {}
    for key, value in dump(pool.client).items():
        name = key.partition("}:")[2]
        for field, inner in value.items() if isinstance(value, dict) else [("", value)]:
            out[name, field] = inner
    return out


def different(before: dict[tuple[str, str], Any], after: dict[tuple[str, str], Any]) -> set[str]:
    """`key field` of every fact that is not the same."""
    return {
        " ".join(name)
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    }


def test_every_script_that_writes_is_in_the_table() -> None:
    assert set(scripts()) == {name for name, text in ALL.items() if WRITES.search(text)}
    assert {"view", "commit", "tick"} <= set(scripts()) <= ALL.keys()
    assert not {"audit", "audit_agents", "audit_tasks"} & set(scripts())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_script_whose_reply_is_cut_has_one_effect(
    virtual_pool: Pool, clock: Clock, proxy: Proxy, case: Case
) -> None:
    act = case.prepare(virtual_pool, clock)
    for name in ALL:
        virtual_pool.client.script_load(Script(name, alone=name == "init").text)
    with connect(proxy.url) as client:
        via = Pool(client, virtual_pool.name, virtual_pool.genesis, virtual_pool.settings, clock)
        client.ping()
        before = flat(virtual_pool)
        proxy.cut_replies(1, b"EVALSHA")
        with pytest.raises(redis.ConnectionError):
            act(via)
        assert proxy.cuts == 1
        once = flat(virtual_pool)
        assert different(before, once), "it did nothing"
        act(via)
    assert different(once, flat(virtual_pool)) <= case.counted


# --- what producers call: the whole call, with the reply of each of its round trips cut in turn ---

#: Calls of either door, by method; each once more than once where it does more than one thing.
Call = Callable[[Any], Any]
CALLS: dict[str, list[Call]] = {
    "submit": [
        lambda door: door.submit(id="new", role="dev"),
        lambda door: door.submit(id="new", role="dev", dedup_key="once", block_s=5),
        lambda door: door.submit(id="new", role="dev", on_completion=print),
    ],
    "submit_many": [lambda door: door.submit_many([make_task(f"new-{n}") for n in range(250)])],
    "cancel": [lambda door: door.cancel("t1"), lambda door: door.cancel("t3")],
    "retry": [lambda door: door.retry(["t4", "t1"])],
    "retry_dead": [lambda door: door.retry_dead("dev", "failed")],
    "reprioritise": [lambda door: door.reprioritise(["t1", "t4"], "critical")],
    "pause_queue": [lambda door: door.pause_queue("dev")],
    "resume_queue": [lambda door: door.resume_queue("paused")],
    "purge_queue": [lambda door: door.purge_queue("dev")],
    "pause_agent": [lambda door: door.pause_agent("a1")],
    "resume_agent": [lambda door: door.resume_agent("a2")],
    "configure": [lambda door: door.configure(strategy="fit", head_start_s={"low": 5})],
    "retire_agent": [lambda door: door.retire_agent("a1", 60)],
}
#: The same for the calls that only WorkloadBalancer has.
BY_HAND: dict[str, list[Call]] = {
    "assign_task": [lambda door: door.assign_task("t1")],
    "rebalance": [lambda door: door.rebalance(5)],
    "track_assignment": [lambda door: door.track_assignment("a1", "t1")],
    "track_completion": [
        lambda door: door.track_completion("a1", "t3"),
        lambda door: door.track_completion("a1"),
    ],
    "reset_workload": [lambda door: door.reset_workload("a1")],
}
#: Calls that change nothing in Redis.
READS = {
    "status", "statuses", "result", "history", "wait", "wait_many", "on_completion",
    "load_metrics", "agents", "queues", "close", "pool", "get_workload", "get_total_workload",
    "get_idle_agents", "get_agents_by_role", "get_roles_needed", "stats", "why",
}  # fmt: skip


def prepare(pool: Pool) -> None:
    """t1 and t2 wait, t3 runs on a1, t4 is dead; a2 and the role `paused` are paused."""
    with Balancer(_url(pool), pool.name) as producer:
        submit(pool, "t1", "t2", "t3", make_task("p1", role="paused"))
        submit(pool, make_task("t4", max_failures=1))
        beat(pool, "a1", max_concurrent=2)
        beat(pool, "a2", max_concurrent=2)
        assign(pool, "t3", "a1")
        assign(pool, "t4", "a1")
        complete(pool, "t4", "failed")
        producer.pause_queue("paused")
        producer.pause_agent("a2")


def _url(pool: Pool) -> str:
    path = pool.client.connection_pool.connection_kwargs["path"]
    return f"unix://{path}?db=0"


def counts(pool: Pool) -> dict[str, Any]:
    """What is left of the state when times are taken out: states, counters, memberships."""
    out: dict[str, Any] = {}
    for key, value in dump(pool.client).items():
        name = key.partition("}:")[2]
        if name.startswith("task:"):
            out[name] = (value["state"], value.get("reason"))
        elif name == "pool" or name.startswith("role:"):
            # Repeats that were refused are counted; that is no effect.
            kept = {
                k: v
                for k, v in value.items()
                if not k.startswith("completions_") and k != "service_us"
            }
            out[name] = kept | ({"paused": "since"} if "paused" in value else {})
        elif name.startswith("est"):
            # How often each kind of work was seen: what a repeat must not raise.
            out[name] = {cell: text.split()[0] for cell, text in value.items()}
        elif name.startswith(("inbox:", "completions", "held:", "hist:")):
            out[name] = len(value)
        elif not name.startswith(("events", "heartbeats", "meta")):
            # A lane that avoids an agent for a while is named after the moment, too.
            plain = (
                sorted(str(one).split("+")[0] for one in value)
                if isinstance(value, dict | set)
                else value
            )
            out[name.split("+")[0]] = plain
    return out


def told(name: str, answer: Any) -> Any:
    """What an answer says that does not depend on which of two sendings it is the answer to."""
    if name in {"purge_queue", "reset_workload", "retry", "retry_dead", "reprioritise"}:
        return None  # what this sending changed
    if isinstance(answer, list):
        return [told(name, one) for one in answer]
    if isinstance(answer, Submitted):
        return answer.task_id, answer.outcome.is_stored
    return answer


def called(door: type[Any], url: str, call: Call) -> Any:
    """What a call answers, by either door."""
    if issubclass(door, Balancer):
        with door(url, "p") as producer:
            return call(producer)

    async def main() -> Any:
        async with AsyncBalancer(url, "p") as producer:
            return await call(producer)

    return asyncio.run(main())


def test_every_call_that_changes_something_is_in_the_table() -> None:
    public = {name for name, _ in inspect.getmembers(WorkloadBalancer) if not name.startswith("_")}
    assert public - READS == CALLS.keys() | BY_HAND.keys()


@pytest.mark.parametrize(
    ("door", "name", "call"),
    [
        pytest.param(door, name, call, id=f"{door.__name__}.{name}")
        for doors, table in (((Balancer, AsyncBalancer), CALLS), ((WorkloadBalancer,), BY_HAND))
        for door in doors
        for name, calls in table.items()
        for call in calls
    ],
)
def test_a_producers_call_whose_replies_are_cut_has_one_effect(
    redis_client: redis.Redis, proxy: Proxy, *, door: type[Any], name: str, call: Call
) -> None:
    def fresh() -> Pool:
        redis_client.flushall()
        pool = Pool.create(redis_client, "p")
        prepare(pool)
        return pool

    pool = fresh()
    expected = told(name, called(door, proxy.url, call)), counts(pool)
    cut = -1
    while cut < proxy.cuts:
        cut = proxy.cuts
        pool = fresh()
        proxy.cut_replies(1, b"EVALSHA", skip=cut)
        answer, after = told(name, called(door, proxy.url, call)), counts(pool)
        assert answer == expected[0]
        assert {
            name: value for name, value in after.items() if value != expected[1].get(name)
        } == {}
        assert after.keys() == expected[1].keys()
    assert cut >= 1, "nothing was cut"
    proxy.cut_replies(0)
