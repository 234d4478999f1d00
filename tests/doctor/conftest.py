"""A doctor that looks at a Redis and answers by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from balancer.config import Flag, load
from balancer.doctor import Examination, Finding, examine
from balancer.doctor.visit import Visit
from balancer.embedded import EmbeddedRedis
from balancer.protocol import TextRedis, connect

Look = Callable[..., dict[str, Finding]]


def visit(client: TextRedis, url: str = "redis://h", pool: str = "p", **given: Any) -> Visit:
    """A look at a server, with what is said on the command line."""
    flags = [Flag(("redis", "url"), "--redis-url", url), Flag(("pool", "name"), "--pool", pool)]
    return Visit(client, load(None, flags, {}), **given)


def by_check(found: Examination | list[Finding]) -> dict[str, Finding]:
    """The worst row of each check."""
    order = ("ok", "warn", "fail")
    rows: dict[str, Finding] = {}
    for row in found.findings if isinstance(found, Examination) else found:
        known = rows.get(row.check)
        if known is None or order.index(row.level.value) > order.index(known.level.value):
            rows[row.check] = row
    return rows


@pytest.fixture
def look(redis_server: EmbeddedRedis, redis_client: TextRedis) -> Look:
    """Everything, on the server of the tests or another one."""

    def look_at(url: str | None = None, pool: str = "p", **given: Any) -> dict[str, Finding]:
        where = url or redis_server.url
        with connect(where, pool=pool) as client:
            return by_check(examine(visit(client, where, pool, **given)))

    return look_at


@pytest.fixture
def configured(redis_client: TextRedis) -> Iterator[Callable[..., None]]:
    """Sets settings of the server, and sets them back."""
    before: dict[str, str] = {}

    def set_them(**settings: str) -> None:
        for name, value in settings.items():
            word = name.replace("_", "-")
            before.setdefault(word, redis_client.config_get(word)[word])
            redis_client.config_set(word, value)

    yield set_them
    for name, value in before.items():
        redis_client.config_set(name, value)


@pytest.fixture
def user(redis_client: TextRedis, redis_server: EmbeddedRedis) -> Iterator[Callable[[str], str]]:
    """Makes a user with these rights; the address that asks as that user."""

    def make(rights: str) -> str:
        redis_client.execute_command("ACL SETUSER", "app", "reset", "on", ">pw", *rights.split())
        return redis_server.url.replace("unix://", "unix://app:pw@")

    yield make
    redis_client.execute_command("ACL DELUSER", "app")
