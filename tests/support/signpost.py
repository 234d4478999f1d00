"""Stands in for Sentinels and for nodes that are asked for the way: says where the tests want it to say."""

from __future__ import annotations

import socketserver
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.support.faulty import read_command

Reply = bytes


def line(text: str) -> Reply:
    """An error or a status, as it stands on the wire."""
    return f"{text}\r\n".encode()


def bulk(text: str | None) -> Reply:
    """A text, or nothing."""
    if text is None:
        return b"$-1\r\n"
    return f"${len(text.encode())}\r\n{text}\r\n".encode()


def array(*parts: Reply) -> Reply:
    """A list of replies."""
    return f"*{len(parts)}\r\n".encode() + b"".join(parts)


def master(port: int | None) -> Reply:
    """What a Sentinel says of a service it knows, or does not."""
    return b"*-1\r\n" if port is None else array(bulk("127.0.0.1"), bulk(str(port)))


def slots(*owners: tuple[int, int, str | None, int]) -> Reply:
    """What a node of a Cluster says: from slot, to slot, host, port of the master."""
    return array(
        *(
            array(
                line(f":{low}"),
                line(f":{high}"),
                array(bulk(host), line(f":{port}"), bulk("an id")),
            )
            for low, high, host, port in owners
        )
    )


class Signpost:
    """Answers each question for the way with `says`, and counts them. A context manager."""

    def __init__(self, says: Reply) -> None:
        self.says, self.asked = says, 0
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening. May be called again."""
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
    owner: Signpost


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        owner: Signpost = self.server.owner  # type: ignore[attr-defined]
        with suppress(OSError, EOFError):
            while True:
                _, name = read_command(self.rfile)
                is_question = name in ("SENTINEL", "CLUSTER")
                owner.asked += is_question
                self.wfile.write(owner.says if is_question else b"+OK\r\n")
