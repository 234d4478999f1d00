"""What people may hand to the calls of a client and of an agent that is no id, no number, no list."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from balancer import AsyncBalancer, Balancer, InvalidInput, Misconfigured
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from tests.bad_input.conftest import SECRET, Unchanged
from tests.support.factories import beat, submit
from worker import Agent

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def producer(redis_server: EmbeddedRedis, pool: Pool) -> Iterator[Balancer]:
    submit(pool, "t1")
    beat(pool, "a1")
    with Balancer(redis_server.url, "p") as balancer:
        yield balancer


NAMED = {
    "status": "task id", "result": "task id", "cancel": "task id", "history": "task id", "pause_queue": "role",
    "resume_queue": "role", "purge_queue": "role", "pause_agent": "agent id", "resume_agent": "agent id",
}  # fmt: skip
NO_NAMES = ["", "a:b", "{x}y", "job\n", "a\x00", "\u0430gent",
    "../../etc", "*", "x" * 65, 7, None, b"t1", ["t1"]]  # fmt: skip


@pytest.mark.parametrize("value", NO_NAMES, ids=repr)
def test_a_name_is_one(producer: Balancer, unchanged: Unchanged, value: Any) -> None:
    with unchanged():
        for call, what in NAMED.items():
            with pytest.raises(InvalidInput, match=rf"^{what}: .* is not a name") as error:
                getattr(producer, call)(value)
            assert str(error.value).isprintable()
        for ask in (
            lambda: producer.wait(value, 0.01),
            lambda: producer.statuses([value]),
            lambda: producer.retry([value]),
            lambda: producer.reprioritise([value], "high"),
            lambda: producer.on_completion([value], print),
            lambda: producer.retire_agent(value, 1),
        ):
            with pytest.raises(InvalidInput, match="is not a name"):
                ask()


@pytest.mark.parametrize("value", ["t1", "", None, 5, {"t1"}], ids=repr)
def test_a_list_of_ids_is_one(producer: Balancer, unchanged: Unchanged, value: Any) -> None:
    """A text is a list of its letters to Python; to nobody else."""
    with unchanged():
        for ask in (producer.statuses, producer.retry, lambda ids: producer.wait_many(ids, 0.01)):
            with pytest.raises(InvalidInput, match=r"^task ids: .* is not a list of names"):
                ask(value)


@pytest.mark.parametrize("value", [None, 5, True, "urgent", b"high"], ids=repr)
def test_a_priority_is_one(producer: Balancer, unchanged: Unchanged, value: Any) -> None:
    with unchanged(), pytest.raises(InvalidInput, match=r"^priority: .* is none of critical, high"):
        producer.reprioritise(["t1"], value)


@pytest.mark.parametrize(
    "value", [NAN, "5", True, b"5", 10**400, 10**30], ids=lambda v: repr(v)[:10]
)
def test_seconds_are_a_number(
    redis_server: EmbeddedRedis, producer: Balancer, unchanged: Unchanged, value: Any
) -> None:
    """A time of "nan" is never reached: with it as a deadline a call would try for ever."""

    async def open_it() -> None:
        AsyncBalancer(redis_server.url, "p", deadline_s=value)

    calls: dict[str, Callable[[], object]] = {
        "deadline_s": lambda: Balancer(redis_server.url, "p", deadline_s=value),
        "deadline_s ": lambda: asyncio.run(open_it()),
        "deadline_s  ": lambda: producer.retire_agent("a1", value),
        "block_s": lambda: producer.submit(role="dev", block_s=value),
        "timeout_s": lambda: producer.wait("t1", value),
    }
    with unchanged():
        for name, call in calls.items():
            with pytest.raises(
                InvalidInput, match=rf"^{name.strip()}: .* is not a number of seconds"
            ) as error:
                call()
            assert len(str(error.value)) < 150


@pytest.mark.parametrize("value", [-1, INF, 10**12])
def test_seconds_have_bounds(producer: Balancer, unchanged: Unchanged, value: float) -> None:
    with unchanged():
        with pytest.raises(
            InvalidInput, match=rf"^deadline_s: {re.escape(repr(value))} is not from 0 to"
        ):
            producer.retire_agent("a1", value)
        with pytest.raises(
            InvalidInput, match=rf"^block_s: {re.escape(repr(value))} is not from 0 to"
        ):
            producer.submit(role="dev", block_s=value)


@pytest.mark.parametrize("value", [0, -1, 10**9, NAN, "5", None, True, 1.0], ids=repr)
def test_a_limit_is_a_count(producer: Balancer, unchanged: Unchanged, value: Any) -> None:
    """Redis takes -1 as "to the end": a limit of 0 would read the whole fleet."""
    with (
        unchanged(),
        pytest.raises(InvalidInput, match=r"^limit: .* is not a whole number from 1 to"),
    ):
        producer.agents(value)


@pytest.mark.parametrize("reason", [None, 5, "a\ud800", b"x"], ids=repr)
def test_a_reason_is_a_text(producer: Balancer, unchanged: Unchanged, reason: Any) -> None:
    with unchanged(), pytest.raises(InvalidInput, match=r"^reason: .*(text|Unicode)"):
        producer.cancel("t1", reason)


@pytest.mark.parametrize("reason", ["", "Lost", "misspelt", "a\x00", 5], ids=repr)
def test_a_reason_of_death_is_one(producer: Balancer, unchanged: Unchanged, reason: Any) -> None:
    """Nothing died of a word that is misspelt: that is no answer to give."""
    with unchanged(), pytest.raises(InvalidInput, match=r"^reason: .* is none of failed, timeout"):
        producer.retry_dead(reason=reason)


@pytest.mark.parametrize("value", [5, b"redis://h", "", ["redis://h"]], ids=repr)
def test_an_address_is_a_text(pool: Pool, unchanged: Unchanged, value: Any) -> None:
    """An empty one is none: the default would be somebody else's Redis."""
    with unchanged():
        for make in (Balancer, AsyncBalancer):
            with pytest.raises(Misconfigured, match=r"^redis_url: "):
                make(value, "p")


@pytest.mark.parametrize("value", ["", 5, b"p", "a{b}", "p\n", "*"], ids=repr)
def test_a_pool_is_a_name(
    redis_server: EmbeddedRedis, pool: Pool, unchanged: Unchanged, value: Any
) -> None:
    with unchanged():
        for make in (Balancer, AsyncBalancer):
            with pytest.raises(InvalidInput, match=r"^pool: .* is not a name"):
                make(redis_server.url, value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"id": "a:b"}, "agent: 'a:b'"),
        ({"id": "a\n"}, "agent: "),
        ({"role": "'..redis.call(1)..'"}, "role: "),
        ({"role": 5}, "role: '5'"),
        *(({"max_concurrent": value}, f"max_concurrent: {value!r} ")
          for value in (0, -1, NAN, INF, "4", "nan", True, None, 1.5)),
        ({"max_concurrent": 10**9}, "max_concurrent: '1000000000'"),
        *(({"interval_s": value}, f"interval_s: {value!r} ") for value in (NAN, INF, -1, "5", True, None, 10**400)),
        *(({"ttl_s": value}, f"ttl_s: {value!r} ") for value in (NAN, INF, "15")),
        ({"interval_s": 5, "ttl_s": 9}, "ttl_ms: 9000 is less than two intervals"),
        ({"interval_s": 0}, "interval_ms: '0'"),
        ({"specializations": "bug"}, "specializations: 'bug' is not a list"),
        ({"specializations": ["a b"]}, "specializations.0: 'a b'"),
        ({"type": "{x}"}, "type: '{x}'"),
        *(({"speed": value}, f"speed: '{value}' is not a decimal number") for value in (NAN, INF, -1, True, "fast")),
        ({"speed": 0}, "speed: '0.0'"),
        ({"speed": 101}, "speed: '101.0'"),
        ({"speeds": {"bug": 0.001}}, "speeds.bug: '0.001'"),
        ({"speeds": {"bug": NAN}}, "speeds.bug: 'nan' is not a decimal number"),
        ({"speeds": {"a b": 1}}, "speeds: 'a b' is not a name"),
        ({"speeds": {"bug:1,docs": 1}}, "speeds: 'bug:1,docs' is not a name"),
        ({"speeds": ["bug"]}, "speeds: ['bug'] is not a mapping"),
        ({"speeds": {f"c{n}": 1 for n in range(65)}}, "speeds: "),
        ({"skills": {"go": 0}}, "skills.go: '0'"),
        ({"skills": {"go": 101}}, "skills.go: '101'"),
        ({"skills": {"go": 1.5}}, "skills.go: '1.5' is not a whole number"),
        ({"skills": {"go": True}}, "skills.go: 'True' is not a whole number"),
        ({"skills": {"go": -1}}, "skills.go: '-1' is not a whole number"),
        ({"skills": {5: 1}}, "skills: 5 is not a name"),
        ({"skills": 5}, "skills: 5 is not a mapping"),
        ({"skills": "go"}, "skills: 'go' is not a name and a number"),
        ({"redis_url": f"http://u:{SECRET}@h"}, "redis_url: "),
        ({"redis_url": ""}, "redis_url: "),
        ({"pool": "a{b}"}, "pool"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_an_agent_declares(given: dict[str, Any], said: str) -> None:
    """Refused where it is written, not by the first heartbeat that is set aside."""
    arguments: dict[str, Any] = {"id": "a1", "role": "dev"}
    with pytest.raises(ValueError, match=rf"^{re.escape(said[:60])}") as error:
        Agent(**(arguments | given))
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("category", ["os.system('x')", "a:b", "", "a\n"])
def test_a_handler_is_for_a_category(category: str) -> None:
    with pytest.raises(ValueError, match=r"^category: .* is not a name"):
        Agent("a1", role="dev").task(category)
