"""The example agents in other languages: with a real balancer, and towards one that is played by hand."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import jsonschema_rs
import pytest

from balancer import Balancer
from balancer.core.model import AgentState, TaskState
from balancer.embedded import EmbeddedRedis
from balancer.ledger.audit import audit
from balancer.protocol import Mode, Status, TextRedis
from balancer.protocol.schema import schema
from balancer.service import Service
from tests.flow.agent_rig import AGENT, POOL, Rig, frozen
from tests.languages.conftest import EXAMPLES, Agents, Language
from tests.support.wait import wait_until


@pytest.fixture
def producer(redis_server: EmbeddedRedis, redis_client: TextRedis) -> Iterator[Balancer]:
    """A producer in a pool that a balancer serves; its books are right in the end."""
    service = Service(redis_server.url, POOL).start()
    try:
        with Balancer(redis_server.url, POOL) as producer:
            yield producer
            assert audit(service.pool).violations == []
    finally:
        service.stop()


def is_running(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def exit_code(running: subprocess.Popen[str]) -> int:
    output, _ = running.communicate(timeout=20)
    assert output == ""
    return running.returncode


# --- with a real balancer ---


def test_it_does_what_it_is_given_and_says_how_that_ended(
    agents: Agents, producer: Balancer
) -> None:
    agents.start()
    well = [producer.submit(role="dev", payload=n) for n in range(3)]
    badly = producer.submit(role="dev", payload="fail", max_failures=1)
    largely = producer.submit(role="dev", payload="large")
    payload = {"repeat": "ä'\"`$(touch x)\\n\n; \u2028*"}
    repeated = producer.submit(role="dev", payload=payload)
    done = [producer.wait(id_, timeout_s=30) for id_ in well]
    assert [(one.state, one.agent, one.attempt) for one in done] == [
        (TaskState.COMPLETED, AGENT, 1)
    ] * 3
    assert [one.result for one in done] == [{"result": {"done": True}}] * 3
    failed = producer.wait(badly, timeout_s=30)
    assert (failed.state, failed.reason) == (TaskState.DEAD, "failed")
    assert failed.result == {"error": agents.language.failure}
    large = producer.wait(largely, timeout_s=30)
    assert large.state is TaskState.COMPLETED
    assert large.result == {"dropped": "too_large"}
    assert producer.wait(repeated, timeout_s=30).result == {"result": {"payload": payload}}
    assert not (agents.directory / "x").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_finish_and_say_stopped(
    agents: Agents, producer: Balancer, rig: Rig, number: signal.Signals
) -> None:
    running = agents.start()
    task = producer.submit(role="dev", payload="wait")
    agents.until_began()
    running.send_signal(number)
    wait_until(lambda: rig.modes()[-1] is Mode.STOPPING, "it says that it stops")
    rig.until_beats(2)
    assert running.poll() is None
    agents.open_gate()
    assert producer.wait(task, timeout_s=30).state is TaskState.COMPLETED
    assert exit_code(running) == 0
    wait_until(
        lambda: [one.state for one in producer.agents()] == [AgentState.STOPPED], "it is stopped"
    )


def test_what_a_killed_one_held_is_done_by_the_next(agents: Agents, producer: Balancer) -> None:
    first = agents.start()
    task = producer.submit(role="dev", payload="wait")
    agents.until_began()
    agents.kill(first)
    agents.open_gate()
    agents.start()
    done = producer.wait(task, timeout_s=30)
    assert (done.state, done.attempt, done.losses) == (TaskState.COMPLETED, 1, 1)
    assert len(agents.until_began()) == 2


def test_what_is_cancelled_is_stopped(agents: Agents, producer: Balancer) -> None:
    agents.start()
    task = producer.submit(role="dev", payload="wait")
    [pid] = agents.until_began()
    producer.cancel(task, "no longer wanted")
    done = producer.wait(task, timeout_s=30)
    assert (done.state, done.losses, done.failures) == (TaskState.CANCELLED, 0, 0)
    if agents.language.own_process:
        wait_until(lambda: not is_running(pid), "it was ended")
    after = producer.submit(role="dev", payload=1)
    assert producer.wait(after, timeout_s=30).state is TaskState.COMPLETED


# --- the balancer played by hand ---


def test_all_that_it_says_keeps_to_the_schema(agents: Agents, rig: Rig) -> None:
    running = agents.start()
    rig.until_started()
    boot = rig.starts()[0].boot
    rig.grant(boot, "t1", body=json.dumps({"payload": 1}))
    rig.grant(boot, "t2", body=json.dumps({"payload": "fail"}), added_later="x")
    rig.grant(boot, "t3", body="", kind="added_later")
    rig.until_completed(2)
    running.send_signal(signal.SIGTERM)
    assert exit_code(running) == 0
    assert [(one.task, one.status) for one in rig.completions()] == [
        ("t1", Status.COMPLETED), ("t2", Status.FAILED),
    ]  # fmt: skip
    for name, key in (("heartbeat", rig.keys.heartbeats), ("completion", rig.keys.completions)):
        validator = jsonschema_rs.validator_for(schema(name))
        for _, fields in rig.client.xrange(key):
            validator.validate(fields)
    beats = rig.beats()
    assert [beat.seq for beat in beats] == [*range(1, len(beats) + 1)]
    assert len({beat.boot for beat in beats}) == 1
    assert (beats[0].start, beats[0].held) == (True, ())
    assert not beats[-1].start, "an entry for its boot has confirmed it"
    modes = [beat.mode for beat in beats]
    assert modes == sorted(modes, key=list(Mode).index)
    assert modes[-2:] == [Mode.STOPPING, Mode.STOPPED]


def test_it_begins_with_what_it_finds(agents: Agents, rig: Rig) -> None:
    old = "0" * 32
    lease = rig.grant(old, "t1", body=json.dumps({"payload": 1}))
    agents.start()
    [done] = rig.until_completed()
    assert (done.task, done.lease, done.status) == ("t1", lease, Status.COMPLETED)
    assert rig.starts()[0].held == (lease,)
    assert rig.starts()[0].boot != old


def test_a_run_timeout_fails_the_try(agents: Agents, rig: Rig) -> None:
    agents.start()
    rig.until_started()
    rig.grant(rig.starts()[0].boot, timeout_ms=300, body=json.dumps({"payload": "wait"}))
    [pid] = agents.until_began()
    [done] = rig.until_completed()
    assert done.status is Status.FAILED
    if agents.language.own_process:
        wait_until(lambda: not is_running(pid), "it was ended")


def test_a_cancel_is_answered_and_an_unknown_kind_is_not(agents: Agents, rig: Rig) -> None:
    agents.start()
    rig.until_started()
    lease = rig.grant(rig.starts()[0].boot, "t1", body=json.dumps({"payload": "wait"}))
    agents.until_began()
    about = {"v": 1, "task": "t1", "attempt": 1, "lease": lease}
    rig.client.xadd(rig.inbox, about | {"kind": "added_later", "lease": "f" * 32})
    rig.until_beats(2)
    assert rig.completions() == []
    rig.client.xadd(rig.inbox, about | {"kind": "cancel"})
    [done] = rig.until_completed()
    assert (done.task, done.lease, done.status) == ("t1", lease, Status.CANCELLED)


@pytest.mark.parametrize("clock_s", [0, 2**32])
def test_the_deadline_of_a_retirement_is_by_the_clock_of_redis(
    agents: Agents, rig: Rig, clock_s: int
) -> None:
    agents.set_clock(clock_s)
    rig.retire(-1_000)
    running = agents.start()
    rig.until_started()
    rig.until_beats(2)
    assert set(rig.modes()) == {Mode.RUNNING}, "what is past means nothing"
    rig.retire(60_000)
    assert exit_code(running) == 0
    assert rig.modes()[-1] is Mode.STOPPED


def test_what_is_taken_back_is_ended_without_a_word(agents: Agents, rig: Rig) -> None:
    agents.start()
    rig.until_started()
    boot = rig.starts()[0].boot
    lease = rig.grant(boot, "t1", body=json.dumps({"payload": "wait"}))
    [pid] = agents.until_began()
    rig.revoke(lease)
    rig.grant(boot, "t2", body=json.dumps({"payload": 2}))
    rig.until_completed()
    if agents.language.own_process:
        assert not is_running(pid)
    else:
        wait_until((agents.directory / "stopped").exists, "it was told to stop")
    agents.open_gate()
    rig.until_beats(2)
    assert [done.task for done in rig.completions()] == ["t2"]


def test_one_that_was_superseded_ends(agents: Agents, rig: Rig) -> None:
    running = agents.start()
    rig.until_started()
    rig.grant(rig.starts()[0].boot, "t1", body=json.dumps({"payload": 1}))
    rig.until_completed()
    rig.grant("f" * 32, "t2")
    assert exit_code(running) == 3
    assert len(rig.completions()) == 1


def test_redis_away_while_idle_is_waited_for(own: tuple[Agents, EmbeddedRedis, Rig]) -> None:
    agents, server, rig = own
    agents.start()
    rig.until_started()
    with frozen(server):
        pass
    rig.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    rig.until_beats(2)
    rig.grant(rig.starts()[0].boot, body=json.dumps({"payload": 1}))
    assert rig.until_completed()[0].status is Status.COMPLETED


def test_redis_away_while_it_works_ends_it_before_its_ttl_is_over(
    own: tuple[Agents, EmbeddedRedis, Rig],
) -> None:
    agents, server, rig = own
    running = agents.start()
    rig.until_started()
    rig.grant(rig.starts()[0].boot, body=json.dumps({"payload": "wait"}))
    [pid] = agents.until_began()
    with frozen(server):
        assert exit_code(running) == 4
        if agents.language.own_process:
            wait_until(lambda: not is_running(pid), "it was ended")
    assert rig.completions() == []


# --- as they stand there ---


@pytest.mark.parametrize("name", ["agent.sh", "agent.mjs"])
def test_they_are_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < 60


def test_the_syntax_is_right(language: Language) -> None:
    check = {"shell": ["bash", "-n", "agent.sh"], "node": ["node", "--check", "agent.mjs"]}
    subprocess.run(check[language.name], cwd=EXAMPLES, check=True)
