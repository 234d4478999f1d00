"""fakeredis in the place of a server, for a first look where there is none."""

from __future__ import annotations

import importlib.util
import threading
from typing import ClassVar

from balancer.embedded.find import ServerMissing
from balancer.embedded.own import OwnRedis

#: The oldest Redis that the balancer runs on.
_FAKE_VERSION = (6, 2)


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
