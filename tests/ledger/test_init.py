"""The script `init`, and opening a pool."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from balancer.core.errors import BadArgument, PoolMissing, SafeStop, SchemaMismatch
from balancer.core.settings import PoolSettings, RoleSettings
from balancer.ledger import Pool
from balancer.ledger.pool import INIT
from balancer.ledger.script import SCHEMA
from tests.support.factories import Clock, dump, nonce, submit


def test_create_writes_identity_settings_and_streams(redis_client: redis.Redis) -> None:
    settings = PoolSettings(
        strategy="best_match",
        max_cost=20,
        max_pending=90,
        roles={"dev": RoleSettings(max_cost=7, max_pending=8)},
    )

    pool = Pool.create(redis_client, "p", settings)

    assert dump(redis_client) == {
        "wb:{p}:meta": {
            "schema": "3", "min_reader": "3", "genesis": pool.genesis, "epoch": "1", "clock": "real",
            "clock_us": "0", "hb_mark_ms": "0", "last_tick_ms": "0", "grace_until_ms": "0", "order": "load",
            "settings_ver": "1",
        },
        "wb:{p}:settings": {
            "json": settings.model_dump_json(),
            "order_by": "head_start|0|3600000000|600000000|60000000|0", "max_cost": "20", "max_cost:dev": "7",
            "max_pending": "90", "max_pending:dev": "8", "min_success": "2000", "min_health": "5000",
            "timeout_permille": "0", "min_timeout_s": "60",
        },
        "wb:{p}:heartbeats": {"groups": {"balancer": 0}},
        "wb:{p}:completions": {"groups": {"balancer": 0}},
    }  # fmt: skip


def test_create_again_keeps_pool_and_its_settings(redis_client: redis.Redis) -> None:
    first = Pool.create(redis_client, "p", PoolSettings(max_cost=20))
    before = dump(redis_client)

    second = Pool.create(redis_client, "p", PoolSettings(max_cost=30))

    assert dump(redis_client) == before
    assert second.genesis == first.genesis
    assert second.settings == first.settings
    reply = redis_client.evalsha(INIT.sha, 1, first.keys.meta, nonce("x"), SCHEMA, "real", "{}")
    assert reply[0] == "exists"


def test_create_by_many_at_once_makes_one_pool(redis_client: redis.Redis) -> None:
    with ThreadPoolExecutor(8) as threads:
        pools = list(threads.map(lambda _: Pool.create(redis_client, "p"), range(32)))

    assert len({pool.genesis for pool in pools}) == 1


def test_create_leaves_other_pools_alone(redis_client: redis.Redis) -> None:
    one = Pool.create(redis_client, "one")
    submit(one, "t1")
    before = dump(redis_client)

    other = Pool.create(redis_client, "two")

    after = dump(redis_client)
    assert {key: after[key] for key in before} == before
    assert other.genesis != one.genesis


@pytest.mark.parametrize("left", ["settings", "roles"])
def test_create_over_remains_of_a_pool_is_refused(pool: Pool, left: str) -> None:
    submit(pool, "t1")
    pool.client.delete(pool.keys.meta)
    if left == "roles":
        pool.client.delete(pool.keys.settings)
    before = dump(pool.client)

    with pytest.raises(SafeStop):
        Pool.create(pool.client, "p")

    assert dump(pool.client) == before


@pytest.mark.parametrize(
    ("field", "version", "says"),
    [
        ("min_reader", 4, "pool 'p' was written by a newer release (data version 4, this one"),
        ("schema", 1, "pool 'p' was written by an older release (data version 1, this one"),
    ],
)
def test_pool_of_another_version_is_refused_by_name(
    pool: Pool, field: str, version: int, says: str
) -> None:
    known = pool.client.hget(pool.keys.meta, field)
    pool.client.hset(pool.keys.meta, field, version)
    before = dump(pool.client)

    for door in (Pool.create, Pool.open):
        with pytest.raises(SchemaMismatch, match=re.escape(says)):
            door(pool.client, "p")
    with pytest.raises(SchemaMismatch):
        submit(pool, "t1")

    assert dump(pool.client) == before
    pool.client.hset(pool.keys.meta, field, known or "")


def test_create_with_the_other_kind_of_clock_is_refused(pool: Pool) -> None:
    with pytest.raises(BadArgument):
        Pool.create(pool.client, "p", clock=Clock())


def test_open_reads_what_create_stored(redis_client: redis.Redis) -> None:
    made = Pool.create(redis_client, "p", PoolSettings(max_losses=9))

    opened = Pool.open(redis_client, "p")

    assert (opened.genesis, opened.settings) == (made.genesis, made.settings)
    assert submit(opened, "t1") == ["accepted"]


def test_open_where_there_is_no_pool_is_refused(redis_client: redis.Redis) -> None:
    with pytest.raises(PoolMissing):
        Pool.open(redis_client, "p")

    assert dump(redis_client) == {}
