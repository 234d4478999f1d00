"""Tasks that take their agents down die of it; those beside them do not."""

from __future__ import annotations

from itertools import count
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from balancer.core.lanes import Lane, lane_definition
from balancer.core.settings import PoolSettings
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool, read_tasks
from balancer.ledger.audit import audit
from balancer.ledger.reclaim import reclaim
from balancer.protocol import TextRedis, connect
from tests.support.factories import (
    Clock,
    assign,
    beat,
    commit,
    complete,
    drain,
    dump,
    make_task,
    proposal,
    structure_violations,
    submit,
)

LANE, _ = lane_definition(Lane("dev", "general", 1))


def held(pool: Pool, agent: str) -> dict[str, str]:
    """Task -> nonce of what an agent holds."""
    records = pool.client.hgetall(pool.keys.held(agent)).items()
    return {record.split(" ")[0]: nonce for nonce, record in records}


class Fleet:
    """Agents that die whenever they hold poison, and come back: each resumes all that it can."""

    def __init__(self, pool: Pool, clock: Clock, units: list[int], poison: set[str]) -> None:
        self.pool, self.clock, self.units, self.poison = pool, clock, units, poison
        self.boots = [1] * len(units)
        for n in range(len(units)):
            self.beat(n)

    def beat(self, n: int, **facts: Any) -> None:
        beat(self.pool, f"a{n}", self.boots[n], max_concurrent=self.units[n], **facts)

    def crash(self, n: int) -> None:
        """Gone in a moment, and back as another boot that names all it held."""
        nonces = tuple(held(self.pool, f"a{n}").values())
        self.boots[n] += 1
        self.beat(n, start=True, held=nonces, seq=1)
        while reclaim(self.pool, f"a{n}").more:
            pass

    def run(self, vanish: list[bool], patience: int) -> None:
        """Some finish what they hold at once, some after a while; nobody finishes poison."""
        turn = count()
        for step in range(patience):
            self.clock.advance(1)
            for n in range(len(self.units)):
                self.beat(n)
            drain(self.pool)
            for n in range(len(self.units)):
                own = held(self.pool, f"a{n}")
                if self.poison & own.keys():
                    if vanish[next(turn) % len(vanish)]:
                        self.beat(n, mode="stopped")
                        reclaim(self.pool, f"a{n}")
                        self.boots[n] += 1
                    else:
                        self.crash(n)
                elif own and step % 2:
                    assert complete(self.pool, min(own)) == "ok"


class History(NamedTuple):
    """A fleet, its work, and who takes whom down."""

    units: list[int]
    costs: list[int]
    poisonous: set[int]
    max_losses: int
    #: Whether an agent that died is seen no more (for a while), or comes back at once; in turn.
    vanish: list[bool]


HISTORIES = st.builds(
    History,
    units=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    costs=st.lists(st.integers(1, 2), min_size=2, max_size=8),
    poisonous=st.sets(st.integers(0, 7), min_size=1, max_size=3),
    max_losses=st.integers(2, 4),
    vanish=st.lists(st.booleans(), min_size=1, max_size=5),
)


@given(history=HISTORIES)
@settings(
    max_examples=25, database=None, deadline=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
def _innocents_survive(client: TextRedis, history: History) -> None:
    units, costs, poisonous, max_losses, vanish = history
    client.flushall()
    clock = Clock()
    pool = Pool.create(client, "poison", PoolSettings(max_losses=max_losses), clock)
    names = [f"t{n}" for n in range(len(costs))]
    poison = {f"t{n}" for n in poisonous if n < len(costs)}
    tasks = zip(names, costs, strict=True)
    most = max(units)
    submit(pool, *(make_task(name, cost=min(cost, most)) for name, cost in tasks))
    fleet = Fleet(pool, clock, units, poison)

    fleet.run(vanish, patience=12 * len(costs) + 12)

    states = {status.id: status for status in read_tasks.task_statuses(pool, names) if status}
    assert {id_ for id_, status in states.items() if status.state != "completed"} == poison
    for id_ in poison:
        assert (states[id_].state, states[id_].reason) == ("dead", "lost")
        assert states[id_].losses == max_losses
        tries = read_tasks.history(pool, id_)
        assert [one.how in ("lost", "resumed") for one in tries] == [True] * max_losses
    assert audit(pool).violations == []
    assert structure_violations(dump(client), pool.keys.prefix) == []


def test_innocents_beside_poison_survive(redis_server: EmbeddedRedis) -> None:
    with connect(redis_server.url) as client:
        _innocents_survive(client)


# --- one step at a time ---


@pytest.fixture
def crowd(virtual_pool: Pool) -> Pool:
    """a1 of four units holds poison and two innocents, each lost once before."""
    submit(virtual_pool, "poison", "one", "two")
    beat(virtual_pool, max_concurrent=4)
    for name in ("poison", "one", "two"):
        assign(virtual_pool, name)
    return virtual_pool


def losses(pool: Pool) -> list[int]:
    found = read_tasks.task_statuses(pool, ["poison", "one", "two"])
    return [status.losses for status in found if status]


def test_the_first_crash_is_resumed_and_the_second_gives_all_back(crowd: Pool) -> None:
    nonces = tuple(held(crowd, "a1").values())
    beat(crowd, boot=2, max_concurrent=4, start=True, held=nonces)
    assert reclaim(crowd, "a1") == ("alive", 0, 0, False)
    assert losses(crowd) == [1, 1, 1]

    beat(crowd, boot=3, max_concurrent=4, start=True, held=nonces)

    assert reclaim(crowd, "a1") == ("rebooted", 3, 0, False)
    assert losses(crowd) == [2, 2, 2]
    assert crowd.client.hgetall(crowd.keys.laneref) == {f"{LANE}+alone": "3"}


def test_on_its_last_life_a_task_gets_an_agent_for_itself(crowd: Pool) -> None:
    for boot in (2, 3):
        nonces = tuple(held(crowd, "a1").values())
        beat(crowd, boot=boot, max_concurrent=4, start=True, held=nonces)
        reclaim(crowd, "a1")
    submit(crowd, "other")
    assert drain(crowd) == {}  # its process may be running the poison that it named
    beat(crowd, boot=3, max_concurrent=4)

    assert list(drain(crowd)) == ["poison"]

    [(_, record)] = crowd.client.hgetall(crowd.keys.held("a1")).items()
    assert record.split(" ")[:2] == ["poison", "4"]
    assert commit(crowd, proposal("other"), proposal("one")) == ["full", "full"]
    beat(crowd, boot=4, max_concurrent=4, start=True)
    assert reclaim(crowd, "a1") == ("rebooted", 0, 1, False)
    assert read_tasks.task_statuses(crowd, ["poison"])[0].reason == "lost"  # type: ignore[union-attr]


def alone(pool: Pool) -> None:
    """t1 is on its last life, and alone on a1 of two units."""
    submit(pool, "t1", "t2")
    pool.client.hset(pool.keys.task("t1"), "losses", 1)
    beat(pool, max_concurrent=2)
    assign(pool)
    beat(pool, max_concurrent=2, mode="stopped")
    reclaim(pool, "a1")
    beat(pool, max_concurrent=2)
    assign(pool)


def test_an_agent_that_gains_units_stays_alone_with_it(virtual_pool: Pool) -> None:
    alone(virtual_pool)

    for units in (1, 5, 5, 3):
        beat(virtual_pool, max_concurrent=units)
        assert commit(virtual_pool, proposal("t2")) == ["full"]

    counts = virtual_pool.client.hmget(virtual_pool.keys.agent("a1"), "used", "n", "max")
    assert counts == ["5", "1", "3"]
    assert complete(virtual_pool) == "ok"
    assert virtual_pool.client.hmget(virtual_pool.keys.agent("a1"), "used", "n") == ["0", "0"]
    assert virtual_pool.client.hget(virtual_pool.keys.role("dev"), "used") == "0"


def test_a_busy_agent_or_a_small_one_is_no_place_for_it(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task("t1", cost=2), "t2", "t3")
    virtual_pool.client.hset(virtual_pool.keys.task("t1"), "losses", 1)
    beat(virtual_pool, max_concurrent=2)
    assign(virtual_pool)
    beat(virtual_pool, max_concurrent=2, mode="stopped")
    reclaim(virtual_pool, "a1")
    beat(virtual_pool, "small")
    beat(virtual_pool, "busy", max_concurrent=4)
    assign(virtual_pool, "t2", "busy")

    assert commit(virtual_pool, proposal("t1", "small"), proposal("t1", "busy")) == ["full", "full"]


def test_where_one_loss_is_the_limit_nobody_is_suspected(
    redis_client: TextRedis, clock: Clock
) -> None:
    pool = Pool.create(redis_client, "p", PoolSettings(max_losses=1), clock)
    submit(pool, "t1", "t2")
    beat(pool, max_concurrent=2)
    assert len(drain(pool)) == 2
    beat(pool, boot=2, max_concurrent=2, start=True, held=tuple(held(pool, "a1").values()))

    assert reclaim(pool, "a1") == ("rebooted", 0, 2, False)
