"""A Redis that answers an error when it is told to: a real server behind a socket of ours."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections import Counter
from contextlib import suppress
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

#: Instead of an answer: what was asked is done and the connection closes; it closes before; nothing ever comes.
CUT, DROP, HANG = "CUT", "DROP", "HANG"
#: What a connection says before it is of use.
_GREETING = {"HELLO", "AUTH", "CLIENT", "SELECT", "PING"}


class FaultyRedis:
    """Passes each command on, unless a fault is due for it. A context manager.

    Args:
        target: the real server, `redis://host:port` or `unix://path`.
    """

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._lock = threading.Lock()
        self._fault, self._left, self._on = "", 0, set[str]()
        #: How often each command came, by its name.
        self.seen: Counter[str] = Counter()
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"redis://127.0.0.1:{self._server.server_address[1]}/0"

    def answer(self, fault: str, times: int = 1_000_000, on: set[str] | None = None) -> None:
        """From here on so many commands are answered with this error, `CODE text`; or CUT, DROP, HANG.

        Args:
            fault: what they get; the empty text ends it.
            times: how many.
            on: names of the commands; default: all but those that open a connection.
        """
        with self._lock:
            self._fault, self._left, self._on = fault, times if fault else 0, on or set()

    def due(self, name: str) -> str:
        """The fault that is due for a command of this name."""
        with self._lock:
            self.seen[name] += 1
            if not self._left or (name not in self._on if self._on else name in _GREETING):
                return ""
            self._left -= 1
            return self._fault

    def upstream(self) -> socket.socket:
        """A connection to the real server."""
        if self._target.scheme == "unix":
            real = socket.socket(socket.AF_UNIX)
            real.connect(self._target.path)
            return real
        return socket.create_connection((self._target.hostname, self._target.port))

    def hang(self) -> None:
        """Wait until all is over."""
        self._released.wait(30)

    def close(self) -> None:
        """Stop listening."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    owner: FaultyRedis


class _Handler(socketserver.StreamRequestHandler):
    """One client's connection, one command after the other."""

    def handle(self) -> None:
        owner: FaultyRedis = self.server.owner  # type: ignore[attr-defined]
        with (
            suppress(OSError, EOFError),
            owner.upstream() as real,
            real.makefile("rb") as replies,
        ):
            while True:
                raw, name = read_command(self.rfile)
                fault = owner.due(name)
                if fault == DROP:
                    return
                if fault == HANG:
                    owner.hang()
                    return
                if not fault or fault == CUT:
                    real.sendall(raw)
                    reply = _reply(replies)
                    if fault:
                        return
                    self.wfile.write(reply)
                else:
                    self.wfile.write(f"-{fault}\r\n".encode())


def _line(stream: Any) -> bytes:
    line: bytes = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    return line


def read_command(stream: Any) -> tuple[bytes, str]:
    """One request as it came, and the name of its command."""
    raw = head = _line(stream)
    words = []
    for _ in range(int(head[1:])):
        size = _line(stream)
        word = stream.read(int(size[1:]) + 2)
        words.append(word[:-2])
        raw += size + word
    return raw, words[0].decode().upper()


def _reply(stream: BinaryIO) -> bytes:
    """One reply as it came, with all that is in it."""
    raw = _line(stream)
    kind, rest = raw[:1], raw[1:-2]
    if kind in b"$=!" and rest != b"-1":
        raw += stream.read(int(rest) + 2)
    elif kind in b"*~>%|" and rest != b"-1":
        parts = int(rest) * (2 if kind in b"%|" else 1)
        raw += b"".join(_reply(stream) for _ in range(parts))
    return raw
