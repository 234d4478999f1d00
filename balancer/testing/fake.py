"""fakeredis as the client of one test."""

from __future__ import annotations

import importlib.util
from typing import Any

from balancer.core.errors import BalancerError
from balancer.protocol.connect import TextRedis


class FakeRedisMissing(BalancerError, ImportError):
    """`balancer.testing` cannot work without fakeredis and its Lua."""

    code = "fakeredis_missing"
    hint = "pip install 'workload-balancer[testing]'"


def fake_redis() -> TextRedis:
    """A client of an empty Redis of its own, which answers as `balancer.protocol.connect` does.

    Raises:
        FakeRedisMissing: fakeredis is not installed, or without Lua.
    """
    for module in ("fakeredis", "lupa"):
        if importlib.util.find_spec(module) is None:
            raise FakeRedisMissing(
                f"balancer.testing needs {module}: {FakeRedisMissing.hint}", name=module
            )
    from fakeredis import FakeRedis

    # The oldest Redis that the balancer runs on.
    client = FakeRedis(version=(6, 2), decode_responses=True, protocol=3, legacy_responses=False)
    for command in ("XREAD", "XREADGROUP"):
        client.set_response_callback(command, _streams)
    return client


def _streams(reply: Any, **_: Any) -> dict[str, list[tuple[str, dict[str, str]]]]:
    """As a server's reply is read; fakeredis' own reading of it is nested once too often."""
    return {
        stream: [
            (entry, dict(zip(fields[::2], fields[1::2], strict=True))) for entry, fields in rows
        ]
        for stream, rows in (reply or {}).items()
    }
