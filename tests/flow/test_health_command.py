"""`balancer health`: well, stuck, not there, Redis away."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from balancer import log
from balancer.cli import run
from balancer.cli.health import ours
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.ledger.replicas import NAME_MS, Replica, replicas, sign
from balancer.loops.loop import Loop
from balancer.service import ConsumerName, Service
from tests.support.factories import beat

HOST = socket.gethostname()


class Answer(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Health = Callable[..., Answer]


@pytest.fixture
def health(
    redis_server: EmbeddedRedis,
    pool: Pool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Health:
    monkeypatch.setenv("BALANCER_REDIS_URL", redis_server.url)
    monkeypatch.setenv("BALANCER_POOL", pool.name)

    def run_it(*arguments: str) -> Answer:
        return Answer(run(["health", *arguments]), *capsys.readouterr())

    return run_it


class Dozing(Loop):
    """A loop whose last success is as long ago as a test says."""

    name = "drainer"

    def __init__(self, silent_s: float) -> None:
        super().__init__()
        self._silent_s = silent_s

    @property
    def silent_s(self) -> float:
        return self._silent_s

    def wait(self, stop: threading.Event) -> None:
        raise NotImplementedError

    def step(self) -> object:
        raise NotImplementedError


def test_no_balancer_here_is_not_healthy(health: Health) -> None:
    assert health() == Answer(6, "no balancer of this host serves pool 'p'\n", "")
    assert health("--any").out == "no balancer serves pool 'p'\n"
    assert json.loads(health("--json").out) == {"healthy": False, "balancers": []}


def test_a_balancer_whose_loops_pass_is_healthy(
    health: Health, redis_server: EmbeddedRedis, pool: Pool
) -> None:
    log.configure(to=io.StringIO())
    service = Service(redis_server.url, pool.name).start()
    try:
        assert service.loops[-1].step() is True
        answer = health("--json")
        assert answer.code == 0
        (shown,) = json.loads(answer.out)["balancers"]
        assert (shown["host"], shown["pid"], shown["consumer"]) == (HOST, os.getpid(), "c0")
        assert shown["loops"].keys() == {"heartbeats", "completions", "drainer", "sweeper"}
        assert shown["silent_s"] < 12
        assert health().out.startswith(f"ok: c0 on {HOST}, process {os.getpid()}; slowest loop ")
    finally:
        service.stop()
    assert health().code == 6, "a balancer that stopped gives its name back"


def test_a_loop_that_is_stuck_makes_its_balancer_unhealthy(health: Health, pool: Pool) -> None:
    name = ConsumerName(pool)
    name.watched = [Dozing(29)]
    assert name.step() is True
    assert health().code == 0
    name.watched = [Dozing(29), Dozing(31)]
    name.step()
    answer = health()
    assert (answer.code, answer.out[:6]) == (6, "stuck:")
    assert "drainer has not succeeded for 31." in answer.out
    assert health("--any").code == 6
    well = ConsumerName(pool)
    well.watched = [Dozing(0)]
    well.step()
    assert health("--any").code == 0


def test_the_age_of_the_word_counts(pool: Pool, redis_client: Any) -> None:
    """A process that is frozen writes nothing: what it said last grows old."""
    name = ConsumerName(pool)
    name.watched = [Dozing(1)]
    name.step()
    redis_client.pexpire(pool.keys.consumer(0), NAME_MS - 20_000)
    (found,) = replicas(redis_client, pool.keys)
    assert 21 <= found.silent_s < 22
    assert found.slowest == "drainer"


def test_what_is_no_sign_is_passed_over(pool: Pool, redis_client: Any) -> None:
    for slot, text in enumerate(("", "x", "h pid n", "h 1 n drainer", "h 1 n drainer:x")):
        redis_client.set(pool.keys.consumer(slot), text, px=NAME_MS)
    redis_client.set(pool.keys.consumer(9), sign("h 1 n", {}), px=NAME_MS)
    redis_client.set(pool.keys.consumer(10), sign("h 1 n", {}))  # of a program that does not renew
    assert [replica.consumer for replica in replicas(redis_client, pool.keys)] == ["c9"]


def replica(consumer: str, host: str, pid: int, age_s: float) -> Replica:
    return Replica(consumer, host, pid, age_s, {})


def test_ours_are_those_of_this_host_that_are_alive_the_latest_of_each_process() -> None:
    own = os.getpid()
    found = [
        replica("c0", HOST, own, 20.0),
        replica("c1", HOST, own, 1.0),
        replica("c2", "elsewhere", own, 1.0),
        replica("c3", HOST, 2**22 + 1, 1.0),
        replica("c4", HOST, 2**80, 1.0),
        replica("c5", HOST, 1, 1.0),
    ]
    assert [replica.consumer for replica in ours(found, HOST)] == ["c1", "c5"]


def test_redis_away_and_no_pool_are_errors_of_their_own(health: Health) -> None:
    assert health("--redis-url", "redis://127.0.0.1:9/0").code == 4
    answer = health("--pool", "nowhere")
    assert (answer.code, "there is no pool 'nowhere'" in answer.err) == (4, True)


def test_an_agent_is_well_until_its_ttl_has_passed(
    health: Health, pool: Pool, redis_client: Any
) -> None:
    assert health("--agent", "a1") == Answer(6, "agent 'a1' is not in pool 'p'\n", "")
    beat(pool, "a1", interval_ms=1_000, ttl_ms=3_000)
    answer = health("--agent", "a1")
    assert (answer.code, answer.out[:21]) == (0, "ok: agent a1 is live,")
    shown = json.loads(health("--agent", "a1", "--json").out)
    assert (shown["healthy"], shown["agent"]["id"]) == (True, "a1")
    said = int(redis_client.hget(pool.keys.agent("a1"), "beat_ms"))
    redis_client.hset(pool.keys.agent("a1"), "beat_ms", said - 4_000)
    answer = health("--agent", "a1")
    redis_client.hset(pool.keys.agent("a1"), "beat_ms", said)
    assert (answer.code, answer.out[:5]) == (6, "lost:")
    assert health("--agent", "a b").code == 2
    assert health("--agent", "a1", "--any").code == 2
