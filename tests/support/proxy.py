"""A TCP proxy before a Redis that can cut replies (what was asked is done, and whoever asked never learns) and change
them.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 65_536


class Proxy:
    """Listens on a port of 127.0.0.1 and passes on what comes, both ways. A context manager.

    Args:
        target: the Redis behind it, `redis://host:port` or `unix://path`. While it is away, connections are closed.
        rewrite: what becomes of a piece of a reply.
    """

    def __init__(self, target: str, rewrite: Callable[[bytes], bytes] = bytes) -> None:
        self.rewrite = rewrite
        parts = urlsplit(target)
        self._path = parts.path if parts.scheme == "unix" else ""
        self._address = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._to_cut, self._word, self._skip = 0, b"", 0
        #: Replies that were cut so far.
        self.cuts = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def cut_replies(self, count: int = 1, word: bytes = b"", skip: int = 0) -> None:
        """Of the next `count` requests with this word in them no reply arrives: the connection closes instead. The
        first `skip` of them are answered.
        """
        with self._lock:
            self._to_cut, self._word, self._skip = count, word, skip

    def is_to_cut(self, request: bytes) -> bool:
        """Whether the reply to this request is one of those to cut."""
        with self._lock:
            if not self._to_cut or self._word not in request:
                return False
            if self._skip:
                self._skip -= 1
                return False
            self._to_cut -= 1
            self.cuts += 1
            return True

    def forget(self, pair: _Pair) -> None:
        """A pair that has closed by itself."""
        with self._lock:
            self._pairs.discard(pair)

    def close(self) -> None:
        """Close all connections and stop listening."""
        # To wake up the thread in accept() takes a shutdown; close alone would leave it there.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            left = list(self._pairs)
        for pair in left:
            pair.hang_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = self._connect()
            except OSError:
                client.close()
                continue
            pair = _Pair(self, client, server)
            with self._lock:
                self._pairs.add(pair)
            pair.start()

    def _connect(self) -> socket.socket:
        if not self._path:
            return socket.create_connection(self._address)
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._path)
        except OSError:
            server.close()
            raise
        return server


class _Pair:
    """One client's connection and ours to Redis, each read by a thread of its own."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._is_cut = False
        self._running, self._lock = 2, threading.Lock()

    def start(self) -> None:
        for pump in (self._requests, self._replies):
            threading.Thread(target=self._run, args=(pump,), name="proxy-pair", daemon=True).start()

    def hang_up(self) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _run(self, pump: Callable[[], None]) -> None:
        with suppress(OSError):
            pump()
        self.hang_up()
        with self._lock:
            self._running -= 1
            is_last = not self._running
        if is_last:
            self._client.close()
            self._server.close()
            self._proxy.forget(self)

    def _requests(self) -> None:
        while data := self._client.recv(_CHUNK):
            self._is_cut = self._is_cut or self._proxy.is_to_cut(data)
            self._server.sendall(data)

    def _replies(self) -> None:
        while data := self._server.recv(_CHUNK):
            if self._is_cut:
                return
            self._client.sendall(self._proxy.rewrite(data))
