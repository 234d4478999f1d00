"""The script `recount`: one agent's counters are counted again."""

from __future__ import annotations

import pytest

from balancer.core.lanes import AgentClass, class_definition
from balancer.ledger import Pool
from balancer.ledger import recount as recounts
from balancer.ledger.recount import recount
from tests.support.factories import (
    NOW_MS,
    assert_guarded,
    assign,
    beat,
    changes,
    fields,
    make_task,
    populate,
    submit,
)

CLASS, _ = class_definition(AgentClass("dev", (), 5))


@pytest.fixture
def holding(virtual_pool: Pool) -> Pool:
    """a1 of five units holds two leases of three units."""
    submit(virtual_pool, make_task("t1", cost=2), "t2")
    beat(virtual_pool, max_concurrent=5)
    assign(virtual_pool, "t1")
    assign(virtual_pool, "t2")
    virtual_pool.client.delete(virtual_pool.keys.wake)
    return virtual_pool


def test_recount_of_right_numbers_changes_nothing(holding: Pool) -> None:
    with changes(holding) as seen:
        assert recount(holding, "a1") == ("exact", 3, 3, 2, 2)

    assert seen.nothing


def test_recount_mends_what_drifted_and_says_so(holding: Pool) -> None:
    """Four units counted instead of three: index and sums had followed the wrong number."""
    keys, client = holding.keys, holding.client
    client.hset(keys.agent("a1"), mapping={"used": 4, "n": 3})
    client.zadd(keys.free(CLASS), {"a1": 800 * 2**42 + NOW_MS})
    client.zincrby(keys.free_units("dev"), -1, CLASS)
    for counters in (keys.pool, keys.role("dev")):
        client.hincrby(counters, "used", 1)
        client.hincrby(counters, "running", 1)

    with changes(holding) as seen:
        assert recount(holding, "a1") == ("mended", 4, 3, 3, 2)

    assert seen.state == {
        **fields("agent:a1", used="3", n="2"),
        f"free:{CLASS} a1": 600 * 2**42 + NOW_MS,
        f"fc:dev {CLASS}": 2,
        **fields("role:dev", used="3", running="2"),
        **fields("pool", used="3", running="2"),
        "wake": ["1"],
    }
    assert seen.events == [("recounted", "", "a1", "4 3")]
    with changes(holding) as again:
        assert recount(holding, "a1").outcome == "exact"
    assert again.nothing


def test_recount_of_an_unknown_agent_changes_nothing(holding: Pool) -> None:
    with changes(holding) as seen:
        assert recount(holding, "nobody") == ("unknown", 0, 0, 0, 0)

    assert seen.nothing


def test_recount_on_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    assert_guarded(virtual_pool, recounts.SCRIPT, ["a1"])


def test_recount_on_a_real_pool_with_a_time_of_the_callers_writes_nothing(pool: Pool) -> None:
    populate(pool)
    assert_guarded(pool, recounts.SCRIPT, ["a1"])
