"""The service: all loops together, by replica, started and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from balancer import Balancer
from balancer.core.errors import BalancerError, Misconfigured, Unavailable
from balancer.core.explain.answer import Code, Why
from balancer.core.settings import PoolSettings
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.ledger.configure import configure, refresh
from balancer.ledger.read_why import why
from balancer.ledger.replicas import replicas
from balancer.protocol import Completion, Status, TextRedis, connect, read_inbox_task
from balancer.service import ConsumerName, Service
from tests.support.durable import KEPT
from tests.support.factories import beat, heartbeat, submit
from tests.support.wait import wait_until


@contextmanager
def served(url: str) -> Iterator[Service]:
    service = Service(url, "p").start()
    try:
        yield service
    finally:
        service.stop()


def execute(client: TextRedis, service: Service, agent: str) -> None:
    """Play the agent: complete all that is in its inbox."""
    keys = service.pool.keys
    for _, fields in client.xrange(keys.inbox(agent)):
        task = read_inbox_task(fields)
        done = Completion(
            agent=agent, task=task.task, attempt=task.attempt, lease=task.lease,
            status=Status.COMPLETED, result='"done"',
        )  # fmt: skip
        client.xadd(keys.completions, done.fields())


def test_two_replicas_carry_tasks_from_submit_to_result(
    redis_server: EmbeddedRedis, redis_client: TextRedis
) -> None:
    with served(redis_server.url) as one, served(redis_server.url) as two:
        assert {one.loops[4].consumer, two.loops[4].consumer} == {"c0", "c1"}  # type: ignore[attr-defined]
        redis_client.xadd(
            one.pool.keys.heartbeats, heartbeat("a1", max_concurrent=3, start=True).fields()
        )
        with Balancer(redis_server.url, "p") as producer:
            ids = [producer.submit(role="dev", payload={"n": n}) for n in range(20)]

            def all_done() -> bool:
                execute(redis_client, one, "a1")
                return all(s and s.state.is_final for s in producer.statuses(ids))

            wait_until(all_done, "all tasks have ended")
            assert [producer.result(task_id) for task_id in ids] == ["done"] * 20
        assert max(one.silent_s, two.silent_s) < 5


def test_a_pool_keeps_its_settings_and_a_replica_that_differs_says_so(
    redis_server: EmbeddedRedis, redis_client: TextRedis
) -> None:
    first = PoolSettings(strategy="least_loaded")
    Pool.create(redis_client, "p", first)
    with capture_logs() as logs:
        service = Service(redis_server.url, "p", PoolSettings(strategy="best_match"))
    service.stop()
    assert service.pool.settings == first
    assert "settings_differed" in [entry["event"] for entry in logs]


def test_a_consumer_name_is_the_lowest_free_one_and_comes_back(pool: Pool) -> None:
    names = [ConsumerName(pool) for _ in range(3)]
    assert [name.consumer for name in names] == ["c0", "c1", "c2"]
    names[1].give_back()
    assert ConsumerName(pool).consumer == "c1"
    assert names[0].step() is True
    pool.client.set(pool.keys.consumer(0), "another")
    assert names[0].step() is False
    names[0].give_back()
    assert pool.client.get(pool.keys.consumer(0)) == "another"


def test_all_names_taken_is_an_error(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balancer.service.NAMES", 2)
    for _ in range(2):
        ConsumerName(pool)
    with pytest.raises(BalancerError, match="all 2 consumer names"):
        ConsumerName(pool)


def test_starting_without_redis_is_unavailable_after_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("balancer.service.START_S", 0.2)
    with pytest.raises(Unavailable):
        Service("redis://127.0.0.1:1", "p")


def test_a_restarted_redis_is_served_again_without_a_restart() -> None:
    with (
        EmbeddedRedis(tcp=True, appendonly=True, config=KEPT) as server,
        served(server.url) as service,
    ):
        client = connect(server.url)
        client.xadd(service.pool.keys.heartbeats, heartbeat("a1", start=True).fields())
        with Balancer(server.url, "p") as producer:
            first = producer.submit(role="dev")
            server.kill()
            server.restart()
            second = producer.submit(role="dev")

            def both_done() -> bool:
                execute(client, service, "a1")
                return all(s and s.state.is_final for s in producer.statuses([first, second]))

            wait_until(both_done, "both tasks have ended", 20.0)
        client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_process_cleanly(
    redis_server: EmbeddedRedis, redis_client: TextRedis, number: int
) -> None:
    code = f"from balancer.service import Service; Service({redis_server.url!r}, 'p').run()"
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ,
    )
    slot = "wb:{p}:consumer:0"
    wait_until(lambda: redis_client.exists(slot), "the child serves")
    wait_until(lambda: len(redis_client.client_list()) > 4, "its loops run")
    child.send_signal(number)
    output, _ = child.communicate(timeout=15)
    assert child.returncode == 0, output
    assert b"balancer_stopped" in output
    assert b"Traceback" not in output
    assert not redis_client.exists(slot)


def test_a_service_that_cannot_load_the_strategy_tells_whoever_asks_why(
    redis_server: EmbeddedRedis, pool: Pool
) -> None:
    beat(pool, "a1", max_concurrent=2)
    with served(redis_server.url):
        text = PoolSettings(strategy="nowhere:Nobody").model_dump_json()
        pool.client.hset(pool.keys.settings, "json", text)
        pool.client.hincrby(pool.keys.meta, "settings_ver", 1)
        submit(pool, "t1")
        wait_until(lambda: is_told(pool), "it is told")
        assert asked(pool).strategy == "nowhere:Nobody"
        refresh(pool)
        configure(pool, PoolSettings(strategy="best_match"))
        wait_until(lambda: asked(pool).code is Code.ASSIGNED, "it is decided again")
        (replica,) = replicas(pool.client, pool.keys)
        wait_until(
            lambda: [one.unable_ver for one in replicas(pool.client, pool.keys)] == [None],
            "the word is taken back",
        )
        assert replica.loops.keys() == {"heartbeats", "completions", "drainer", "sweeper"}


def is_told(pool: Pool) -> bool:
    """Before a balancer has said that it cannot load the strategy either, whoever cannot gets an error."""
    try:
        return asked(pool).code is Code.UNDECIDED
    except Misconfigured:
        return False


def asked(pool: Pool) -> Why:
    answer = why(pool, "t1")
    assert answer is not None
    return answer
