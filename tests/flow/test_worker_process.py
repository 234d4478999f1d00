"""`run()` and `worker run` in processes of their own: signals and exit codes."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from balancer.embedded import EmbeddedRedis
from balancer.protocol import Mode, TextRedis, connect, new_nonce
from tests.flow.agent_rig import Rig, frozen, process
from tests.support.wait import wait_until
from worker import Agent

PROGRAM = """
import sys, threading
from worker import Agent
url, ttl_s = sys.argv[1:]
agent = Agent("builder-1", role="developer", redis_url=url, pool="p", interval_s=0.1, ttl_s=float(ttl_s))
opened = threading.Event()
agent.task("feature")(lambda task: opened.wait(60))
agent.task("open")(lambda task: opened.set())
agent.override(max_concurrent=2)
agent.run()
"""


@pytest.fixture
def rig(redis_server: EmbeddedRedis, redis_client: TextRedis) -> Rig:
    return Rig(redis_server.url, redis_client)


def boot(rig: Rig) -> str:
    rig.until_started()
    return rig.starts()[0].boot


def until_held(rig: Rig, nonce: str) -> None:
    wait_until(lambda: nonce in rig.beats()[-1].held, "the lease is held")


def test_sigterm_finishes_what_is_held_and_says_stopped(rig: Rig) -> None:
    with process(PROGRAM, rig.url, "60") as running:
        ours = boot(rig)
        until_held(rig, rig.grant(ours))
        running.send_signal(signal.SIGTERM)
        wait_until(lambda: rig.modes()[-1] is Mode.STOPPING, "it says that it stops")
        assert rig.completions() == []
        rig.grant(ours, "t2", category="open")  # granted before the balancer heard of it
        output, _ = running.communicate(timeout=10)
    assert running.returncode == 0, output
    assert {done.task for done in rig.completions()} == {"t1", "t2"}
    assert rig.modes()[-1] is Mode.STOPPED
    events = [json.loads(line)["event"] for line in output.splitlines()]
    assert events[:2] == ["pool_not_found", "agent_started"]
    assert events[-1] == "agent_stopped"


def test_a_later_signal_ends_it_at_once(rig: Rig) -> None:
    with process(PROGRAM, rig.url, "60") as running:
        until_held(rig, rig.grant(boot(rig)))
        running.send_signal(signal.SIGINT)
        wait_until(lambda: rig.modes()[-1] is Mode.STOPPING, "it says that it stops")
        running.send_signal(signal.SIGTERM)  # the same wish again: `timeout`, a process group
        began = redis_ms(rig)
        wait_until(lambda: redis_ms(rig) - began > 1_100, "a later signal means more")
        assert running.poll() is None
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 128 + signal.SIGTERM
    assert rig.completions() == []
    assert rig.modes()[-1] is Mode.STOPPING


def test_a_superseded_process_exits_with_3_though_its_work_does_not_stop(rig: Rig) -> None:
    with process(PROGRAM, rig.url, "60") as running:
        ours = boot(rig)
        until_held(rig, rig.grant(ours))
        rig.grant(new_nonce(), "t2")
        output, _ = running.communicate(timeout=10)
    assert running.returncode == 3, output
    assert "agent_superseded" in output
    assert "Traceback" not in output


@pytest.fixture
def own_rig() -> Iterator[tuple[Rig, EmbeddedRedis]]:
    with EmbeddedRedis() as server, connect(server.url) as client:
        yield Rig(server.url, client), server


def test_a_fenced_process_exits_with_4_before_its_ttl_is_over(
    own_rig: tuple[Rig, EmbeddedRedis],
) -> None:
    rig, server = own_rig
    # Even if a thread that is no daemon would keep the interpreter for a minute.
    keep = "threading.Thread(target=opened.wait, args=(60,)).start()\nagent.run()"
    with process(PROGRAM.replace("agent.run()", keep), rig.url, "0.6") as running:
        until_held(rig, rig.grant(boot(rig)))
        with frozen(server):
            output, _ = running.communicate(timeout=10)
    assert running.returncode == 4, output
    assert "agent_fenced" in output
    assert "Traceback" not in output
    assert rig.completions() == []


def test_a_process_that_slept_past_its_ttl_does_not_beat_on_as_if_nothing_had_been(
    rig: Rig,
) -> None:
    source = PROGRAM.replace("opened.wait(60)", "task.cancelled.wait(60)")
    with process(source, rig.url, "0.6") as running:
        first = boot(rig)
        until_held(rig, rig.grant(first))
        running.send_signal(signal.SIGSTOP)
        asleep = len(rig.beats())
        began = redis_ms(rig)
        wait_until(lambda: redis_ms(rig) - began > 700, "its TTL is over")
        running.send_signal(signal.SIGCONT)
        wait_until(lambda: len(rig.starts()) == 2, "a new boot began")
        # One more of the old boot may have been on its way when it fell asleep.
        assert sum(beat.boot == first for beat in rig.beats()[asleep:]) <= 1
        running.send_signal(signal.SIGTERM)
        running.wait(10)
    assert rig.completions() == []


def redis_ms(rig: Rig) -> int:
    seconds, micros = rig.client.time()
    return int(seconds) * 1_000 + int(micros) // 1_000


def test_run_belongs_in_the_main_thread() -> None:
    caught: list[RuntimeError] = []

    def run() -> None:
        try:
            Agent("a", role="developer").run()
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert "main thread" in str(caught[0])


def test_the_command_runs_the_agent_that_is_named(rig: Rig, tmp_path: Path) -> None:
    text = "from worker import Agent\nagent = Agent('other', role='developer', interval_s=0.1, ttl_s=9)\n"
    (tmp_path / "agents_of_mine.py").write_text(text, encoding="utf-8")
    source = "import os, sys; os.chdir(sys.argv.pop(1)); from worker.cli import main; main()"
    options = ["--redis-url", rig.url, "--pool", "p", "--id", "builder-1", "--role", "tester"]
    arguments = [str(tmp_path), "run", "agents_of_mine:agent", *options, "--max-concurrent", "4"]
    with process(source, *arguments) as running:
        rig.until_started()
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=10)
    assert running.returncode == 0, output
    start = rig.starts()[0]
    assert (start.agent, start.role, start.max_concurrent) == ("builder-1", "tester", 4)
