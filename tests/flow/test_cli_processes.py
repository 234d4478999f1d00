"""The `balancer` command as a process of its own: signals, pipes, locales, and what it loads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from balancer import Balancer
from balancer.embedded import EmbeddedRedis
from balancer.ledger.pool import Pool
from balancer.protocol.connect import connect
from tests.support.factories import submit
from tests.support.wait import wait_until

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "balancer")

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tcp=True) as server:
        yield server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the command; whatever still runs at the end is killed. stderr goes to a file."""
    running: list[subprocess.Popen[str]] = []

    def start_it(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        with (tmp_path / "stderr").open("a") as log:
            process = subprocess.Popen(
                [*COMMAND, *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env={**os.environ, **environment},
            )
        running.append(process)
        return process

    yield start_it
    for process in running:
        process.kill()
        process.communicate()


def log_has(tmp_path: Path, event: str) -> Callable[[], bool]:
    """Whether the event was logged, as JSON since the log is no terminal."""
    file = tmp_path / "stderr"
    return lambda: any(
        json.loads(line)["event"] == event
        for line in file.read_text().splitlines()
        if line.startswith("{") and line.endswith("}")
    )


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def started(start: Start, *arguments: str) -> tuple[subprocess.Popen[str], Any]:
    """`balancer dev --json`, once it has said where it is."""
    process = start("dev", "--json", *arguments)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def test_dev_serves_and_ctrl_c_stops_all_of_it(start: Start, tmp_path: Path) -> None:
    process, place = started(start, "--pool", "mine")
    with Balancer(place["redis_url"], "mine") as balancer:
        task = balancer.submit(role="developer")
        assert balancer.status(task).state.value == "pending"
    wait_until(log_has(tmp_path, "balancer_started"), "the balancer runs")
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 0
    assert log_has(tmp_path, "balancer_stopped")()
    with connect(place["redis_url"]) as client, pytest.raises(RedisError):
        client.ping()


def test_dev_keeps_its_data_where_it_is_told_to(start: Start, tmp_path: Path) -> None:
    kept = tmp_path / 'a "directory"'
    process, place = started(start, "--dir", str(kept))
    with Balancer(place["redis_url"]) as balancer:
        task = balancer.submit(role="developer")
    second = run("dev", "--dir", str(kept), "--json")
    assert (second.returncode, json.loads(second.stderr)["error"]["code"]) == (1, "directory_taken")
    process.kill()
    process.wait()

    process, place = started(start, "--dir", str(kept))
    with Balancer(place["redis_url"]) as balancer:
        assert balancer.status(task).role == "developer"
    process.terminate()
    assert process.wait(15) == 0


def test_dev_ends_with_its_redis(start: Start, tmp_path: Path) -> None:
    process, place = started(start)
    with connect(place["redis_url"]) as client:
        wait_until(log_has(tmp_path, "balancer_started"), "the balancer runs")
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    assert process.wait(20) == 1
    assert '"code": "redis_ended"' in (tmp_path / "stderr").read_text()


def test_dev_goes_on_when_nobody_reads_what_it_says(start: Start, tmp_path: Path) -> None:
    process = start("dev", PYTHONUNBUFFERED="1")
    assert process.stdout is not None
    process.stdout.close()
    wait_until(log_has(tmp_path, "balancer_started"), "the balancer runs")
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    process.stdout = None


def test_dev_on_a_port_that_is_taken(server: EmbeddedRedis) -> None:
    port = server.url.rpartition(":")[2].partition("/")[0]
    answer = run("dev", "--port", port)
    assert answer.returncode == 2
    assert f"error: --port: port {port} is in use\nhint: " in answer.stderr
    assert "Traceback" not in answer.stderr


def test_serve_creates_the_pool_and_sigterm_ends_it_cleanly(
    start: Start, server: EmbeddedRedis, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        '[pool]\nretry_delay_s = 1.5\nstrategy = "best_match"\n'
        '[roles.developer]\nspecializations = ["bug"]\n'
    )
    arguments = ("--pool", "served", "--config", str(file), "--strategy", "least_loaded")
    process = start("serve", "--redis-url", server.url, *arguments)
    wait_until(log_has(tmp_path, "balancer_started"), "the balancer runs")
    with connect(server.url) as client:
        settings = Pool.open(client, "served").settings
    assert (settings.strategy, settings.retry_delay_s) == ("least_loaded", 1.5)
    assert settings.specializations_of("developer", "") == ("bug",)
    process.terminate()
    assert process.wait(15) == 0
    assert log_has(tmp_path, "balancer_stopped")()


def test_serve_paces_itself_as_it_is_told(
    start: Start, server: EmbeddedRedis, tmp_path: Path
) -> None:
    file = tmp_path / "paced.toml"
    file.write_text("[pool]\nname = 'paced'\n[serve]\ntick_s = 0.07\nsweep_s = 0.2\n")
    process = start("serve", "--redis-url", server.url, "--config", str(file))
    wait_until(log_has(tmp_path, "balancer_started"), "the balancer runs")
    with connect(server.url) as client, client.monitor() as monitor:
        waits = next(
            said["command"] for said in monitor.listen() if "BLPOP wb:{paced}" in said["command"]
        )
    assert waits.split()[-1] == "0.07"
    process.terminate()
    assert process.wait(15) == 0


def test_serve_says_that_it_waits_for_redis(start: Start, tmp_path: Path) -> None:
    process = start("serve", "--redis-url", "redis://:secret@127.0.0.1:9/0")
    wait_until(log_has(tmp_path, "redis_awaited"), "it says so")
    assert "secret" not in (tmp_path / "stderr").read_text()
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 130


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line for bash in which `balancer` is the command."""
    balancer = f'balancer() {{ {" ".join(COMMAND)} "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", balancer + line],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("balancer version >&-", 1, "error: cannot write the output: Bad file descriptor"),
        ("balancer --help >&-", 1, "error: cannot write the output: Bad file descriptor"),
        ("balancer version --json > /dev/full", 1, '"cannot write the output: No space left'),
        ("balancer version 2>&- > /dev/null", 0, ""),
        ("balancer task show 'a b' 2> /dev/full", 2, ""),
        ("balancer submit --role x --file - <&-", 2, "--file: cannot read 'stdin'"),
        ("balancer task cancel t --reason $'\\xff'", 2, "reason: '\\udcff' is not valid Unicode"),
        ("balancer submit --role $'\\xff'", 2, "role: '\\udcff' is not valid"),
        ("balancer dev --dir $'\\xff\\x01'", 2, "--dir"),
    ],
)
def test_what_a_shell_can_do_to_a_command(
    server: EmbeddedRedis, tmp_path: Path, line: str, code: int, said: str
) -> None:
    with connect(server.url) as client:
        Pool.create(client, "shell")
    answer = shell(line, BALANCER_REDIS_URL=server.url, BALANCER_POOL="shell")
    assert (answer.returncode, answer.stderr.count("\n")) == (code, 1 if said else 0) or (
        answer.returncode == code and "hint: " in answer.stderr
    )
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "fault of the program" not in answer.stderr


def test_a_log_that_nobody_reads_ends_no_balancer(
    server: EmbeddedRedis, start: Start, tmp_path: Path
) -> None:
    line = f"balancer serve --redis-url {server.url} --pool unread 2> /dev/full & echo $!; wait $!"
    with subprocess.Popen(
        ["bash", "-c", line.replace("balancer", " ".join(COMMAND), 1)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        with connect(server.url) as client:
            wait_until(lambda: client.exists("wb:{unread}:consumer:0"), "the balancer runs")
            with Balancer(server.url, "unread") as balancer:
                parent = balancer.submit(role="x")
                child = balancer.submit(role="x", depends_on=[parent])
                balancer.cancel(parent)
                assert balancer.wait(child, 20).state.value == "dead"
        os.kill(pid, signal.SIGTERM)
        assert process.wait(20) == 0


def test_ctrl_c_while_modules_load() -> None:
    program = (
        "import os, signal, sys, types; import balancer.cli as cli; "
        "exec('class M(types.ModuleType):\\n def __getattr__(self, name):"
        " os.kill(os.getpid(), signal.SIGINT)'); "
        "sys.modules['balancer.cli.root'] = M('root'); cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (130, "")


def unread(server: EmbeddedRedis, pool: str, *arguments: str, given: str = "") -> tuple[int, str]:
    """Exit code and stderr of a command whose stdout nobody reads."""
    with connect(server.url) as client:
        Pool.create(client, pool)
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as stdout:
        process = subprocess.run(
            [*COMMAND, *arguments],
            input=given,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=30,
            cwd=ROOT,
            env={**os.environ, "BALANCER_REDIS_URL": server.url, "BALANCER_POOL": pool},
        )
    return process.returncode, process.stderr


@pytest.mark.parametrize("arguments", [("task", "ls"), ("task", "ls", "--json"), ("--help",)])
def test_a_reader_that_went_away_is_no_error(
    server: EmbeddedRedis, arguments: tuple[str, ...]
) -> None:
    with connect(server.url) as client:
        submit(Pool.create(client, "piped"), "t1")
    assert unread(server, "piped", *arguments) == (0, "")


@pytest.mark.parametrize(("options", "said"), [((), "2200 accepted\n"), (("--json",), "")])
def test_tasks_are_submitted_whether_their_ids_are_read_or_not(
    server: EmbeddedRedis, options: tuple[str, ...], said: str
) -> None:
    pool = f"bulk{len(options)}"

    ended = unread(server, pool, "submit", "--file", "-", *options, given='{"role":"dev"}\n' * 2200)

    assert ended == (0, said)
    with Balancer(server.url, pool=pool) as balancer:
        assert [queue.pending for queue in balancer.queues()] == [2200]


@pytest.mark.parametrize(
    "locale",
    [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}],
    ids=["C", "ASCII"],
)
def test_text_that_the_locale_cannot_show(server: EmbeddedRedis, locale: dict[str, str]) -> None:
    with connect(server.url) as client, Balancer(server.url, Pool.create(client, "l").name) as own:
        task = own.submit(role="developer", description="köl ☃")
    environment = {"BALANCER_REDIS_URL": server.url, "BALANCER_POOL": "l", **locale}
    shown = run("task", "show", task, "--json", **environment)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert json.loads(shown.stdout)["body"] == {"description": "köl ☃"}
    assert run("task", "show", task, **environment).returncode == 0


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_text_that_comes_in_under_another_locale(server: EmbeddedRedis, locale: str) -> None:
    with connect(server.url) as client:
        Pool.create(client, "in")
    environment = {"BALANCER_REDIS_URL": server.url, "BALANCER_POOL": "in", "LC_ALL": locale}
    given = ("--description", "köl ☃", "--payload", '"ü"')
    done = run("submit", "--role", "developer", *given, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    with Balancer(server.url, "in") as balancer:
        body = balancer.status(done.stdout.strip()).body
    assert body == {"description": "köl ☃", "payload": "ü"}


def test_ctrl_c_while_a_command_waits(server: EmbeddedRedis, start: Start, tmp_path: Path) -> None:
    with connect(server.url) as client:
        Pool.create(client, "waits")
    options = ("--redis-url", server.url, "--pool", "waits")
    process = start("submit", "--role", "x", "--wait", "60", *options)
    stderr = tmp_path / "stderr"
    wait_until(lambda: "waiting" in stderr.read_text(), "it waits")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert stderr.read_text().count("\n") == 1, "nothing but what it said before"


def test_help_loads_nothing_slow() -> None:
    slow = "{'redis', 'structlog', 'rich', 'balancer.core.model'}"
    program = (
        "import sys; from balancer.cli import run; run(['submit', '--help']); "
        f"print(*{slow} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "\n")
