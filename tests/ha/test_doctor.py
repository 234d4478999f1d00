"""The doctor behind real Sentinels and on a real Cluster."""

from __future__ import annotations

from balancer.doctor import Level
from balancer.doctor.sentinel import sentinels as look
from balancer.doctor.server import cluster as look_at_cluster
from balancer.protocol import connect
from tests.doctor.conftest import visit
from tests.ha.cluster import Cluster
from tests.ha.sentinels import Trio, port_of
from tests.support.wait import wait_until


def test_sentinels_that_answer_agree_and_can_elect(sentinels: Trio) -> None:
    master = port_of(sentinels.master())
    with connect(sentinels.url) as client:
        (row,) = look(visit(client, sentinels.url))
        assert row.level is Level.OK
        assert row.found == f"3 of 3 Sentinels answer; master of 'balancers': 127.0.0.1:{master}"
        one = sentinels.url.replace(f",127.0.0.1:{port_of(sentinels.sentinels[2])}", "")
        (row,) = look(visit(client, one))
        assert (row.level, "run three" in row.advice) == (Level.WARN, True)
        sentinels.sentinels[2].kill()
        (row,) = look(visit(client, sentinels.url))
        assert (row.level, "silent: 127.0.0.1:" in row.found) == (Level.WARN, True)
        sentinels.sentinels[1].kill()

        def is_without_quorum() -> bool:
            (row,) = look(visit(client, sentinels.url))
            return row.level is Level.FAIL and "NOQUORUM" in row.found

        wait_until(is_without_quorum, "the last one knows that it is alone", 20)


def test_a_cluster_that_is_whole(redis_cluster: Cluster) -> None:
    pool = redis_cluster.pool_on(1)
    with connect(redis_cluster.url, pool=pool) as client:
        (row,) = look_at_cluster(visit(client, redis_cluster.url, pool))
    assert row.level is Level.OK
    assert row.found.startswith("state ok, all keys of the pool in slot ")
