"""Agents that are not Python, and a Redis that their clients can reach. Not collected by a plain `pytest`: they need
tools of their own, and fail without them. `make test-shell` and `make test-node` run them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from balancer.embedded import EmbeddedRedis
from balancer.protocol import TextRedis, connect
from tests.flow.agent_rig import AGENT, POOL, Rig
from tests.support.wait import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
#: What is done for a task: what its payload asks for. It writes the number of its process into the file `began`.
SHELL_PROGRAM = """#!/bin/sh
echo $$ >> began
read -r body
case $body in
*fail*) echo "no luck" >&2; exit 3 ;;
*wait*) until [ -e gate ]; do sleep 0.02; done ;;
*large*) head -c 5000 /dev/zero | tr '\\0' x ;;
*repeat*) printf %s "$body"; exit ;;
esac
echo '{"done":true}'
"""
NODE_MODULE = """
import { appendFileSync, existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
export default async ({ payload }, signal) => {
  appendFileSync('began', `${process.pid}\\n`);
  signal.addEventListener('abort', () => appendFileSync('stopped', ''));
  if (payload === 'fail') throw new Error('no luck');
  while (payload === 'wait' && !existsSync('gate') && !signal.aborted) await sleep(20);
  if (payload === 'large') return 'x'.repeat(5000);
  if (payload?.repeat) return { payload };
  return { done: true };
};
"""


@dataclass(frozen=True)
class Language:
    """How to run the example agent of a language."""

    name: str
    tools: tuple[str, ...]
    install: str
    words: tuple[str, ...]
    failure: str
    """What a failed task says."""
    interval: tuple[str, str]
    ttl: tuple[str, str]
    own_process: bool
    """Whether a task runs in a process of its own."""


LANGUAGES = {
    "shell": Language(
        "shell", ("bash", "redis-cli", "timeout", "awk"), "redis-tools",
        (str(EXAMPLES / "agent.sh"), AGENT, "dev", "./work"), "exit code 3: no luck",
        ("INTERVAL", "1"), ("TTL", "8"), own_process=True,
    ),
    "node": Language(
        "node", ("node",), "nodejs, version 18 or newer",
        ("node", str(EXAMPLES / "agent.mjs"), AGENT, "dev", "./work.mjs", "1"), "Error: no luck",
        ("INTERVAL_MS", "200"), ("TTL_MS", "8000"), own_process=False,
    ),
}  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--language", choices=LANGUAGES, action="append", help="default: all of them")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "language" in metafunc.fixturenames:
        names = metafunc.config.getoption("--language") or list(LANGUAGES)
        metafunc.parametrize("language", names, indirect=True)


def present(name: str) -> Language:
    """The language, if its tools are here; else the test fails."""
    language = LANGUAGES[name]
    missing = [tool for tool in language.tools if shutil.which(tool) is None]
    if missing:
        pytest.fail(f"{', '.join(missing)}: not on PATH; install {language.install}", pytrace=False)
    return language


@pytest.fixture
def language(request: pytest.FixtureRequest) -> Language:
    """The language that the test is run for."""
    return present(request.param)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """A server on TCP: redis-cli takes no address of a unix socket."""
    with EmbeddedRedis(tcp=True) as server:
        yield server


@pytest.fixture(scope="session")
def _client(redis_server: EmbeddedRedis) -> Iterator[TextRedis]:
    """Of this server, whatever else ran in the same session."""
    with connect(redis_server.url) as client:
        yield client


@pytest.fixture
def rig(redis_server: EmbeddedRedis, redis_client: TextRedis) -> Rig:
    """The balancer played by hand."""
    return Rig(redis_server.url, redis_client)


class Agents:
    """Starts example agents in a directory of their own, and kills them in the end."""

    def __init__(self, language: Language, url: str, directory: Path) -> None:
        self.language = language
        self.directory = directory
        program = directory / "work"
        program.write_text(SHELL_PROGRAM)
        program.chmod(0o755)
        (directory / "work.mjs").write_text(NODE_MODULE)
        usual = {name: text for name, text in os.environ.items() if not name.startswith("BALANCER")}
        self._environment = usual | {"BALANCER_REDIS_URL": url, "BALANCER_POOL": POOL}
        self._environment |= dict((language.interval, language.ttl))
        self._running: list[subprocess.Popen[str]] = []

    def set_clock(self, seconds: int) -> None:
        """Those started from now on see another time than Redis, since 1970."""
        (self.directory / "clock.sh").write_text(f"unset EPOCHSECONDS; EPOCHSECONDS={seconds}\n")
        (self.directory / "clock.cjs").write_text(f"Date.now = () => {1_000 * seconds};\n")
        self._environment |= {
            "BASH_ENV": str(self.directory / "clock.sh"),
            "NODE_OPTIONS": f"--require {self.directory / 'clock.cjs'}",
        }

    def start(self) -> subprocess.Popen[str]:
        """One more, under the same id."""
        running = subprocess.Popen(
            self.language.words, cwd=self.directory, env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._running.append(running)
        return running

    def kill(self, running: subprocess.Popen[str]) -> None:
        """With all it started."""
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()

    def open_gate(self) -> None:
        """Let those that wait go on."""
        (self.directory / "gate").touch()

    def until_began(self, count: int = 1) -> list[int]:
        """The processes in which tasks began, once there are so many."""
        path = self.directory / "began"
        wait_until(
            lambda: path.exists() and len(path.read_text().split()) >= count, f"{count} began"
        )
        return [int(line) for line in path.read_text().split()]

    def close(self) -> None:
        """Kill what is left."""
        for running in self._running:
            if running.poll() is None:
                self.kill(running)
            assert running.stdout is not None
            running.stdout.close()


@contextmanager
def _agents(language: Language, url: str, directory: Path) -> Iterator[Agents]:
    agents = Agents(language, url, directory)
    try:
        yield agents
    finally:
        agents.close()


@pytest.fixture
def agents(language: Language, redis_server: EmbeddedRedis, tmp_path: Path) -> Iterator[Agents]:
    with _agents(language, redis_server.url, tmp_path) as agents:
        yield agents


@pytest.fixture
def own(language: Language, tmp_path: Path) -> Iterator[tuple[Agents, EmbeddedRedis, Rig]]:
    """Agents beside a Redis that a test may freeze."""
    with (
        EmbeddedRedis(tcp=True) as server,
        connect(server.url) as client,
        _agents(language, server.url, tmp_path) as agents,
    ):
        yield agents, server, Rig(server.url, client)
