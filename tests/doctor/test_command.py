"""`balancer doctor` as it is typed, and what `balancer serve` refuses to serve."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from balancer.cli import run
from balancer.doctor import Level, examine, refusals
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.protocol import TextRedis, connect
from tests.doctor.conftest import by_check, visit
from tests.support.factories import dump
from tests.support.proxy import Proxy


class Answer(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def balancer(
    redis_server: EmbeddedRedis,
    redis_client: TextRedis,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Command]:
    monkeypatch.setenv("BALANCER_REDIS_URL", redis_server.url)
    monkeypatch.setenv("BALANCER_POOL", "p")
    # Snapshots, so that persistence is no failure here.
    before = redis_client.config_get("save")["save"]
    redis_client.config_set("save", "3600 1")

    def run_it(*arguments: str) -> Answer:
        answer = Answer(run(arguments), *capsys.readouterr())
        assert "Traceback" not in answer.err + answer.out
        return answer

    yield run_it
    redis_client.config_set("save", before)


def test_warnings_are_no_failure(balancer: Command, pool: Pool) -> None:
    answer = balancer("doctor", "--genesis", pool.genesis)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0].startswith("ok    connection   unix://")
    assert "warn  balancers    none runs: nothing is assigned" in lines
    assert "                   -> start `balancer serve`" in lines
    shown = json.loads(balancer("doctor", "--json").out)
    assert (shown["level"], shown["pool"]) == ("warn", "p")
    row = next(row for row in shown["checks"] if row["check"] == "balancers")
    assert row == {
        "check": "balancers",
        "level": "warn",
        "found": "none runs: nothing is assigned",
        "advice": "start `balancer serve`",
    }


def test_what_fails_has_an_exit_code(
    balancer: Command, pool: Pool, redis_client: TextRedis, redis_server: EmbeddedRedis
) -> None:
    assert balancer("doctor", "--genesis", "a" * 32).code == 4
    assert balancer("doctor", "--genesis", "x").code == 2
    redis_client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert balancer("doctor").code == 78
    finally:
        redis_client.config_set("maxmemory-policy", "noeviction")
    away = balancer("doctor", "--redis-url", "redis://u:secret@127.0.0.1:9/0", "--json")
    assert away.code == 4
    (row,) = json.loads(away.out)["checks"]
    assert (row["check"], row["level"]) == ("connection", "fail")
    assert "secret" not in away.out
    url = redis_server.url.replace("unix://", "unix://nobody:wrong@")
    denied = balancer("doctor", "--redis-url", url)
    assert denied.code == 77
    assert "WRONGPASS" in denied.out
    assert "wrong@" not in denied.out


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """The address of something that is no Redis."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(1_000)
                    client.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\x00\xff\r\n"])
def test_what_is_no_redis_at_all(balancer: Command, reply: bytes) -> None:
    with answering(reply) as url:
        answer = balancer("doctor", "--redis-url", url)
    assert answer.code in (4, 78)
    assert answer.out.startswith("fail  connection   redis://127.0.0.1:")
    assert answer.out.count("\n") == 2


def refused(
    balancer: Command, client: TextRedis, said: str, *arguments: str, code: int = 78
) -> None:
    """Serve ends with this, and has written nothing."""
    before = dump(client)
    answer = balancer("serve", *arguments, "--json")
    error = json.loads(answer.err.splitlines()[-1])["error"]
    assert answer.code == code
    assert said in error["message"]
    assert "balancer doctor" in error["hint"]
    assert dump(client) == before


def test_serve_refuses_a_redis_that_throws_tasks_away(
    balancer: Command, redis_client: TextRedis
) -> None:
    redis_client.config_set("maxmemory-policy", "volatile-ttl")
    try:
        refused(balancer, redis_client, "eviction: maxmemory-policy volatile-ttl")
    finally:
        redis_client.config_set("maxmemory-policy", "noeviction")


def test_serve_refuses_a_redis_that_is_too_old(
    balancer: Command, redis_client: TextRedis, redis_server: EmbeddedRedis
) -> None:
    own = redis_server.version.encode()
    with Proxy(redis_server.url, lambda d: d.replace(own, b"5" + own[1:])) as old:
        refused(balancer, redis_client, "version: Redis 5", "--redis-url", old.url)


@pytest.mark.damaged
def test_serve_refuses_keys_of_another_type(balancer: Command, redis_client: TextRedis) -> None:
    redis_client.set("wb:{p}:roles", "x")
    refused(balancer, redis_client, "keys: 1 of another type: wb:{p}:roles is a string, not a set")
    redis_client.flushall()


def test_serve_refuses_another_pool_than_was_meant(
    balancer: Command, redis_client: TextRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALANCER_POOL_GENESIS", "a" * 32)
    refused(balancer, redis_client, "there is no pool 'p' here", code=4)
    Pool.create(redis_client, "p")
    refused(balancer, redis_client, "this is another one", code=4)


def test_serve_refuses_a_replica(balancer: Command) -> None:
    with EmbeddedRedis(tcp=True) as master:
        port = master.url.rpartition(":")[2].partition("/")[0]
        with EmbeddedRedis(tcp=True, config={"replicaof": f"127.0.0.1 {port}"}) as copy:
            answer = balancer("serve", "--redis-url", copy.url)
    assert answer.code == 78
    assert f"role: a replica of 127.0.0.1:{port}" in answer.err


def documented(user: str) -> list[str]:
    """The rights of a user, as docs/operations.md has them for the pool `builds`."""
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    (line,) = re.findall(rf"^user {user} on >SECRET-1 (.+)$", page, re.M)
    return str(line).split()


def test_the_user_of_a_balancer_may_ask_enough(
    balancer: Command, redis_client: TextRedis, redis_server: EmbeddedRedis
) -> None:
    """Neither doctor nor the look before serving needs more rights than the balancer itself."""
    rights = documented("balancer")
    redis_client.execute_command("ACL SETUSER", "app", "on", ">pw", *rights)
    url = redis_server.url.replace("unix://", "unix://app:pw@")
    try:
        with connect(url) as client:
            look = visit(client, url, "builds")
            assert refusals(look) == []
            assert by_check(examine(look))["pool"].level is Level.WARN
            Pool.create(client, "builds")
            rows = by_check(examine(visit(client, url, "builds")))
            assert not [row for row in rows.values() if row.level is Level.FAIL]
            asked = rows.get("rights")  # from Redis 7 on
            assert asked is None or asked.found.startswith("unknown")
            others = by_check(examine(visit(client, url, "other")))
            for check in ("pool", "keys"):
                assert "NOPERM" in others[check].found, check
        redis_client.execute_command("ACL SETUSER", "app", "-dbsize", "-scan")
        with connect(url) as client:
            redis_client.flushall()
            assert refusals(visit(client, url, "builds")) == []
    finally:
        redis_client.execute_command("ACL DELUSER", "app")
