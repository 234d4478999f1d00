"""What the doctor says of a server: version, role, Cluster, persistence, memory, clock, scripts, rights."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balancer.doctor import Level
from balancer.doctor.persistence import DURABILITY, last_saves
from balancer.doctor.server import role, version
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.ledger.script import every_script
from balancer.protocol import TextRedis, connect
from tests.doctor.conftest import Look, by_check, visit
from tests.support.proxy import Proxy
from tests.support.wait import wait_until

Configured = Callable[..., None]
OK, WARN, FAIL = Level.OK, Level.WARN, Level.FAIL


def told(info: dict[str, Any], settings: dict[str, str] | None = None) -> Any:
    """A visit to a server that says this of itself."""
    made = visit(None)
    made.__dict__ |= {"info": info, "settings": settings or {}}
    return made


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"redis_version": "5.0.14"}, FAIL),
        ({"redis_version": "6.0.16"}, FAIL),
        ({"redis_version": "6.2.14"}, WARN),
        ({"redis_version": "6.2.20"}, OK),
        ({"redis_version": "7.0.15"}, WARN),
        ({"redis_version": "7.2.10"}, WARN),
        ({"redis_version": "7.2.11"}, OK),
        ({"redis_version": "8.2.1"}, WARN),
        ({"redis_version": "8.10.0"}, OK),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.3"}, WARN),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.4"}, OK),
        ({"redis_version": "255.255.255"}, OK),
        ({"redis_version": "7.4.0-v1"}, WARN),
        ({"redis_version": "managed"}, WARN),
        ({}, WARN),
    ],
)
def test_versions(info: dict[str, Any], level: Level) -> None:
    (row,) = version(told(info))
    assert row.level is level
    assert bool(row.advice) is (level is not OK)


def test_a_redis_that_is_too_old(look: Look, redis_server: EmbeddedRedis) -> None:
    own = redis_server.version.encode()
    with Proxy(
        redis_server.url,
        lambda data: data.replace(b"redis_version:" + own, b"redis_version:5" + own[1:]),
    ) as old:
        row = look(old.url)["version"]
    assert (row.level, row.found) == (FAIL, f"Redis 5{redis_server.version[1:]}")
    assert "6.2" in row.advice


def test_a_master_alone_and_the_address_of_a_sentinel(look: Look) -> None:
    assert look()["role"].found == "master without replicas"
    (row,) = role(told({"redis_mode": "sentinel"}))
    assert (row.level, "redis+sentinel://" in row.advice) == (FAIL, True)


def test_replicas() -> None:
    with EmbeddedRedis(tcp=True) as server:
        port = server.url.rpartition(":")[2].partition("/")[0]
        with (
            EmbeddedRedis(tcp=True, config={"replicaof": f"127.0.0.1 {port}"}) as second,
            connect(server.url) as client,
            connect(second.url) as copy,
        ):
            wait_until(lambda: client.info()["connected_slaves"] == 1, "the replica is there")
            (row,) = role(visit(copy))
            assert (row.level, row.found) == (FAIL, f"a replica of 127.0.0.1:{port}")
            (row,) = role(visit(client))
            assert (row.level, "min-replicas-to-write 0" in row.found) == (WARN, True)
            client.config_set("min-replicas-to-write", 1)
            (row,) = role(visit(client))
            assert row.level is OK


def test_a_cluster_is_whole_or_not(look: Look) -> None:
    with (
        EmbeddedRedis(
            tcp=True, config={"cluster-enabled": "yes", "cluster-node-timeout": "200"}
        ) as server,
        connect(server.url) as admin,
    ):
        url = server.url.replace("redis://", "redis+cluster://").removesuffix("/0")
        for start in range(0, 16_384, 1_024):
            admin.execute_command("CLUSTER ADDSLOTS", *range(start, start + 1_024))
        wait_until(
            lambda: admin.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "it is whole"
        )
        row = look(url)["cluster"]
        assert (row.level, "slot" in row.found) == (OK, True)
        admin.execute_command("CLUSTER DELSLOTS", 0)
        wait_until(
            lambda: admin.execute_command("CLUSTER INFO")["cluster_state"] != "ok", "a slot is gone"
        )
        assert look(url)["cluster"].level is FAIL


def test_the_row_of_the_durability_table_that_holds(look: Look, configured: Configured) -> None:
    configured(appendonly="no", save="")
    row = look()["persistence"]
    assert (row.level, DURABILITY["nothing"].kept in row.found) == (FAIL, True)
    configured(save="3600 1")
    row = look()["persistence"]
    assert (row.level, DURABILITY["snapshots"].kept in row.found) == (WARN, True)
    configured(appendonly="yes")
    for kind, level in (("no", WARN), ("everysec", OK), ("always", OK)):
        configured(appendfsync=kind)
        row = look()["persistence"]
        assert row.level is level
        assert row.found == (
            f"{DURABILITY[kind].kept}. Lost when Redis is killed: {DURABILITY[kind].killed}; "
            f"when the machine loses power: {DURABILITY[kind].power}"
        )


def test_the_durability_table_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    for row in DURABILITY.values():
        assert f"| {row.kept} | {row.killed} | {row.power} |" in text


def test_a_managed_redis_that_answers_less_is_unknown(
    look: Look, user: Callable[[str], str], configured: Configured
) -> None:
    configured(appendonly="yes")
    rows = look(user("~* +@all -config"))
    assert (rows["persistence"].level, "appendfsync is unknown" in rows["persistence"].found) == (
        WARN,
        True,
    )
    assert rows["eviction"].level is OK, "INFO says it, too"
    rows = look(user("~* +@all -config -info"))
    unknown = ("version", "role", "persistence", "eviction", "memory")
    assert {rows[name].level for name in unknown} == {WARN}
    assert all(rows[name].found.startswith("unknown") for name in unknown)


@pytest.mark.parametrize(
    "status", ["aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"]
)
def test_what_did_not_come_to_the_disk(look: Look, status: str) -> None:
    assert look()["disk"].level is OK
    rows = by_check(list(last_saves(told({"rdb_last_bgsave_status": "ok", status: "err"}))))
    assert (rows["disk"].level, "MISCONF" in rows["disk"].advice) == (FAIL, True)


def test_a_redis_that_may_throw_tasks_away(look: Look, configured: Configured) -> None:
    assert look()["eviction"].level is OK
    configured(maxmemory_policy="allkeys-lru")
    row = look()["eviction"]
    assert (row.level, "allkeys-lru" in row.found, "noeviction" in row.advice) == (FAIL, True, True)


@pytest.mark.parametrize(("share", "level"), [(0.3, OK), (0.78, WARN), (0.9, FAIL)])
def test_how_full_it_is(
    look: Look, configured: Configured, redis_client: TextRedis, share: float, level: Level
) -> None:
    assert look()["memory"].level is WARN, "no bound"
    configured(maxmemory=str(int(redis_client.info("memory")["used_memory"] / share)))
    assert look()["memory"].level is level


def test_clocks(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look()["clock"].level is OK
    true_time = time.time
    monkeypatch.setattr("balancer.doctor.clock.time.time", lambda: true_time() + 10)
    row = look()["clock"]
    assert row.level is WARN
    assert re.fullmatch(r"Redis' clock is (9\.9|10\.0)\d\d s behind this machine's", row.found)
    calls = iter(range(10_000))
    monkeypatch.setattr(
        "balancer.doctor.clock.time.time", lambda: true_time() + (9 if next(calls) > 9 else 0)
    )
    assert re.match(r"it jumped by -(8\.9|9\.0)\d\d s", look()["clock"].found)


def test_a_redis_that_is_far_away(look: Look, redis_server: EmbeddedRedis) -> None:
    assert look()["latency"].level is OK

    def slow(data: bytes) -> bytes:
        time.sleep(0.006)
        return data

    with Proxy(redis_server.url, slow) as far:
        assert look(far.url)["latency"].level is WARN


def test_every_script_is_compiled(look: Look, redis_client: TextRedis, pool: Pool) -> None:
    redis_client.script_flush()
    row = look()["scripts"]
    every = every_script()
    assert (row.level, row.found) == (
        OK,
        f"{len(every)} scripts compile, and one that reads has run",
    )
    assert redis_client.script_exists(*(script.sha for script in every)) == [True] * len(every)
    named = {
        name
        for path in (Path(__file__).parents[2] / "balancer/ledger").glob("*.py")
        for name in re.findall(r'Script\("(\w+)"', path.read_text())
    }
    assert {script.name for script in every} == named


def test_a_user_without_rights(
    look: Look, user: Callable[[str], str], pool: Pool, redis_server: EmbeddedRedis
) -> None:
    assert look(user("~* +@all"))["scripts"].level is OK
    rows = look(user("~* +@all -@scripting"))
    assert (rows["scripts"].level, "EVALSHA" in rows["scripts"].advice) == (FAIL, True)
    has_dry_run = int(redis_server.version.partition(".")[0]) >= 7
    rows = look(user("~* +@all -zadd -xgroup"))
    assert (rows.get("rights") is not None) is has_dry_run
    if has_dry_run:
        assert rows["rights"].level is FAIL
        assert rows["rights"].found == "user app lacks: XGROUP, ZADD"
        assert look(user("~* +@all"))["rights"].level is OK
        denied = look(user("~other:* +@all"))["rights"]
        assert (denied.level, "HSET" in denied.found) == (FAIL, True)
        assert look(user("~* +@all -acl"))["rights"].found.startswith("unknown")


@pytest.mark.parametrize(("word", "check"), [(b"CONFIG", "persistence"), (b"\nINFO\r", "version")])
def test_a_server_that_hangs_up_on_a_command(
    look: Look, redis_server: EmbeddedRedis, configured: Configured, word: bytes, check: str
) -> None:
    configured(appendonly="yes")
    with Proxy(redis_server.url) as proxy:
        proxy.cut_replies(100, word)
        rows = look(proxy.url)
    assert "unknown" in rows[check].found
    assert not [row for row in rows.values() if row.level is FAIL]
