"""What producers, blocking and asyncio, and loops do about each error of Redis: real sockets, real clients, a real
server that is made to answer it.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from balancer import AsyncBalancer, Balancer
from balancer.core.errors import (
    BalancerError,
    Denied,
    Misconfigured,
    RedisFull,
    SafeStop,
    Unavailable,
    Unconfirmed,
    UnexpectedReply,
)
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.loops.consumer import CompletionConsumer, HeartbeatConsumer
from balancer.loops.drainer import Drainer
from balancer.loops.loop import Loop
from balancer.loops.sweeper import Sweeper
from balancer.protocol import causes, connect
from balancer.protocol.keys import GROUP
from balancer.service import Service
from tests.support.factories import (
    assign,
    beat,
    beat_entry,
    changes,
    completion_entry,
    heartbeat,
)
from tests.support.factories import submit as submit_tasks
from tests.support.faulty import CUT, DROP, HANG, FaultyRedis
from tests.support.wait import wait_until

PASSING = [
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down",
    "CLUSTERDOWN Hash slot not served",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "ASK 3999 127.0.0.1:6381",
    "BUSY Redis is busy running a script.",
    "MISCONF Errors writing to the AOF file",
    "READONLY You can't write against a read only replica.",
    "NOREPLICAS Not enough good replicas to write.",
    "UNBLOCKED force unblock from blocking operation",
    "ERR max number of clients reached",
    "EXECABORT Transaction discarded",
    DROP,
    CUT,
]
LASTING: list[tuple[str, type[BalancerError]]] = [
    ("OOM command not allowed when used memory > 'maxmemory'.", RedisFull),
    ("NOAUTH Authentication required.", Denied),
    ("WRONGPASS invalid username-password pair", Denied),
    ("NOPERM this user has no permissions", Denied),
    ("MOVED 3999 127.0.0.1:6381", Misconfigured),
    ("ERR DB index is out of range", Misconfigured),
    ("ERR unknown command 'EVALSHA'", Misconfigured),
    ("WRONGTYPE Operation against a key", SafeStop),
    ("CROSSSLOT Keys in request don't hash to the same slot", SafeStop),
    ("ERR something odd", UnexpectedReply),
]
Submit = Callable[..., str]
#: The module; the package has a function of this name.
connecting = importlib.import_module("balancer.protocol.connect")


@pytest.fixture
def faulty(redis_server: EmbeddedRedis) -> Iterator[FaultyRedis]:
    with FaultyRedis(redis_server.url) as server:
        yield server


#: How long the producers of a test go on trying, seconds.
PATIENT_S, HASTY_S, ONCE_S = 5.0, 0.2, 0.0


@pytest.fixture(params=["blocking", "asyncio"])
def submit(request: pytest.FixtureRequest, faulty: FaultyRedis, pool: Pool) -> Iterator[Submit]:
    """Submits one task through the faulty server, with a producer that opened the pool before."""
    deadlines = (PATIENT_S, HASTY_S, ONCE_S)
    with ExitStack() as stack:
        if request.param == "blocking":
            producers = {
                deadline_s: stack.enter_context(
                    Balancer(faulty.url, pool.name, deadline_s=deadline_s)
                )
                for deadline_s in deadlines
            }
            yield lambda task, deadline_s=PATIENT_S: producers[deadline_s].submit(
                id=task, role="dev"
            )
            return
        runner = stack.enter_context(asyncio.Runner())
        others = {
            deadline_s: AsyncBalancer(faulty.url, pool.name, deadline_s=deadline_s)
            for deadline_s in deadlines
        }
        for other in others.values():
            runner.run(other.pool())
        yield lambda task, deadline_s=PATIENT_S: runner.run(
            others[deadline_s].submit(id=task, role="dev")
        )
        for other in others.values():
            runner.run(other.close())


@pytest.mark.parametrize("fault", PASSING)
def test_producers_send_again_what_passes_by_itself(
    submit: Submit, faulty: FaultyRedis, pool: Pool, fault: str
) -> None:
    faulty.answer(fault, 2)
    assert submit("t1") == "t1"
    assert faulty.seen["EVALSHA"] >= 3
    assert pool.client.zcard(pool.keys.pending("dev")) == 1


@pytest.mark.parametrize(("fault", "error"), LASTING)
def test_producers_give_up_at_once_what_does_not_pass(
    submit: Submit, faulty: FaultyRedis, pool: Pool, fault: str, error: type[BalancerError]
) -> None:
    faulty.seen.clear()
    faulty.answer(fault)
    with changes(pool) as changed, pytest.raises(error) as raised:
        submit("t1")
    assert changed.nothing
    assert type(raised.value) is error
    assert faulty.seen["EVALSHA"] == 1
    faulty.answer("")
    assert submit("t1") == "t1"


def test_a_script_that_the_server_does_not_know_is_told_to_it_once(
    submit: Submit, faulty: FaultyRedis, pool: Pool
) -> None:
    pool.client.script_flush()
    faulty.seen.clear()
    assert submit("t1") == "t1"
    assert (faulty.seen["EVALSHA"], faulty.seen["SCRIPT"]) == (2, 1)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("LOADING Redis is loading", Unavailable),
        (DROP, Unconfirmed),  # who sends cannot tell it from CUT
        (CUT, Unconfirmed),
    ],
)
def test_a_producer_is_told_whether_the_outcome_is_known(
    submit: Submit, faulty: FaultyRedis, pool: Pool, fault: str, error: type[Unavailable]
) -> None:
    faulty.answer(fault)
    with pytest.raises(Unavailable, match=r"no answer from Redis within 0.2 s") as raised:
        submit("t1", deadline_s=HASTY_S)
    assert type(raised.value) is error
    faulty.answer("")
    assert submit("t1") == "t1"
    assert pool.client.zcard(pool.keys.pending("dev")) == 1


def test_nothing_was_sent_to_a_server_that_was_not_there(
    submit: Submit, faulty: FaultyRedis
) -> None:
    faulty.answer(DROP, 1)
    with pytest.raises(Unconfirmed):
        submit("t1", deadline_s=ONCE_S)  # its connection is gone now
    faulty.answer(DROP, on={"HELLO"})
    faulty.seen.clear()
    with pytest.raises(Unavailable) as raised:
        submit("t1", deadline_s=ONCE_S)
    assert type(raised.value) is Unavailable
    assert faulty.seen["EVALSHA"] == 0


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "CALL_TIMEOUT_S", 0.1)


@pytest.mark.usefixtures("_hasty")
def test_a_server_that_hangs_is_given_up_within_its_time(
    submit: Submit, faulty: FaultyRedis
) -> None:
    faulty.answer(HANG, 1)
    faulty.seen.clear()
    assert submit("t1") == "t1"
    assert faulty.seen["EVALSHA"] == 2


# --- loops ---


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "FIRST_BACKOFF_S", 0.001)
    monkeypatch.setattr(causes, "LAST_BACKOFF_S", 0.005)
    monkeypatch.setattr(causes, "LAST_DENIED_BACKOFF_S", 0.005)


@pytest.fixture
def loops(faulty: FaultyRedis, pool: Pool) -> Iterator[dict[str, Loop]]:
    """Every loop, through the faulty server."""
    with connect(faulty.url) as client, connect(faulty.url, block_s=1) as waiting:
        own = Pool.open(client, pool.name)
        yield {
            "drainer": Drainer(own, waiting, tick_s=0.02),
            "heartbeats": HeartbeatConsumer(own, waiting, "c0", block_s=0.02),
            "completions": CompletionConsumer(own, waiting, "c0", block_s=0.02),
            "sweeper": Sweeper(own, sweep_s=0.02),
        }


def leave_work(pool: Pool) -> None:
    """Some for every loop: t1 is done, t2 waits, a2 has come, the counters of a1 are wrong."""
    beat(pool, max_concurrent=2)
    submit_tasks(pool, "t1", "t2")
    assign(pool, "t1")
    completion_entry(pool, "t1")
    beat_entry(pool, heartbeat("a2", start=True, max_concurrent=7))


def done(pool: Pool, name: str) -> bool:
    """Whether the work of this loop is done."""
    client, keys = pool.client, pool.keys
    tests: dict[str, Callable[[], bool]] = {
        "drainer": lambda: str(client.hget(keys.task("t2"), "state")) == "assigned",
        "heartbeats": lambda: client.zscore(keys.alive, "a2") is not None,
        "completions": lambda: str(client.hget(keys.task("t1"), "state")) == "completed",
        "sweeper": lambda: str(client.hget(keys.meta, "last_tick_ms")) != "0",
    }
    return tests[name]()


def total(pool: Pool) -> int:
    """Tries that were begun, of all tasks."""
    attempts = (pool.client.hget(pool.keys.task(task), "attempt") for task in ("t1", "t2"))
    return sum(int(attempt or 0) for attempt in attempts)


@pytest.mark.parametrize("name", ["drainer", "heartbeats", "completions", "sweeper"])
@pytest.mark.parametrize("fault", [*PASSING, *(fault for fault, _ in LASTING)])
def test_loops_live_through_every_error_and_do_their_work_once(
    loops: dict[str, Loop], faulty: FaultyRedis, pool: Pool, fault: str, name: str
) -> None:
    loop, stop = loops[name], threading.Event()
    leave_work(pool)
    faulty.answer(fault)
    thread = threading.Thread(target=loop.run, args=(stop,))
    with capture_logs() as logs:
        thread.start()
        try:
            wait_until(lambda: loop._failures >= 3, "the loop has failed three times")
            assert fault == CUT or not done(pool, name)
            faulty.answer("")
            wait_until(lambda: loop._failures == 0, "the loop works again")
            # A heartbeat whose reading was cut is gone: the next one makes up for it.
            lost = name == "heartbeats" and fault == CUT
            wait_until(lambda: lost or done(pool, name), "the work is done")
        finally:
            stop.set()
            thread.join()
    told = [entry for entry in logs if entry["event"] == "loop_failed"]
    assert 1 <= len(told) <= 3  # one for each kind of error, not one for each pass
    assert not [entry for entry in logs if entry["event"] in ("entry_set_aside", "loop_broke")]
    assert pool.client.xlen(pool.keys.rejected) == 0
    if fault not in (CUT, DROP):
        found = causes.cause(as_error(fault))
        assert {entry["code"] for entry in told} == {found.code}
        assert told[0]["log_level"] == ("critical" if found.is_alarm else "warning")
    assert total(pool) == (2 if name == "drainer" else 1)
    assert pool.client.hget(pool.keys.agent("a1"), "n") == {"drainer": "2", "completions": "0"}.get(
        name, "1"
    )


@pytest.mark.parametrize("name", ["heartbeats", "completions"])
@pytest.mark.parametrize(
    "fault",
    [
        fault
        for fault in (*PASSING, *(fault for fault, _ in LASTING))
        if fault not in (CUT, DROP, "ERR something odd")
    ],
)
def test_an_entry_is_not_set_aside_for_what_the_server_cannot_do(
    loops: dict[str, Loop], faulty: FaultyRedis, pool: Pool, fault: str, name: str
) -> None:
    leave_work(pool)
    faulty.answer(fault, on={"EVALSHA"})
    with capture_logs() as logs, pytest.raises(RedisError):
        loops[name].step()
    assert not [entry for entry in logs if entry["event"] == "entry_set_aside"]
    assert pool.client.xlen(pool.keys.rejected) == 0
    assert not done(pool, name)
    faulty.answer("")
    loops[name]._own_first = True  # type: ignore[attr-defined] # as after a failed pass
    loops[name].step()
    assert done(pool, name)


def as_error(line: str) -> Exception:
    """As a client of a plain address raises it."""
    parser: Any = BaseParser
    error: Exception = parser.parse_error(line)
    return causes.NotRoutedError() if causes.cause(error).code == "MOVED" else error


@pytest.mark.parametrize("name", ["heartbeats", "completions"])
def test_a_group_that_is_gone_is_made_again_from_the_beginning(
    loops: dict[str, Loop], pool: Pool, name: str
) -> None:
    leave_work(pool)
    stream = getattr(pool.keys, name)
    pool.client.xgroup_destroy(stream, GROUP)
    with capture_logs() as logs:
        for _ in range(2):
            loops[name].step()
    assert done(pool, name)
    assert [entry["log_level"] for entry in logs if entry["event"] == "group_recreated"] == [
        "critical"
    ]


def test_a_balancer_starts_though_redis_is_full_and_settles_what_frees_memory(
    redis_server: EmbeddedRedis,
    pool: Pool,
    out_of_memory: Callable[[], AbstractContextManager[None]],
) -> None:
    leave_work(pool)
    with out_of_memory(), capture_logs():
        service = Service(redis_server.url, pool.name).start()
        try:
            wait_until(lambda: done(pool, "completions"), "the completion is settled")
        finally:
            service.stop()
