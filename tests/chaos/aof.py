"""Redis' append-only file as a list of transactions: every write there ever was, in order, over all of Redis' deaths.

Redis writes it before it answers, and cuts off a half-written transaction when it starts again. So it is the one
witness that misses nothing, and it knows nothing of the balancer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import hiredis

#: Commands and their arguments that took effect at one instant.
Transaction = list[list[str]]

_CHUNK = 1 << 20


def aof_files(directory: Path) -> list[Path]:
    """The files of a server that began empty and never rewrote: one, in a folder of its own from Redis 7 on."""
    return [*directory.glob("appendonly.aof"), *sorted(directory.glob("appendonlydir/*.incr.aof"))]


def read_transactions(files: Iterable[Path]) -> Iterator[Transaction]:
    """Each script, MULTI or single command that wrote something. An unfinished last one does not count."""
    reader = hiredis.Reader(encoding="utf-8", errors="replace")
    open_: Transaction | None = None
    for command in _commands(reader, files):
        name = command[0].upper()
        if name == "SELECT":
            # A server that starts again says it anew, and has cut off what was unfinished.
            open_ = None
        elif name == "MULTI":
            open_ = []
        elif name == "EXEC":
            if open_:
                yield open_
            open_ = None
        elif open_ is not None:
            open_.append(command)
        else:
            yield [command]


def _commands(reader: hiredis.Reader, files: Iterable[Path]) -> Iterator[list[str]]:
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                reader.feed(chunk)
                while (command := reader.gets()) is not False:
                    yield command


def stream_entry(command: list[str]) -> tuple[str, dict[str, str]]:
    """Id and fields of an XADD, as the file has it: options, the id that it was given, fields and values."""
    at = 2
    while (option := command[at].upper()) in ("NOMKSTREAM", "MAXLEN", "MINID", "LIMIT"):
        at += 1
        if option != "NOMKSTREAM":
            at += 1 + (command[at] in ("=", "~"))
    flat = command[at + 1 :]
    return command[at], dict(zip(flat[::2], flat[1::2], strict=True))
