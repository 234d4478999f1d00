"""The script `unlock`: the advisory drain lock is given back."""

from __future__ import annotations

from balancer.ledger import Pool
from balancer.ledger.pool import UNLOCK
from tests.support.factories import GONE, assert_guarded, changes


def test_unlock_by_its_holder_releases_the_lock(virtual_pool: Pool) -> None:
    virtual_pool.client.set(virtual_pool.keys.drain_lock, "mine")

    with changes(virtual_pool) as seen:
        assert virtual_pool.run(UNLOCK, ["mine"]) == "released"

    assert seen.state == {"drain_lock": GONE}


def test_unlock_again_or_by_another_changes_nothing(virtual_pool: Pool) -> None:
    assert virtual_pool.run(UNLOCK, ["mine"]) == "not_ours"
    virtual_pool.client.set(virtual_pool.keys.drain_lock, "another's")

    with changes(virtual_pool) as seen:
        assert virtual_pool.run(UNLOCK, ["mine"]) == "not_ours"

    assert seen.nothing


def test_unlock_without_a_token_releases_nobodys_lock(virtual_pool: Pool) -> None:
    with changes(virtual_pool) as seen:
        assert virtual_pool.run(UNLOCK, []) == "not_ours"

    assert seen.nothing


def test_unlock_on_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool) -> None:
    virtual_pool.client.set(virtual_pool.keys.drain_lock, "mine")
    assert_guarded(virtual_pool, UNLOCK, ["mine"])
