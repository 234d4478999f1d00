"""The start of a boot is said until the balancer shows that it knows; and what is wrong is said at the start."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.ledger.beat import BeatEntry, beat
from balancer.protocol import Heartbeat, Mode, TextRedis, new_nonce, read_heartbeat
from tests.flow.agent_rig import AGENT, Gate, Rig, until_threads_ended
from tests.support.wait import wait_until
from worker import Agent


@pytest.fixture
def rig(redis_server: EmbeddedRedis, redis_client: TextRedis) -> Iterator[Rig]:
    yield Rig(redis_server.url, redis_client)
    until_threads_ended()


def test_the_start_is_said_until_something_is_granted_to_the_boot(rig: Rig) -> None:
    gate = Gate()
    resumed = rig.grant(new_nonce(), "resumed", category="open")
    agent = rig.agent()
    agent.task("feature")(gate)
    agent.task("open")(lambda task: 1)
    with agent:
        rig.until_completed()
        rig.until_beats(2)
        unconfirmed = rig.beats()
        assert all(one.start for one in unconfirmed)
        # Reported and not settled is held: the balancer that hears of this start first must not take it back.
        assert unconfirmed[-1].held == (resumed,)
        nonce = rig.grant(agent.boot)
        gate.until_began()
        rig.until_beats(2)
        assert (rig.beats()[-1].start, rig.beats()[-1].held) == (False, (nonce,))
        gate.opened.set()
    assert len({one.boot for one in rig.beats()}) == 1


def test_an_agent_that_stops_unconfirmed_says_start_to_the_end(rig: Rig) -> None:
    agent = rig.agent()
    agent.task()(lambda task: 1)
    with agent:
        rig.until_started()
    last = rig.beats()[-1]
    assert (last.mode, last.start) == (Mode.STOPPED, True)


def test_after_a_ttl_the_start_is_said_no_more(rig: Rig) -> None:
    agent = rig.agent(ttl_s=1.0)
    agent.task()(lambda task: 1)
    with agent:
        rig.until_started()
        wait_until(lambda: not rig.beats()[-1].start, "a plain heartbeat")
    assert rig.beats()[1].start


def test_a_start_that_was_lost_is_said_again(rig: Rig, redis_client: TextRedis) -> None:
    before, gate = new_nonce(), Gate()
    agent = rig.agent()
    agent.task()(gate)
    resumed = rig.grant(before)
    with agent:
        rig.until_started()
        rig.client.xtrim(rig.keys.heartbeats, maxlen=0)  # read by a balancer that died then
        rig.until_beats(1)
        [start, *_] = rig.starts()
        gate.opened.set()
    assert (start.boot, start.held) == (agent.boot, (resumed,))
    assert start.seq > 1


def test_a_pool_that_is_not_there_is_said_once_and_again_when_that_changes(rig: Rig) -> None:
    agent = rig.agent()
    agent.task()(lambda task: 1)
    with capture_logs() as logs, agent:
        rig.until_started()
        rig.until_beats(3)
        Pool.create(rig.client, "p")
        wait_until(lambda: "pool_found" in [entry["event"] for entry in logs], "it is there")
        rig.client.delete(rig.keys.meta, rig.keys.settings)
        wait_until(lambda: len(missing(logs)) > 1, "it is gone again")
    assert [entry["pool"] for entry in missing(logs)] == ["p", "p"]


def missing(logs: list[EventDict]) -> list[EventDict]:
    return [entry for entry in logs if entry["event"] == "pool_not_found"]


def test_an_handlers_not_given_says_so(rig: Rig) -> None:
    with capture_logs() as logs, rig.agent():
        rig.until_started()
    assert logs[0]["event"] == "handlers_not_given"


def test_the_balancer_takes_the_second_start_for_the_first_and_the_others_for_nothing(
    rig: Rig,
) -> None:
    pool, agent = Pool.create(rig.client, "p"), rig.agent()
    before = Heartbeat(agent=AGENT, boot=new_nonce(), seq=1, role="developer", start=True)
    assert beat(pool, [BeatEntry("1-0", before)], caught_up=True) == ["joined"]
    agent.task()(lambda task: 1)
    with agent:
        rig.until_beats(3)
        rows = rig.client.xrange(rig.keys.heartbeats)[:3]
    _, *heard = [BeatEntry(entry, read_heartbeat(fields)) for entry, fields in rows]
    assert beat(pool, heard, caught_up=True) == ["new_boot", "ok"]


def test_the_program_of_the_documentation_works(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs/agents.md").read_text(encoding="utf-8")
    found = re.search(r"^```python agents.py\n(.*?)^```$", text, re.M | re.S)
    assert found
    names: dict[str, Any] = {"__name__": "agents"}
    exec(compile(found[1], "agents.py", "exec"), names)
    agent: Agent = names["agent"]
    agent.override(redis_url=rig.url, pool="p")
    with agent:
        rig.until_started()
        rig.grant(agent.boot)
        rig.grant(agent.boot, "t2", category="docs", body='{"payload": {"page": "login"}}')
        results = {done.task: done.result for done in rig.until_completed(2)}
    assert results == {"t1": '{"exit_code":0}', "t2": '"login"'}
