"""Servers for the tests of this folder, one set for each file; and what to say where there is none to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from balancer.embedded import ServerFailed, ServerMissing
from tests.ha.cluster import Cluster, cluster
from tests.ha.sentinels import Trio, trio


@pytest.fixture(scope="module")
def redis_cluster() -> Iterator[Cluster]:
    """Three masters and a replica of the first."""
    try:
        servers = cluster()
        with servers as running:
            yield running
    except (ServerMissing, ServerFailed) as error:
        pytest.fail(f"a Redis Cluster cannot run here: {error} {error.hint}", pytrace=False)


@pytest.fixture
def sentinels() -> Iterator[Trio]:
    """A master, its replica and three Sentinels, new for each test: a failover leaves them changed."""
    try:
        with trio() as running:
            yield running
    except (ServerMissing, ServerFailed) as error:
        pytest.fail(f"Sentinels cannot run here: {error} {error.hint}", pytrace=False)
