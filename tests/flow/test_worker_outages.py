"""An agent without Redis for a while, and how an agent stops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from balancer.embedded import EmbeddedRedis
from balancer.protocol import Mode, Status, connect
from tests.flow.agent_rig import Gate, Rig, until_threads_ended
from tests.support.durable import KEPT
from tests.support.wait import wait_until


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedRedis]:
    """A server of these tests alone, which they kill and freeze."""
    with EmbeddedRedis(appendonly=True, config=KEPT) as server:
        yield server


@pytest.fixture
def rig(own_server: EmbeddedRedis) -> Iterator[Rig]:
    with connect(own_server.url) as client:
        client.flushall()
        yield Rig(own_server.url, client)
    until_threads_ended()


def test_an_agent_waits_for_redis_to_start(rig: Rig, own_server: EmbeddedRedis) -> None:
    nonce = rig.grant("0" * 32)
    own_server.kill()
    agent = rig.agent()
    agent.task()(lambda task: 1)
    with capture_logs() as logs, agent:
        wait_until(lambda: logs, "it said that Redis is away")
        own_server.restart()
        [done] = rig.until_completed()
    assert done.lease == nonce
    assert rig.beats()[0].start
    assert [entry["event"] for entry in logs][:1] == ["heartbeat_failed"]
    assert [entry["event"] for entry in logs].count("heartbeat_failed") == 1
    assert "heartbeat_recovered" in {entry["event"] for entry in logs}
    assert all("exc_info" not in entry for entry in logs)


def test_an_agent_that_never_met_redis_stops_at_once(rig: Rig, own_server: EmbeddedRedis) -> None:
    own_server.kill()
    try:
        agent = rig.agent()
        agent.start()
        assert agent.stop()
    finally:
        own_server.restart()


def test_a_completion_survives_an_outage(rig: Rig, own_server: EmbeddedRedis) -> None:
    gate = Gate()
    agent = rig.agent()
    agent.task()(gate)
    with capture_logs() as logs, agent:
        rig.until_started()
        nonce = rig.grant(agent.boot)
        gate.until_began()
        own_server.kill()
        gate.opened.set()
        wait_until(lambda: "report_failed" in {e["event"] for e in logs}, "reporting failed")
        own_server.restart()
        [done] = rig.until_completed()
        rig.until_beats(1)
    assert done.lease == nonce
    assert len(rig.starts()) == 1  # its TTL is long: it goes on as if nothing had been
    assert [e["event"] for e in logs].count("report_failed") == 1


def test_a_refused_completion_is_sent_again(rig: Rig) -> None:
    gate = Gate()
    agent = rig.agent()
    agent.task()(gate)
    with capture_logs() as logs, agent:
        rig.until_started()
        nonce = rig.grant(agent.boot)
        gate.until_began()
        rig.client.set(rig.keys.completions, "not a stream")
        gate.opened.set()
        wait_until(lambda: "report_failed" in {e["event"] for e in logs}, "reporting failed")
        rig.until_beats(2)
        assert rig.beats()[-1].held == (nonce,)
        rig.client.delete(rig.keys.completions)
        rig.until_completed()
        wait_until(lambda: rig.beats()[-1].held == (), "the nonce is not held any more")


def test_stop_gives_back_after_its_timeout(rig: Rig) -> None:
    gate = Gate()
    agent = rig.agent()
    agent.task()(gate)
    agent.start()
    rig.until_started()
    nonces = [rig.grant(agent.boot, task, cost=2) for task in ("running", "waiting")]
    gate.until_began()
    assert not agent.stop(timeout_s=0.05)
    assert gate.began[0].cancelled.is_set()
    assert [task.id for task in gate.began] == ["running"]
    given_back = [(done.lease, done.status) for done in rig.completions()]
    assert given_back == [(nonce, Status.RELEASED) for nonce in nonces]
    assert rig.modes()[-1] is Mode.STOPPED  # nothing runs: others may have it at once


def test_stop_does_not_say_stopped_while_work_goes_on(rig: Rig) -> None:
    gate = Gate(deaf=True)
    agent = rig.agent()
    agent.task()(gate)
    agent.start()
    rig.until_started()
    rig.grant(agent.boot)
    gate.until_began()
    assert not agent.stop(timeout_s=0.05)
    assert rig.completions() == []  # it may go on for long: nobody else must begin it yet
    assert rig.modes()[-1] is Mode.STOPPING
    gate.opened.set()


def test_an_agent_starts_again_after_a_stop_and_not_before(rig: Rig) -> None:
    agent = rig.agent()
    agent.start()
    with pytest.raises(RuntimeError, match="runs already"):
        agent.start()
    rig.until_started()
    agent.stop()
    with agent:
        wait_until(lambda: len(rig.starts()) == 2, "it started again")
    assert len({start.boot for start in rig.starts()}) == 2
