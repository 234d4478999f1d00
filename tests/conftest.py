"""One real redis-server a test process, an empty one for each test, and what must hold when a test ends."""

from __future__ import annotations

import inspect
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import pytest
import redis
import structlog

from balancer.core.settings import PoolSettings
from balancer.embedded import EmbeddedRedis, ServerMissing
from balancer.ledger import Pool
from balancer.ledger.audit import audit
from balancer.protocol import Keys, connect
from tests.support.factories import Clock, structure_violations, typed_dump


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what it runs in the background with SIGINT ignored, and processes that tests start inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "damaged: leaves a pool behind that is not sound, on purpose"
    )


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """A real server: what these tests are about is what Redis does. There is no test without one."""
    try:
        server = EmbeddedRedis()
    except ServerMissing as error:
        pytest.fail(f"{error}: {error.hint}", pytrace=False)
    with server:
        yield server


@pytest.fixture(scope="session")
def _client(redis_server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with connect(redis_server.url) as client:
        yield client


@pytest.fixture
def redis_client(_client: redis.Redis) -> redis.Redis:
    """A client of an empty Redis."""
    _client.flushall()
    return _client


@pytest.fixture
def pool(redis_client: redis.Redis) -> Pool:
    """A pool that takes its time from Redis."""
    return Pool.create(redis_client, "p", PoolSettings(strategy="best_match"))


@pytest.fixture
def clock() -> Clock:
    """The clock of `virtual_pool`: stands still unless a test moves it."""
    return Clock()


@pytest.fixture
def virtual_pool(redis_client: redis.Redis, clock: Clock) -> Pool:
    """A pool whose time is the fixture `clock`. Head starts make places that are easy to foretell."""
    return Pool.create(redis_client, "p", PoolSettings(strategy="best_match"), clock)


@pytest.fixture
def out_of_memory(redis_client: redis.Redis) -> Callable[[], AbstractContextManager[None]]:
    """A block in which Redis is over its memory limit and evicts nothing."""

    @contextmanager
    def block() -> Iterator[None]:
        redis_client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            redis_client.config_set("maxmemory", 0)

    return block


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """A command that a test runs in this process sends the log to a stream that ends with the test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _sound(request: pytest.FixtureRequest) -> Iterator[None]:
    """When a test ends, every key is in the key table, and every pool passes its audit and adds up."""
    if "redis_client" not in request.fixturenames:
        yield
        return
    client = request.getfixturevalue("redis_client")
    yield
    state, kinds = typed_dump(client)
    wrong = [
        f"{key} ({kind}) is not in the key table"
        for key, kind in kinds.items()
        if not _is_known(key, kind)
    ]
    if request.node.get_closest_marker("damaged") is None:
        for key in kinds:
            if key.startswith("wb:{") and key.endswith("}:meta"):
                wrong += _violations(client, key[4:-6], state)
    assert not wrong, "\n".join(wrong)


def _violations(client: redis.Redis, name: str, state: dict[str, Any]) -> list[str]:
    virtual = state[Keys(name).meta].get("clock") == "virtual"
    pool = Pool.open(client, name, Clock() if virtual else None)
    return audit(pool).violations + structure_violations(state, pool.keys.prefix)


@cache
def _key_table() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Name and type of every key, as `balancer.protocol.keys` states them."""
    keys, source = Keys("POOL"), inspect.getsource(Keys)
    table = [
        (re.escape(getattr(keys, name)), kind)
        for name, kind in re.findall(r"self\.(\w+) = .*# ([A-Z]+)", source)
    ]
    for name, method in inspect.getmembers(Keys, inspect.isfunction):
        if not name.startswith("_"):
            kind = (method.__doc__ or "").split(":")[0].split(" ")[0]
            table.append(
                (
                    re.escape(method(keys, "MEMBER")).replace(
                        "MEMBER", r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"
                    ),
                    kind,
                )
            )
    return tuple(
        (re.compile(name.replace("POOL", "[A-Za-z0-9._-]+")), kind) for name, kind in table
    )


def _is_known(key: str, kind: str) -> bool:
    return any(name.fullmatch(key) and kind.upper() == of for name, of in _key_table())
