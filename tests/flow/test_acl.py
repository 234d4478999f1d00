"""The users that docs/operations.md lists: each can do its work and nothing else, and what is said to others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from balancer import Balancer, Denied
from balancer.cli import run
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.ledger.audit import audit
from balancer.protocol import Keys, causes, connect
from balancer.service import Service
from tests.support.wait import wait_until
from worker import Agent

PAGE = Path(__file__).parents[2] / "docs/operations.md"
POOL, AGENT = "builds", "a1"
KEYS = Keys(POOL)
SECRETS = {"balancer": "SECRET-1", "producer": "SECRET-2", "agent-a1": "SECRET-3"}


def users(info: str) -> dict[str, list[str]]:
    """Rules by user, as the page has them."""
    block = re.search(rf"^```{info}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert block
    lines = [line.split() for line in block[1].splitlines()]
    assert {word for word, *_ in lines} == {"user"}
    return {name: rules for _, name, *rules in lines}


class Place:
    """A server with these users."""

    def __init__(self, server: EmbeddedRedis, admin: Any) -> None:
        self.server, self.admin = server, admin

    def url(self, user: str, password: str = "") -> str:
        return self.server.url.replace("//", f"//{user}:{password or SECRETS[user]}@")

    def set(self, user: str, rules: list[str]) -> None:
        # A selector is one argument, however many words it has.
        parts = re.findall(r"\([^)]*\)|\S+", " ".join(rules))
        self.admin.execute_command("ACL SETUSER", user, "reset", *parts)

    def denials(self) -> list[Any]:
        """What Redis has refused."""
        found: list[Any] = self.admin.execute_command("ACL LOG")
        return found


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as running:
        yield running


@pytest.fixture
def place(server: EmbeddedRedis) -> Iterator[Place]:
    """The users of the first list; the fixture's own client came before them."""
    with redis.Redis.from_url(server.url, decode_responses=True) as admin:
        admin.flushall()
        admin.execute_command("ACL SETUSER", "root", "on", ">root", "~*", "+@all")
        admin.execute_command("AUTH", "root", "root")
        found = Place(server, admin)
        for user, rules in users("acl").items():
            if user != "default":
                found.set(user, rules)
        admin.execute_command("ACL LOG", "RESET")
        admin.execute_command("ACL SETUSER", "default", *users("acl")["default"])
        yield found
        admin.execute_command("ACL SETUSER", "default", "on")


def live(place: Place) -> None:
    """A pool's life with these users."""
    service = Service(place.url("balancer"), POOL, sweep_s=0.05).start()
    try:
        agent = Agent(
            AGENT, role="dev", redis_url=place.url("agent-a1"), pool=POOL, interval_s=0.1, ttl_s=60
        )
        agent.task()(lambda task: task.id)
        with Balancer(place.url("producer"), POOL) as producer, agent:
            producer.submit(id="t1", role="dev", payload={"a": 1})
            producer.submit(id="t2", role="dev", depends_on=["t1"])
            assert producer.wait("t2", 20).state == "completed"
            assert producer.result("t1") == "t1"
            producer.submit(id="t3", role="nobody")
            assert [producer.why(id).code for id in ("t2", "t3")] == ["completed", "no_agents"]
            producer.cancel("t3")
            producer.load_metrics()
            assert [row.id for row in producer.agents()] == [AGENT]
            assert producer.queues()
            assert audit(producer.pool).violations == []
            wait_until(lambda: service.silent_s < 1, "all loops succeed")
    finally:
        service.stop()
    assert place.denials() == []


def test_each_user_can_do_its_work(place: Place) -> None:
    live(place)


def test_an_agent_of_redis_7_is_held_to_its_own(place: Place) -> None:
    (rules,) = users("acl7").values()
    if int(place.server.version.split(".")[0]) < 7:
        with pytest.raises(redis.ResponseError):  # the page says so
            place.set("agent-a1", rules)
        return
    place.set("agent-a1", rules)
    live(place)
    with connect(place.url("agent-a1")) as client:
        for refused in (
            ("XREAD", "STREAMS", KEYS.completions, "0"),
            ("XADD", KEYS.inbox(AGENT), "*", "a", "b"),
        ):
            with pytest.raises(redis.ResponseError, match=r"permission|NOPERM"):
                client.execute_command(*refused)


AGENTS_MAY_NOT = [
    ("XADD", KEYS.inbox("a2"), "*", "a", "b"),
    ("XREAD", "STREAMS", KEYS.inbox("a2"), "0"),
    ("XADD", KEYS.events, "*", "a", "b"),
    ("EVAL", "return 1", "0"),
    ("EVALSHA", "0" * 40, "1", KEYS.meta),
    ("SCRIPT", "LOAD", "return 1"),
    ("HSET", KEYS.meta, "genesis", "x"),
    ("GET", KEYS.task("t1")),
    ("XGROUP", "DESTROY", KEYS.completions, "balancer"),
    ("XTRIM", KEYS.completions, "MAXLEN", "0"),
    ("DEL", KEYS.completions),
    ("KEYS", "*"),
    ("PUBLISH", "a", "b"),
    ("INFO",),
]
NOBODY_MAY = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("SCRIPT", "FLUSH"),
    ("EVAL", "return 1", "0"),
    ("SWAPDB", "0", "1"),
    ("SHUTDOWN",),
    ("ACL", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("REPLICAOF", "NO", "ONE"),
    ("GET", "wb:{other}:meta"),
    ("SET", "elsewhere", "1"),
]


@pytest.mark.parametrize("command", [*AGENTS_MAY_NOT, *NOBODY_MAY], ids=" ".join)
def test_an_agent_may_not(place: Place, command: tuple[str, ...]) -> None:
    refused(place, "agent-a1", command)


@pytest.mark.parametrize("user", ["producer", "balancer"])
@pytest.mark.parametrize("command", NOBODY_MAY, ids=" ".join)
def test_nobody_may(place: Place, user: str, command: tuple[str, ...]) -> None:
    refused(place, user, command)


@pytest.mark.parametrize(
    "command", [("XACK", KEYS.completions, "g", "0-1"), ("INFO",)], ids=" ".join
)
def test_a_producer_may_not(place: Place, command: tuple[str, ...]) -> None:
    refused(place, "producer", command)


def refused(place: Place, user: str, command: tuple[str, ...]) -> None:
    """The user lacks the right, and nothing changes."""
    with connect(place.url("balancer")) as client:
        Pool.create(client, POOL)
    before = place.admin.dbsize()
    with connect(place.url(user)) as client, pytest.raises(redis.RedisError) as raised:
        client.execute_command(*command)
    assert causes.cause(raised.value).code == "NOPERM"
    assert place.admin.dbsize() == before


@pytest.mark.parametrize(
    ("user", "password", "said"),
    [
        ("producer", "wrong-secret", "invalid username-password pair"),
        ("stranger", "wrong-secret", "invalid username-password pair"),
        ("agent-a1", "SECRET-3", "no permissions"),
    ],
)
def test_who_is_refused_is_told_at_once(
    place: Place, capsys: pytest.CaptureFixture[str], user: str, password: str, said: str
) -> None:
    with connect(place.url("balancer")) as client:
        Pool.create(client, POOL)
    url = place.url(user, password)
    with pytest.raises(Denied, match=said) as raised:
        Balancer(url, POOL, deadline_s=60)
    assert password not in str(raised.value)
    for command in ("status", "serve"):
        assert run([command, "--redis-url", url, "--pool", POOL, "--json"]) == 77
        told = capsys.readouterr()
        assert told.out == ""
        assert '"code": "denied"' in told.err
        assert "Traceback" not in told.err
        assert password not in told.err


def test_an_agent_comes_back_when_its_password_is_right_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causes, "LAST_DENIED_BACKOFF_S", 0.2)
    place.admin.execute_command("ACL SETUSER", "agent-a1", "resetpass", ">another")
    agent = Agent(AGENT, role="dev", redis_url=place.url("agent-a1"), pool=POOL, interval_s=0.1)
    agent.task()(lambda task: task.id)
    with capture_logs() as logs, agent:
        wait_until(lambda: logs, "it said that it is refused")
        place.admin.execute_command("ACL SETUSER", "agent-a1", ">SECRET-3")
        wait_until(lambda: place.admin.xlen(KEYS.heartbeats), "it beats")
    assert (logs[0]["log_level"], logs[0]["event"], logs[0]["code"]) == (
        "critical",
        "heartbeat_failed",
        "WRONGPASS",
    )
    assert "SECRET-3" not in str(logs)
