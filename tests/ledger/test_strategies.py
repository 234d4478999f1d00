"""Strategies that go by turns, on a real pool: whoever is next, however many plan, whatever the fleet looks like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
import redis

from balancer.core.lanes import AgentClass, class_definition
from balancer.core.planner import Planner
from balancer.core.settings import PoolSettings
from balancer.ledger import Pool
from balancer.ledger.agent_set import Verb, agent_set
from balancer.ledger.commit import SCRIPT as COMMIT
from balancer.ledger.view import Viewer
from tests.support.factories import (
    NOW_US,
    Clock,
    assert_bad_argument,
    beat,
    boot_of,
    changes,
    commit,
    complete,
    drain,
    make_task,
    nonce,
    proposal,
    submit,
)

Make = Callable[..., Pool]


@pytest.fixture
def made(redis_client: redis.Redis, clock: Clock) -> Make:
    def make(strategy: str, name: str = "p", **settings: int) -> Pool:
        return Pool.create(redis_client, name, PoolSettings(strategy=strategy, **settings), clock)

    return make


def units_of(cost: int) -> str:
    return class_definition(AgentClass("dev", (), cost))[0]


class Balancer:
    """One balancer's eyes and head."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._planner = pool, Planner(pool.settings)
        self._viewer = Viewer(pool, self._planner.pivot)

    def drain(self) -> list[str]:
        """The agents that were granted a task, in the order of the tasks."""
        wishes = self._planner.plan(self._viewer.view())
        assert set(commit(self._pool, *wishes)) <= {"assigned"}
        return [wish.agent for wish in wishes]


def fleet(pool: Pool, *units: int) -> list[str]:
    """Agents a00, a01, ... of so many units."""
    names = [f"a{n:02}" for n in range(len(units))]
    for name, most in zip(names, units, strict=True):
        beat(pool, name, max_concurrent=most)
    return names


def one_by_one(pool: Pool, balancers: list[Balancer], tasks: int) -> list[str]:
    out = []
    for n in range(tasks):
        submit(pool, f"t{n}")
        out += balancers[n % len(balancers)].drain()
        complete(pool, f"t{n}")
    return out


# --- round_robin ---


def test_round_robin_goes_round_all_classes_whoever_plans(made: Make) -> None:
    pool = made("round_robin")
    names = fleet(pool, 3, 1, 3, 2, 1)

    granted = one_by_one(pool, [Balancer(pool), Balancer(pool)], 15)

    assert granted == names * 3


def test_round_robin_within_one_plan(made: Make) -> None:
    pool = made("round_robin")
    names = fleet(pool, 9, 2, 9)
    submit(pool, *(f"t{n}" for n in range(8)))

    assert Balancer(pool).drain() == [*names, *names, "a00", "a02"]


def test_round_robin_over_more_agents_than_a_view_shows(made: Make) -> None:
    pool = made("round_robin")
    names = fleet(pool, *([2] * 60))
    submit(pool, *(f"t{n:03}" for n in range(90)))
    balancer, granted = Balancer(pool), []
    while now := balancer.drain():
        granted += now

    assert granted == (names * 2)[:90]


def test_who_comes_back_has_kept_its_turn(made: Make) -> None:
    pool = made("round_robin")
    fleet(pool, 2, 2, 2)
    balancer = Balancer(pool)
    assert one_by_one(pool, [balancer], 2) == ["a00", "a01"]
    agent_set(pool, "a02", Verb.PAUSE)
    submit(pool, "x", "y")
    assert balancer.drain() == ["a00", "a01"]
    agent_set(pool, "a02", Verb.RESUME)
    submit(pool, "z")

    assert balancer.drain() == ["a02"]


def test_a_grant_puts_the_agent_at_the_end_of_the_line(made: Make, clock: Clock) -> None:
    pool = made("round_robin")
    fleet(pool, 2, 2)
    submit(pool, "t1")
    clock.advance(3)

    with changes(pool) as seen:
        assert commit(pool, proposal("t1", "a00")) == ["assigned"]

    turn = NOW_US + 3_000_000
    assert seen.state.get("agent:a00 turn") == str(turn)
    assert seen.state[f"turn:{units_of(2)} a00"] == turn
    assert seen.state["meta clock_us"] == str(turn)
    assert "agent:a01 turn" not in seen.state
    with changes(pool) as seen:
        assert drain(pool) == {}
    assert seen.nothing


# --- random ---


@pytest.mark.parametrize("batch", [1, 40])
def test_random_gives_every_agent_its_share_whatever_the_size_of_its_class(
    made: Make, batch: int
) -> None:
    """Chi-square: 12 agents, so 11 degrees of freedom; above 31.3 only once in a thousand runs of dice."""
    pool = made("random", seed=7)
    names = fleet(pool, 10, *[11] * 3, *[12] * 8)
    balancer, counts = Balancer(pool), Counter[str]()
    rounds = 360 if batch == 1 else 60
    for _ in range(rounds):
        tasks = [f"t{n}" for n in range(counts.total(), counts.total() + batch)]
        submit(pool, *tasks)
        while granted := balancer.drain():
            counts.update(granted)
        for task in tasks:
            complete(pool, task)

    expected = rounds * batch / len(names)
    assert counts.total() == rounds * batch
    assert sum((counts[name] - expected) ** 2 / expected for name in names) < 31.3


def test_random_is_no_fixed_order(made: Make) -> None:
    pool = made("random", seed=3)
    fleet(pool, *[2] * 6)

    granted = one_by_one(pool, [Balancer(pool)], 120)

    followers = Counter(pairwise(granted))
    assert len(followers) > 25  # of 36 pairs; a fixed order has 6


def test_random_with_a_seed_repeats_itself_and_without_one_does_not(
    made: Make, redis_client: redis.Redis
) -> None:
    def run(name: str, seed: int) -> list[str]:
        pool = made("random", name, seed=seed)
        fleet(pool, *[3] * 8)
        return one_by_one(pool, [Balancer(pool)], 30)

    assert run("one", 5) == run("two", 5)
    assert run("three", 6) != run("four", 5)
    assert run("five", 0) != run("six", 0)


def test_a_grant_draws_the_agents_place_again(made: Make) -> None:
    pool = made("random")
    fleet(pool, 2)
    submit(pool, "t1")

    with changes(pool) as seen:
        assert commit(pool, proposal("t1", "a00", draw=0xABC)) == ["assigned"]

    assert seen.state["agent:a00 turn"] == str(0xABC - 2**48)
    assert seen.state[f"turn:{units_of(2)} a00"] == 0xABC - 2**48
    assert seen.state["task:t1 grant"].endswith("|60000|best_match")


def test_a_grant_without_a_draw_draws_from_its_nonce(made: Make) -> None:
    pool = made("random")
    fleet(pool, 3)
    submit(pool, "t1", "t2")

    def turn_after(task: str) -> int:
        assert commit(pool, proposal(task, "a00")) == ["assigned"]
        return 2**48 + int(pool.client.hget(pool.keys.agent("a00"), "turn") or 0)

    one, two = turn_after("t1"), turn_after("t2")
    assert one != two
    assert 0 <= min(one, two) <= max(one, two) < 2**48


@pytest.mark.parametrize("draw", ["abc", "x" * 12, "0" * 13, "", "0000000000ab|1"])
def test_a_draw_that_is_none_is_refused(made: Make, draw: str) -> None:
    pool = made("random")
    fleet(pool, 3)
    submit(pool, "t1")
    args = ["", "t1", "a00", nonce("L"), f"60000|random|{draw}", "|"]
    assert_bad_argument(pool, COMMIT, args)


@pytest.mark.parametrize("strategy", ["best_match", "round_robin"])
def test_a_draw_in_a_pool_of_another_order_does_not_count(made: Make, strategy: str) -> None:
    """The plan was made before the pool got its order of now."""
    pool, told = made(strategy), made("best_match", "told")
    for each, draw in ((pool, 0xAB), (told, None)):
        fleet(each, 3)
        submit(each, "t1")
        wish = proposal("t1", "a00", "L", strategy="random", draw=draw)
        assert commit(each, wish) == ["assigned"]

    grants = [each.client.hget(each.keys.task("t1"), "grant") for each in (pool, told)]
    assert grants[0] == grants[1]
    turn = int(pool.client.hget(pool.keys.agent("a00"), "turn") or 0)
    assert turn >= (NOW_US if strategy == "round_robin" else 0)


# --- both ---


@pytest.mark.parametrize("strategy", ["round_robin", "random"])
def test_a_large_task_finds_the_one_agent_that_can_take_it(made: Make, strategy: str) -> None:
    """All whose turn it is are too full for it: the view holds the least loaded, too."""
    pool = made(strategy)
    beat(pool, "idle", max_concurrent=4)
    submit(pool, "first")
    assert commit(pool, proposal("first", "idle")) == ["assigned"]
    for n in range(40):
        beat(pool, f"busy{n:02}", max_concurrent=4)
    submit(pool, *(make_task(f"b{n:02}", cost=2) for n in range(40)))
    assert set(commit(pool, *(proposal(f"b{n:02}", f"busy{n:02}") for n in range(40)))) == {
        "assigned"
    }
    complete(pool, "first")
    # The busy ones are next in turn, and `idle` is not among the first that a view of one unit shows.
    if strategy == "round_robin":
        submit(pool, "again")
        assert commit(pool, proposal("again", "idle")) == ["assigned"]
        complete(pool, "again")
    submit(pool, make_task("large", cost=4))

    assert drain(pool) == {"large": "idle"}


@pytest.mark.parametrize("strategy", ["round_robin", "random"])
def test_turns_follow_the_free_index(made: Make, clock: Clock, strategy: str) -> None:
    """Full, paused, changed, gone: an agent stands in both indexes or in none. The audit looks at each end."""
    pool = made(strategy)
    keys, client = pool.keys, pool.client

    def in_line(units: int) -> set[str]:
        line = set(client.zrange(keys.turn(units_of(units)), 0, -1))
        assert line == set(client.zrange(keys.free(units_of(units)), 0, -1))
        return line

    beat(pool, "a", max_concurrent=1)
    beat(pool, "b", max_concurrent=1)
    assert in_line(1) == {"a", "b"}
    submit(pool, "t1")
    commit(pool, proposal("t1", "a"))
    assert in_line(1) == {"b"}
    complete(pool, "t1")
    agent_set(pool, "b", Verb.PAUSE)
    assert in_line(1) == {"a"}
    agent_set(pool, "b", Verb.RESUME)
    beat(pool, "a", max_concurrent=2)
    assert (in_line(1), in_line(2)) == ({"b"}, {"a"})
    beat(pool, "a", max_concurrent=2, mode="stopped")
    assert in_line(2) == set()


def test_a_pool_that_goes_by_load_keeps_no_turns(made: Make) -> None:
    pool = made("best_match")
    fleet(pool, 2)
    submit(pool, "t1")
    drain(pool)

    assert not pool.client.exists(pool.keys.turn(units_of(2)))
    assert pool.client.hget(pool.keys.agent("a00"), "turn") is None


def test_first_turn_of_an_agent_is_where_its_boot_puts_it(made: Make) -> None:
    """In a drawn order as well, or all newcomers would stand in one place."""
    pool = made("random")
    names = fleet(pool, *[1] * 20)

    turns = {2**48 + int(pool.client.hget(pool.keys.agent(name), "turn") or 0) for name in names}

    assert len(turns) == len(names)
    assert {turn * 4 >> 48 for turn in turns} == {0, 1, 2, 3}
    assert boot_of("a00") != boot_of("a01")
