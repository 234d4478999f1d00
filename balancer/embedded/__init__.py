"""A real redis-server of our own, for `balancer dev`, `balancer demo` and the tests.

The server listens on loopback or a unix socket, keeps its data in a private directory and never
outlives the process that started it, not even one that is killed by SIGKILL. Never for production.
"""

from balancer.embedded.fake import FakeRedis, fake_server
from balancer.embedded.find import SERVER_VARIABLE, ServerFailed, ServerMissing, find_server
from balancer.embedded.own import OwnRedis
from balancer.embedded.server import EmbeddedRedis

__all__ = [
    "SERVER_VARIABLE",
    "EmbeddedRedis",
    "FakeRedis",
    "OwnRedis",
    "ServerFailed",
    "ServerMissing",
    "fake_server",
    "find_server",
]
