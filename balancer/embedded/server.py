"""A real redis-server as a child process that never outlives us."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from balancer.embedded.find import ServerFailed, ServerMissing, find_server
from balancer.embedded.own import OwnRedis
from balancer.embedded.place import free_port, private_directory

_START_ATTEMPTS = 5
_POLL_S = 0.005
_LOG_TAIL_LINES = 15

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
        self._directory = private_directory()
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
            self._port = free_port()
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
