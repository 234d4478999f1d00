"""What the doctor says of a pool: identity, keys, streams, balancers, books."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from balancer.config import load
from balancer.core.settings import PoolSettings, RoleSettings
from balancer.doctor import Level, examine
from balancer.doctor.keytypes import KINDS
from balancer.doctor.visit import Visit
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.ledger.script import SCHEMA
from balancer.protocol import Keys, TextRedis, connect
from balancer.service import ConsumerName
from tests.doctor.conftest import Look, by_check
from tests.support.factories import assign, beat, dump, make_task, submit

OK, WARN, FAIL = Level.OK, Level.WARN, Level.FAIL


def test_a_pool_that_is_well(look: Look, pool: Pool, redis_client: TextRedis) -> None:
    beat(pool, "a1", max_concurrent=2)
    submit(pool, "t1", "t2", "t3")
    assign(pool, "t1", "a1")
    name = ConsumerName(pool)
    assert name.step()
    before = dump(redis_client)
    rows = look(genesis=pool.genesis)
    assert {row.check for row in rows.values() if row.level is FAIL} <= {"persistence"}
    assert rows["pool"].found == f"pool 'p', genesis id {pool.genesis}"
    for check in ("keys", "streams", "balancers", "counters", "agents"):
        assert rows[check].level is OK, check
    assert dump(redis_client) == before, "it only reads"


def test_no_pool_yet(look: Look, redis_client: TextRedis) -> None:
    row = look()["pool"]
    assert (row.level, "this Redis is empty" in row.found) == (WARN, True)
    assert "balancer serve" in row.advice


def test_another_redis(look: Look, redis_client: TextRedis) -> None:
    """Other pools, or none: told, and a genesis id that was expected makes it a failure."""
    Pool.create(redis_client, "other")
    assert "other pools: other" in look()["pool"].found
    row = look(genesis="a" * 32)["pool"]
    assert (row.level, row.code, "SAFE_STOP" in row.found) == (FAIL, "safe_stop", True)


def test_keys_of_others_are_counted_and_no_pool_is_made_of_them(look: Look) -> None:
    with EmbeddedRedis() as server:
        with connect(server.url) as client:
            client.set("somebody", "else")
        assert "1 keys of others" in look(server.url)["pool"].found


def test_another_genesis_id(look: Look, pool: Pool) -> None:
    assert look(genesis=pool.genesis)["pool"].level is OK
    rows = look(genesis="a" * 32)
    assert (rows["pool"].level, rows["pool"].code) == (FAIL, "safe_stop")
    assert "another one" in rows["pool"].found
    assert "counters" not in rows, "what is not ours is not looked at"


@pytest.mark.damaged
def test_a_pool_without_its_identity(look: Look, pool: Pool, redis_client: TextRedis) -> None:
    redis_client.delete(pool.keys.meta)
    row = look()["pool"]
    assert (row.level, row.code, "SAFE_STOP" in row.found) == (FAIL, "safe_stop", True)
    redis_client.flushall()


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"schema": SCHEMA + 1, "min_reader": SCHEMA + 1}, "newer release"),
        ({"schema": SCHEMA - 1, "min_reader": SCHEMA - 1}, "older release"),
    ],
)
@pytest.mark.damaged
def test_a_pool_of_another_release(
    look: Look, pool: Pool, redis_client: TextRedis, versions: dict[str, int], said: str
) -> None:
    redis_client.hset(pool.keys.meta, mapping=versions)
    row = look()["pool"]
    assert (row.level, said in row.found) == (FAIL, True)
    redis_client.flushall()


def test_the_types_are_those_of_the_key_table() -> None:
    stated = re.findall(r"self\.(\w+) = .*# ([A-Z]+)", inspect.getsource(Keys))
    assert {name: kind.lower() for name, kind in stated} == {
        name: kind for kind, names in KINDS.items() for name in names.split()
    }


@contextmanager
def spoilt(client: TextRedis, key: str) -> Iterator[None]:
    """Something else has written to a key; all is put back as it was."""
    saved = f"{key}.saved"
    is_there = client.exists(key)
    if is_there:
        client.rename(key, saved)
    client.set(key, "x")
    try:
        yield
    finally:
        client.delete(key)
        if is_there:
            client.rename(saved, key)


@pytest.mark.parametrize(
    "key", ["meta", "roles", "leases", "heartbeats", "task:t1", "agent:a1", "inbox:a1", "role:dev"]
)
def test_a_key_of_another_type(look: Look, pool: Pool, redis_client: TextRedis, key: str) -> None:
    beat(pool, "a1")
    submit(pool, "t1")
    assign(pool, "t1", "a1")
    assert look()["keys"].level is OK
    with spoilt(redis_client, full := f"{pool.keys.prefix}{key}"):
        row = look()["keys"]
    assert (row.level, full in row.found) == (FAIL, True)


def test_a_group_that_is_gone(look: Look, pool: Pool, redis_client: TextRedis) -> None:
    redis_client.xgroup_destroy(pool.keys.completions, "balancer")
    row = look()["streams"]
    assert (row.level, "completions is gone" in row.found) == (FAIL, True)
    redis_client.delete(pool.keys.completions)
    assert look()["streams"].level is FAIL
    redis_client.xgroup_create(pool.keys.completions, "balancer", "0", mkstream=True)
    assert look()["streams"].level is OK


@pytest.mark.damaged
def test_a_backlog_and_what_was_set_aside(look: Look, pool: Pool, redis_client: TextRedis) -> None:
    redis_client.xadd(pool.keys.rejected, {"reason": "x"})
    row = look()["streams"]
    assert (row.level, "1 malformed" in row.found, "XREVRANGE" in row.advice) == (WARN, True, True)
    pipe = redis_client.pipeline()
    for _ in range(1_001):
        pipe.xadd(pool.keys.completions, {"v": "1"})
    pipe.execute()
    row = look()["streams"]
    assert (row.level, "1001 completions" in row.found) == (WARN, True)


def test_balancers(look: Look, pool: Pool, redis_client: TextRedis) -> None:
    assert (look()["balancers"].level, look()["balancers"].found[:9]) == (WARN, "none runs")
    ConsumerName(pool).step()
    assert look()["balancers"].level is OK
    redis_client.set(pool.keys.consumer(1), "h 7 n drainer:31000", px=30_000)
    row = look()["balancers"]
    assert (row.level, "1 of 2 stuck: drainer of process 7 on h" in row.found) == (FAIL, True)


def test_balancers_that_cannot_load_the_strategy(
    look: Look, pool: Pool, redis_client: TextRedis
) -> None:
    text = PoolSettings(strategy="nowhere:Nobody").model_dump_json()
    redis_client.hset(pool.keys.settings, "json", text)
    ver = redis_client.hget(pool.keys.meta, "settings_ver")
    redis_client.set(pool.keys.consumer(0), "h 6 n drainer:500", px=30_000)
    redis_client.set(pool.keys.consumer(1), f"h 7 n drainer:99000 unable:{ver}", px=30_000)
    row = look()["balancers"]
    said = "1 of 2 cannot load the strategy 'nowhere:Nobody': process 7 on h"
    assert (row.level, row.found, "configure" in row.advice) == (WARN, said, True)
    redis_client.delete(pool.keys.consumer(0))
    assert look()["balancers"].level is FAIL
    redis_client.set(pool.keys.consumer(1), "h 7 n drainer:500 unable:0", px=30_000)
    assert look()["balancers"].level is OK


def test_a_grace_period(look: Look, pool: Pool, redis_client: TextRedis) -> None:
    assert "grace" not in look()
    now_ms = int(redis_client.time()[0]) * 1000
    redis_client.hset(pool.keys.meta, "grace_until_ms", now_ms + 60_000)
    assert (look()["grace"].level, "nobody is judged lost" in look()["grace"].found) == (WARN, True)


@pytest.mark.damaged
def test_counters_that_do_not_add_up(look: Look, pool: Pool, redis_client: TextRedis) -> None:
    submit(pool, "t1")
    redis_client.hincrby(pool.keys.pool, "completed", 1)
    row = look()["counters"]
    assert (row.level, "balancer audit" in row.advice) == (FAIL, True)


def test_roles_without_the_agents_that_they_should_have(
    look: Look, redis_client: TextRedis
) -> None:
    roles = {"dev": RoleSettings(agents=2), "ops": RoleSettings(agents=1), "x": RoleSettings()}
    pool = Pool.create(redis_client, "p", PoolSettings(roles=roles))
    beat(pool, "a1", role="dev")
    beat(pool, "o1", role="ops")
    row = look()["agents"]
    assert (row.level, row.found) == (WARN, "dev has 1 of 2 agents")
    beat(pool, "a2", role="dev")
    assert look()["agents"].level is OK
    submit(pool, "t1")
    assert look()["agents"].level is OK
    submit(pool, make_task("t2", "nobody"))
    assert look()["agents"].found == "nobody has 1 waiting task and no agent"


def test_settings_that_differ_from_what_is_configured(
    pool: Pool, redis_client: TextRedis, tmp_path: Path
) -> None:
    file = tmp_path / "balancer.toml"

    def row(text: str) -> Any:
        file.write_text(f"[redis]\nurl='redis://h'\n{text}")
        config = load(str(file), (), {"BALANCER_POOL": "p"})
        return by_check(examine(Visit(redis_client, config))).get("settings")

    assert row("") is None, "nobody said anything"
    assert row("[pool]\nmax_losses = 3\n").level is OK
    found = row("[pool]\nmax_losses = 4\n[roles.dev]\nmax_cost = 2\n")
    assert found.level is WARN
    assert "pool.max_losses is 3, not 4" in found.found
    assert "roles.dev.max_cost is unset, not 2" in found.found
    stored = PoolSettings(strategy="least_loaded", roles={"ops": RoleSettings(max_cost=1)})
    redis_client.hset(pool.keys.settings, "json", stored.model_dump_json())
    found = row("[pool]\nmax_losses = 3\n")
    assert found.level is OK, "what nobody said is no difference"
    assert "roles.ops" in row("[roles.dev]\nmax_cost = 2\n").found
