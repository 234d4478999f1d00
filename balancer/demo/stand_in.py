"""fakeredis in the place of a redis-server that is not installed, made fit for processes that connect anew."""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module

from balancer import ledger
from balancer.embedded import OwnRedis, ServerMissing, fake_server
from balancer.ledger.script import Script
from balancer.protocol.connect import connect


def stand_in(missing: ServerMissing) -> OwnRedis:
    """Start it, and say so loudly.

    Raises:
        ServerMissing: there is no fakeredis either.
    """
    server = fake_server()
    print(
        f"*** {missing}: fakeredis stands in. It is slow, loses everything, and is not quite Redis.\n"
        f"*** {missing.hint}",
        file=sys.stderr,
    )
    with connect(server.url) as client:
        # It ends a connection with every error it answers, also with "I do not know this script": so it knows them all.
        for script in all_scripts():
            client.script_load(script.text)
    return server


def all_scripts() -> list[Script]:
    """Every script of the ledger."""
    modules = [
        import_module(f"{ledger.__name__}.{found.name}")
        for found in pkgutil.iter_modules(ledger.__path__)
    ]
    return list(
        {item for module in modules for item in vars(module).values() if isinstance(item, Script)}
    )
