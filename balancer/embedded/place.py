"""Where an embedded server lives: a directory and a port that nobody else has."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from pathlib import Path

#: Below the ports that systems hand out for outgoing connections (from 32768 up on Linux): while
#: the server is down, a client that keeps trying its port must not end up connected to itself.
_PORTS = range(20_000, 32_000)
#: Bytes. With the socket's name behind it, this fits into a sockaddr_un on every system.
_LONGEST_DIRECTORY = 90


def private_directory() -> Path:
    """A new directory of ours alone, short enough to hold a unix socket."""
    directory = Path(tempfile.mkdtemp(prefix="balancer-redis-"))
    if len(os.fsencode(directory)) <= _LONGEST_DIRECTORY:
        return directory
    directory.rmdir()
    return Path(tempfile.mkdtemp(prefix="balancer-redis-", dir="/tmp"))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
