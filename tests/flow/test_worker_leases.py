"""Which leases an agent runs: its boots, what it resumes, what is taken back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from balancer.embedded import EmbeddedRedis
from balancer.protocol import Mode, TextRedis, new_nonce
from tests.flow.agent_rig import Gate, Rig, until_threads_ended
from tests.support.wait import wait_until
from worker import Superseded
from worker import leases as held


@pytest.fixture
def rig(redis_server: EmbeddedRedis, redis_client: TextRedis) -> Iterator[Rig]:
    yield Rig(redis_server.url, redis_client)
    until_threads_ended()


def test_a_start_resumes_what_is_in_the_inbox(rig: Rig) -> None:
    nonces = [rig.grant(new_nonce(), f"t{n}", attempt=2) for n in (1, 2)]
    agent = rig.agent()
    agent.task()(lambda task: task.id)
    with agent:
        done = rig.until_completed(2)
    [start] = rig.starts()
    assert start.held == tuple(nonces)
    assert {(one.lease, one.attempt) for one in done} == {(nonce, 2) for nonce in nonces}


def test_a_nonce_runs_once_in_a_boot(rig: Rig) -> None:
    ran: list[str] = []
    agent = rig.agent()
    agent.task()(lambda task: ran.append(task.id))
    with agent:
        rig.until_started()
        nonce = rig.grant(agent.boot)
        rig.until_completed()
        rig.grant(agent.boot, nonce=nonce)
        rig.revoke(nonce)
        rig.until_beats(2)
        rig.grant(agent.boot, nonce=nonce)
        rig.grant(agent.boot, "t2")
        wait_until(lambda: "t2" in {done.task for done in rig.completions()}, "t2 is done")
    assert ran == ["t1", "t2"]


def test_a_completion_that_redis_lost_is_sent_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "REPORT_AGAIN_S", 0.01)
    agent = rig.agent()
    agent.task()(lambda task: 7)
    with capture_logs() as logs, agent:
        rig.until_started()
        nonce = rig.grant(agent.boot)
        rig.until_completed()
        rig.client.delete(rig.keys.completions)
        again = rig.until_completed()[0]
        rig.revoke(nonce)  # as settling does
        rig.until_beats(8)
        sent = len(rig.completions())
        rig.until_beats(8)
        assert len(rig.completions()) == sent
    assert (again.lease, again.result) == (nonce, "7")
    assert "lease_reported_again" in {entry["event"] for entry in logs}


def test_a_revoked_lease_is_cancelled_and_not_reported(rig: Rig) -> None:
    gate = Gate()
    agent = rig.agent()
    agent.task("feature")(gate)
    agent.task("fine")(lambda task: 1)
    with agent:
        rig.until_started()
        nonce = rig.grant(agent.boot)
        gate.until_began()
        rig.revoke(nonce)
        wait_until(gate.began[0].cancelled.is_set, "the task was told to stop")
        rig.grant(agent.boot, "t2", category="fine")
        done = rig.until_completed()
    assert [one.task for one in rig.completions()] == ["t2"] == [one.task for one in done]


def test_an_entry_below_the_last_one_read_is_found(rig: Rig) -> None:
    agent = rig.agent()
    agent.task()(lambda task: 1)
    with agent:
        rig.until_started()
        rig.grant(agent.boot, "late", entry="9999999999999-0")
        rig.until_completed()
        rig.client.delete(rig.inbox)
        rig.grant(agent.boot, "early", entry="1-0")
        assert rig.until_completed(2)[1].task == "early"


def test_an_entry_of_another_boot_is_left_alone_until_ours_is_confirmed(rig: Rig) -> None:
    ran: list[str] = []
    agent = rig.agent()
    agent.task()(lambda task: ran.append(task.id))
    agent.start()
    rig.until_started()
    with capture_logs() as logs:
        rig.grant(new_nonce(), "before")
        rig.grant(agent.boot, "ours")
        rig.until_completed()
        other = new_nonce()
        rig.grant(other, "after")
        with pytest.raises(Superseded, match=other):
            agent.wait(10)
        assert not agent.stop()
    assert ran == ["ours"]
    assert Mode.STOPPED not in rig.modes()  # the word is no longer ours
    assert "agent_superseded" in {entry["event"] for entry in logs}
