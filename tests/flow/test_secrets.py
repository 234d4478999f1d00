"""What a task carries, and passwords: through every command, and in no line that is logged or told."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from balancer import log
from balancer.cli import run
from balancer.cli.root import app
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.protocol import connect
from balancer.service import Service
from tests.support.wait import wait_until
from worker import Agent, TaskContext

PASSWORD, PAYLOAD, RESULT = "pass-9f2c", "load-77ab", "result-31de"
#: They run until they are stopped; the loops of this test are the same ones.
LASTING = {("serve",), ("dev",), ("demo",)}
#: What stands for an argument, by its name in the command; a task for all others.
ARGUMENTS = {"agent_id": "a1", "role": "developer", "file": "x.toml"}
#: What some commands are told beside, lest they take long.
OPTIONS: dict[tuple[str, ...], tuple[str, ...]] = {("simulate",): ("--limit", "20", "--seeds", "1")}


class Place(NamedTuple):
    """A pool behind a password, served, with an agent; and all that is logged about it."""

    url: str
    wrong_url: str
    logged: io.StringIO


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    logged = io.StringIO()
    log.configure(as_json=True, level="debug", to=logged)
    with EmbeddedRedis() as server:
        with connect(server.url) as admin:
            admin.execute_command("ACL SETUSER app on", f">{PASSWORD}", "~*", "+@all")
        url = server.url.replace("unix://", f"unix://app:{PASSWORD}@")
        monkeypatch.setenv("BALANCER_REDIS_URL", url)
        service = Service(url, "p", tick_s=0.05, sweep_s=0.1).start()
        monkeypatch.setenv("BALANCER_POOL", "p")
        agent = Agent("a1", role="developer", max_concurrent=2, interval_s=0.2)

        @agent.task("feature")
        def build(task: TaskContext) -> dict[str, Any]:
            task.log.info("seen", payload=task.payload, task=task)
            return {"said": RESULT}

        @agent.task("bug")
        def fix(task: TaskContext) -> None:
            raise ValueError("no idea")

        try:
            with agent:
                yield Place(url, url.replace(PASSWORD, f"{PASSWORD}x"), logged)
        finally:
            service.stop()


def every_command() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Words and command of each leaf."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, (*words, name))
        if not hasattr(command, "commands"):
            yield words, command

    return walk(typer.main.get_command(app), ())


def test_neither_payloads_nor_passwords_are_told(
    place: Place, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    body = json.dumps({"token": PAYLOAD, "text": f"a {PAYLOAD}"})
    lines = tmp_path / "tasks.jsonl"
    task = {"role": "developer", "category": "feature", "payload": PAYLOAD, "description": PAYLOAD}
    lines.write_text(json.dumps(task) + "\n")
    said, shown = [], []

    def command(*words: str) -> int:
        code = run(words)
        out, err = capsys.readouterr()
        said.append(err)
        shown.append(out)
        return code

    submit = ("submit", "--role", "developer", "--payload", body, "--description", PAYLOAD)
    assert command(*submit, "--category", "feature", "--id", "t1", "--wait", "20") == 0
    assert command(*submit, "--category", "bug", "--max-failures", "1", "--wait", "20") == 1
    assert command(*submit, "--category", "nobody", "--id", "t2") == 0
    assert command("submit", "--file", str(lines)) == 0
    assert command(*submit, "--id", "t1") == 5, "another task"
    assert command("submit", "--role", "a b", "--payload", body) == 2
    assert command("submit", "--role", "nobody", "--payload", body, "--depends-on", "none") == 6
    assert any(PAYLOAD in out for out in shown), "data on stdout is what was asked for"
    shown.clear()
    ran = set()
    for words, leaf in every_command():
        if words in LASTING:
            continue
        given = [
            ARGUMENTS.get(p.name, "t1") for p in leaf.params if p.param_type_name == "argument"
        ]
        given += OPTIONS.get(words, ())
        for address in ((), ("--redis-url", place.wrong_url)):
            takes = not address or any(p.name == "redis_url" for p in leaf.params)
            for form in ((), ("--json",)):
                if takes:
                    command(*words, *given, *address, *form)
                    ran.add(words)
    assert len(ran) > 10
    wait_until(lambda: "task_failed" in place.logged.getvalue(), "the agent has said all")
    logged = place.logged.getvalue()
    events = {json.loads(line)["event"] for line in logged.splitlines()}
    assert {"balancer_started", "agent_started", "seen", "task_completed", "task_failed"} <= events
    assert PASSWORD not in logged + "".join(said) + "".join(shown)
    for secret in (PAYLOAD, RESULT):
        assert secret not in logged
        assert secret not in "".join(said)


def test_a_pool_that_cannot_be_reached_keeps_its_password(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(place.url) as client:
        Pool.open(client, "p")
    for words in (
        ["serve", "--redis-url", place.wrong_url],
        ["doctor", "--redis-url", place.wrong_url],
    ):
        assert run(words) == 77
        out, err = capsys.readouterr()
        assert PASSWORD not in out + err
