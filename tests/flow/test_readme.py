"""The README, taken at its word: its programs and its commands run as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from balancer import Balancer
from balancer.cli.root import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line[2:])
    for block in re.findall(r"^```console\n(.*?)^```$", README, re.M | re.S)
    for line in block.splitlines()
    if line.startswith("$ ")
]
#: They run on their own in what follows, or take long.
STARTED = [["balancer", "dev"]]


def program(name: str) -> str:
    """The code block of this name, verbatim."""
    found = re.search(rf"^```python {re.escape(name)}\n(.*?)^```$", README, re.M | re.S)
    assert found, f"the README has no program {name}"
    return found[1]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """`balancer dev` runs; yields the environment that it asks for."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith("BALANCER_")}
    usual |= {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    directory = tmp_path_factory.mktemp("dev")
    with (directory / "stderr").open("w") as stderr:
        dev = subprocess.Popen(
            [sys.executable, "-m", "balancer", "dev"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=directory,
            env=usual,
        )
    assert dev.stdout is not None
    try:
        said = ""
        while "Ctrl-C" not in said:
            line = dev.stdout.readline()
            assert line, f"it ended: {(directory / 'stderr').read_text()}"
            said += line
        yield usual | dict(re.findall(r"export (\w+)=(\S+)", said))
    finally:
        dev.terminate()
        with suppress(subprocess.TimeoutExpired):
            dev.wait(10)
        dev.kill()
        dev.communicate()


@pytest.fixture(scope="module")
def produced(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """What the producer printed, its tasks done by the agent."""
    directory = tmp_path_factory.mktemp("programs")
    for name in ("agent.py", "producer.py"):
        (directory / name).write_text(program(name))
    with (directory / "agent.log").open("w") as log:
        agent = subprocess.Popen(
            [sys.executable, "agent.py"], cwd=directory, env=environment, stdout=log, stderr=log
        )
    try:
        producer = subprocess.run(
            [sys.executable, "producer.py"],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
        assert producer.returncode == 0, producer.stderr + (directory / "agent.log").read_text()
        yield producer.stdout
    finally:
        agent.terminate()
        with suppress(subprocess.TimeoutExpired):
            agent.wait(10)
        agent.kill()
        agent.wait()


def test_the_producers_tasks_are_done_by_the_agent(
    environment: dict[str, str], produced: str
) -> None:
    lines = [line.split(" ", 1) for line in produced.splitlines()]
    shown = re.search(r"^\$ python examples/producer.py\n(.*?)^```$", README, re.M | re.S)
    assert shown
    assert [words for _, words in lines] == [
        line.split(" ", 1)[1] for line in shown[1].splitlines()
    ]
    with Balancer(environment.get("BALANCER_REDIS_URL")) as balancer:
        login, home = balancer.statuses([id_ for id_, _ in lines])
    assert login is not None
    assert home is not None
    assert (login.state.value, login.attempt, home.attempt) == ("completed", 1, 1)
    assert login.ended_at is not None
    assert home.granted_at is not None
    assert login.ended_at <= home.granted_at


@pytest.mark.usefixtures("produced")
@pytest.mark.parametrize(
    "command",
    [words for words in COMMANDS if words[0] == "balancer" and words not in STARTED],
    ids=" ".join,
)
def test_commands_run(environment: dict[str, str], command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_other_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):.*## ", makefile, re.M)
    others = [words for words in COMMANDS if words[0] != "balancer"]
    assert others
    for tool, what, *rest in others:
        if tool == "make":
            assert what in targets
            assert all(f"$({word.partition('=')[0]})" in makefile for word in rest)
        else:
            assert tool == "python"
            assert (ROOT / what).is_file()
            assert not rest


def test_the_overview_names_every_command() -> None:
    overview = README.partition("## Command line")[2].partition("\n## ")[0]
    for command in app.registered_commands:
        if command.name != "version":
            assert f"`balancer {command.name}" in overview or f"`{command.name}`" in overview
    for noun in app.registered_groups:
        assert (
            f"`balancer {noun.typer_instance.info.name} " in overview
            if noun.typer_instance
            else True
        )
