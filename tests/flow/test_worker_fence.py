"""An agent whose heartbeats fail for almost a TTL stops by itself before its work is given to others."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from balancer.embedded import EmbeddedRedis
from balancer.protocol import Heartbeat, Mode, connect, new_nonce
from tests.flow.agent_rig import AGENT, Gate, Rig, frozen, until_threads_ended
from tests.support.durable import KEPT
from tests.support.wait import wait_until
from worker import Fenced
from worker.heart import Heart
from worker.inbox import Inbox
from worker.leases import Leases

#: Fences 0.45 s after the last heartbeat.
SHORT = {"interval_s": 0.1, "ttl_s": 0.6}


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


def test_a_fenced_agent_whose_work_stops_goes_on_under_a_new_boot(
    rig: Rig, own_server: EmbeddedRedis
) -> None:
    gate = Gate()
    agent = rig.agent(**SHORT)
    agent.task("feature")(gate)
    agent.task("fine")(lambda task: 1)
    with capture_logs() as logs, agent:
        rig.until_started()
        boot = agent.boot
        rig.grant(boot)
        gate.until_began()
        with frozen(own_server):
            wait_until(gate.began[0].cancelled.is_set, "it was told to stop")
        wait_until(lambda: len(rig.starts()) == 2, "a new boot began")
        assert agent.boot != boot
        assert rig.starts()[1].boot == agent.boot
        assert (rig.starts()[1].held, rig.starts()[1].seq) == ((), 1)
        rig.grant(agent.boot, "t2", category="fine")
        assert [done.task for done in rig.until_completed()] == ["t2"]
        assert len(gate.began) == 1
    assert not agent.fenced
    assert {"leases_fenced", "agent_rebooted"} <= {entry["event"] for entry in logs}


def test_what_was_finished_before_the_fence_is_held_by_the_new_boot(
    rig: Rig, own_server: EmbeddedRedis
) -> None:
    gate = Gate()
    agent = rig.agent(**SHORT)
    agent.task("feature")(gate)
    agent.task("fine")(lambda task: 1)
    with agent:
        rig.until_started()
        finished = rig.grant(agent.boot, "t1", category="fine")
        rig.until_completed()
        rig.grant(agent.boot, "t2")
        gate.until_began()
        with frozen(own_server):
            wait_until(gate.began[0].cancelled.is_set, "it was told to stop")
        wait_until(lambda: len(rig.starts()) == 2, "a new boot began")
        assert rig.starts()[1].held == (finished,)


def test_an_idle_agent_needs_no_fence(rig: Rig, own_server: EmbeddedRedis) -> None:
    agent = rig.agent(**SHORT)
    agent.task()(lambda task: 1)
    with agent:
        rig.until_started()
        with capture_logs() as logs, frozen(own_server):
            began_s = time.monotonic()
            wait_until(lambda: time.monotonic() > began_s + 0.7, "its TTL is over")
        rig.grant(agent.boot)
        rig.until_completed()
        assert len(rig.starts()) == 1
    assert "leases_fenced" not in {entry["event"] for entry in logs}


def test_work_that_does_not_stop_ends_the_agent(rig: Rig, own_server: EmbeddedRedis) -> None:
    gate = Gate(deaf=True)
    agent = rig.agent(**SHORT)
    agent.task()(gate)
    agent.start()
    rig.until_started()
    rig.grant(agent.boot)
    gate.until_began()
    try:
        with frozen(own_server), pytest.raises(Fenced):
            agent.wait(10)
        assert agent.fenced
        assert not agent.stop()
        assert Mode.STOPPED not in rig.modes()
        assert rig.completions() == []
    finally:
        gate.opened.set()


def test_no_heartbeat_hides_from_an_agent_that_it_slept_past_its_ttl(rig: Rig) -> None:
    log = structlog.get_logger()
    leases = Leases(units=1)
    declaration = Heartbeat(agent=AGENT, boot=new_nonce(), seq=1, role="developer")
    inbox = Inbox(
        AGENT, rig.keys, rig.client, leases,
        block_s=0.1, on_arrival=lambda: None, on_superseded=print, on_retire=lambda: None, log=log,
    )  # fmt: skip
    heart = Heart(
        declaration, rig.keys, rig.client, leases, inbox,
        lifetime_s=60.0, fence=lambda now_s: bool(leases.fence(now_s)), on_live=lambda: None, log=log, pool="p",
    )  # fmt: skip
    heart.step()
    rig.grant(heart.boot)
    inbox.step()
    [lease] = leases.begin(time.monotonic())
    leases.live(time.monotonic())  # as if the last heartbeat had been sent a TTL ago
    heart.step()
    assert lease.context.cancelled.is_set()
    assert len(rig.beats()) == 1
    leases.leave(lease)
    heart.step()
    assert [beat.boot for beat in rig.starts()] == [declaration.boot, heart.boot]
    assert len(rig.beats()) == 2
