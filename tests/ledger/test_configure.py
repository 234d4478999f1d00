"""The scripts `configure` and `rescore`: other settings for a pool that lives, and what waits in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from balancer.core.lanes import AgentClass, Lane, class_definition, lane_definition
from balancer.core.model import Priority
from balancer.core.queue_order import QueueOrder
from balancer.core.settings import PoolSettings, PriorityWeight, RoleSettings
from balancer.core.strategies import make_strategy, queue_of
from balancer.ledger import Pool
from balancer.ledger import configure as configuring
from balancer.ledger import rescore as rescoring
from balancer.ledger.agent_set import Verb, agent_set
from balancer.ledger.configure import Outcome, configure, refresh
from balancer.ledger.due import due
from balancer.ledger.pool import stored_settings
from balancer.ledger.reclaim import reclaim
from balancer.ledger.recount import recount
from balancer.ledger.release import release
from balancer.ledger.rescore import rescore
from balancer.ledger.retire import retire
from balancer.ledger.tick import tick
from tests.support.factories import (
    NOW_US,
    Clock,
    assert_bad_argument,
    assert_guarded,
    assign,
    beat,
    changes,
    complete,
    drain,
    dump,
    later,
    make_task,
    populate,
    submit,
)

FIT = PoolSettings(strategy="fit")
BEST = PoolSettings(strategy="best_match")
LANE, _ = lane_definition(Lane("dev", "general", 1))


def order_in(pool: Pool, role: str = "dev") -> list[tuple[str, float]]:
    """All waiting tasks of a role, as the lanes order them."""
    lanes = pool.client.zrange(pool.keys.lanes(role), 0, -1)
    members = [
        member
        for lane in lanes
        for member in pool.client.zrange(pool.keys.lane(lane), 0, -1, withscores=True)
    ]
    return sorted(members, key=lambda member: (member[1], member[0]))


def rescore_all(pool: Pool) -> int:
    looked, more = 0, True
    while more:
        page = rescore(pool)
        looked, more = looked + page.looked, page.more
    return looked


def expected(pool: Pool, task: str) -> int:
    """The place of a task as the pure twin computes it."""
    stored = pool.client.hgetall(pool.keys.task(task))
    order = QueueOrder.of(pool.settings, queue_of(make_strategy(pool.settings)))
    estimate_ms = int(stored["e"].split("|")[0])
    priority = Priority(stored["d"].split("|")[0])
    return int(stored["ready_us"]) + order.delay_us(priority, estimate_ms)


def assert_exact(pool: Pool, *tasks: str) -> None:
    for task in tasks:
        place = expected(pool, task)
        lane = pool.client.hget(pool.keys.task(task), "lane")
        assert pool.client.zscore(pool.keys.lane(str(lane)), task) == place
        assert pool.client.hget(pool.keys.task(task), "order_us") == str(place)


# --- configure ---


def test_configure_writes_what_decides_and_what_is_to_be_done(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")
    settings = PoolSettings(strategy="fit", max_cost=7, roles={"dev": RoleSettings(max_cost=3)})

    with changes(virtual_pool) as seen:
        assert configure(virtual_pool, settings) is Outcome.OK

    assert seen.state == {
        "meta settings_ver": "2",
        "settings json": settings.model_dump_json(),
        "settings order_by": "effort|0|1.6|0.8|0.4|0.2",
        "settings max_cost": "7",
        "settings max_cost:dev": "3",
        "rescore dev": f"{NOW_US}|0|",
    }
    assert seen.events == [("configured", "", "", "2")]
    assert (virtual_pool.settings, virtual_pool.settings_ver) == (settings, 2)


def test_configure_again_changes_nothing(virtual_pool: Pool) -> None:
    """As when the first answer was lost: the second call still says which settings it was made from."""
    submit(virtual_pool, "t1")
    stranger = Pool.open(virtual_pool.client, "p", virtual_pool.clock)
    configure(virtual_pool, FIT)

    with changes(virtual_pool) as seen:
        assert configure(stranger, FIT) is Outcome.ALREADY
        assert configure(virtual_pool, FIT) is Outcome.ALREADY

    assert seen.nothing
    assert (stranger.settings, stranger.settings_ver) == (FIT, 2)


def test_of_two_changes_made_from_the_same_settings_one_counts(virtual_pool: Pool) -> None:
    other = Pool.open(virtual_pool.client, "p", virtual_pool.clock)
    configure(virtual_pool, FIT)

    with changes(virtual_pool) as seen:
        assert configure(other, PoolSettings(max_losses=5)) is Outcome.CONFLICT

    assert seen.nothing
    assert other.settings_ver == 1
    assert refresh(other) == FIT
    assert configure(other, PoolSettings(max_losses=5)) is Outcome.OK


def test_what_is_not_bounded_any_more_is_forgotten(virtual_pool: Pool) -> None:
    configure(virtual_pool, PoolSettings(roles={"dev": RoleSettings(max_pending=1)}))
    assert submit(virtual_pool, "t1", "t2") == ["accepted", "queue_full"]

    configure(virtual_pool, PoolSettings())

    assert submit(virtual_pool, "t2") == ["accepted"]
    assert not virtual_pool.client.hexists(virtual_pool.keys.settings, "max_pending:dev")


def test_a_change_that_orders_nothing_anew_scores_nothing_anew(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")

    configure(virtual_pool, PoolSettings(max_losses=5, strategy="least_loaded"))

    assert not virtual_pool.client.exists(virtual_pool.keys.rescore)
    assert not tick(virtual_pool).rescore_due
    assert tick(virtual_pool).settings_ver == 2


def test_producers_hear_of_it_with_their_next_call(virtual_pool: Pool) -> None:
    """The prior of a task comes from the settings that its producer has."""
    producer = Pool.open(virtual_pool.client, "p", virtual_pool.clock)
    configure(virtual_pool, PoolSettings(default_estimate_min=1))

    submit(producer, "t1")
    assert producer.newest_ver == 2
    submit(producer, "t2")

    assert (producer.settings_ver, producer.newest_ver) == (2, 2)
    assert producer.settings.default_estimate_min == 1
    estimates = [virtual_pool.client.hget(virtual_pool.keys.task(id_), "e") for id_ in ("t1", "t2")]
    assert [int(str(text).split("|")[3]) for text in estimates] == [3_600_000, 60_000]


def test_configure_in_full_memory_works(
    virtual_pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    submit(virtual_pool, "t1")

    with out_of_memory():
        assert configure(virtual_pool, FIT) is Outcome.OK
        assert rescore_all(virtual_pool) == 1

    assert_exact(virtual_pool, "t1")


def test_configure_of_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    assert_guarded(virtual_pool, configuring.SCRIPT, [1, *stored_settings(FIT)])
    assert_guarded(virtual_pool, rescoring.SCRIPT, [])


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, "0"), (0, "nan"), (0, ""), (2, "speed"), (2, ""), (3, ""), (3, "effort|2|1|1|1|1"),
        (3, "effort|0|1|1|1"), (3, "effort|0|nan|1|1|1"), (3, "effort|0|0x1|1|1|1"),
        (5, "nan"), (5, "-1"), (5, "1000000001"),
    ],
)  # fmt: skip
def test_configure_with_a_bad_argument_writes_nothing(
    virtual_pool: Pool, at: int, value: str
) -> None:
    args: list[Any] = [1, *stored_settings(FIT)]
    args[at] = value
    assert_bad_argument(virtual_pool, configuring.SCRIPT, args)


def test_configure_with_half_a_bound_writes_nothing(virtual_pool: Pool) -> None:
    assert_bad_argument(virtual_pool, configuring.SCRIPT, [1, *stored_settings(FIT), "max_cost"])


# --- rescore ---


def mixed(pool: Pool, clock: Clock, tasks: int) -> list[str]:
    """Tasks of several lanes and priorities, ready at different times."""
    ids, priorities = [f"t{n}" for n in range(tasks)], list(Priority)
    for n, id_ in enumerate(ids):
        submit(
            pool,
            make_task(id_, category=("bug", "feature", "x")[n % 3], priority=priorities[n % 4]),
        )
        clock.advance(7)
    return ids


def test_after_rescore_the_order_is_as_if_submitted_under_the_new_settings(
    virtual_pool: Pool, clock: Clock
) -> None:
    ids = mixed(virtual_pool, clock, 24)
    new = PoolSettings(
        strategy="fit", ageing=0.7, priority_weight=PriorityWeight(critical=5), strict_priority=True
    )
    at = clock.now_us
    client = virtual_pool.client
    clock.now_us = NOW_US
    other = Pool.create(client, "other", new, clock)
    mixed(other, clock, 24)
    clock.now_us = at
    assert order_in(virtual_pool) != order_in(other)

    configure(virtual_pool, new)
    assert rescore_all(virtual_pool) == 24

    assert order_in(virtual_pool) == order_in(other)
    assert_exact(virtual_pool, *ids)
    heads = client.zrange(virtual_pool.keys.lanes("dev"), 0, -1, withscores=True)
    assert heads == client.zrange(other.keys.lanes("dev"), 0, -1, withscores=True)
    assert not client.exists(virtual_pool.keys.rescore)
    configure(virtual_pool, PoolSettings())
    rescore_all(virtual_pool)
    assert_exact(virtual_pool, *ids)


def test_a_page_goes_on_where_the_last_one_ended(virtual_pool: Pool, clock: Clock) -> None:
    """Also in another process, and past tasks that are gone since."""
    names = [f"t{n:03}" for n in range(450)]
    for at in range(0, 450, 150):
        submit(virtual_pool, *names[at : at + 150])
    beat(virtual_pool, max_concurrent=1)
    configure(virtual_pool, FIT)

    assert rescore(virtual_pool) == ("dev", 200, True)
    assert_exact(virtual_pool, *names[:200])
    cursor = virtual_pool.client.hget(virtual_pool.keys.rescore, "dev")
    assert cursor == f"{NOW_US + 449}|{NOW_US + 199}|t199"
    assign(virtual_pool, "t199")
    other = Pool.open(virtual_pool.client, "p", virtual_pool.clock)
    assert rescore(other) == ("dev", 200, True)
    submit(virtual_pool, "late")
    assert rescore(virtual_pool) == ("dev", 50, False)
    assert rescore(virtual_pool) == ("", 0, False)

    assert_exact(virtual_pool, *(name for name in names if name != "t199"), "late")


def test_a_page_that_comes_twice_changes_nothing(virtual_pool: Pool) -> None:
    submit(virtual_pool, *(f"t{n}" for n in range(5)))
    configure(virtual_pool, FIT)
    listed = virtual_pool.client.hgetall(virtual_pool.keys.rescore)
    rescore(virtual_pool)

    virtual_pool.client.hset(virtual_pool.keys.rescore, mapping=listed)
    before = dump(virtual_pool.client)
    assert rescore(virtual_pool).looked == 5

    after = dump(virtual_pool.client)
    assert before.pop("wb:{p}:rescore") == listed
    assert after == before


def test_tasks_of_one_microsecond_are_all_met(virtual_pool: Pool, clock: Clock) -> None:
    """More of them than a page holds, while the last one of each page goes away."""
    names = [f"t{n:03}" for n in range(450)]
    for at in range(0, 450, 150):
        submit(virtual_pool, *(make_task(n, not_before=later(60)) for n in names[at : at + 150]))
    clock.advance(60)
    while due(virtual_pool).more:
        pass
    beat(virtual_pool, max_concurrent=9)
    configure(virtual_pool, FIT)

    gone: set[str] = set()
    while rescore(virtual_pool).more:
        last = str(virtual_pool.client.hget(virtual_pool.keys.rescore, "dev")).split("|")[2]
        if len(gone) < 3:
            assign(virtual_pool, last)
            gone.add(last)

    assert len(gone) == 3
    assert_exact(virtual_pool, *(name for name in names if name not in gone))


def test_what_comes_back_is_placed_by_the_settings_of_today(
    virtual_pool: Pool, clock: Clock
) -> None:
    """Reclaimed, given back, retired, failed, scheduled, blocked: none of it waited when pages went by."""
    submit(
        *(
            virtual_pool,
            "retired",
            "lost",
            "back",
            "failed",
            make_task("later", not_before=later(60)),
        ),
        *("parent", make_task("child", depends_on=("parent",))),
    )
    beat(virtual_pool, "a1")
    beat(virtual_pool, "a2", max_concurrent=3)
    beat(virtual_pool, "a3")
    assign(virtual_pool, "lost", "a1")
    assign(virtual_pool, "retired", "a3")
    for id_ in ("back", "failed", "parent"):
        assign(virtual_pool, id_, "a2")
    configure(virtual_pool, FIT)
    rescore_all(virtual_pool)

    complete(virtual_pool, "back", "released")
    complete(virtual_pool, "failed", "failed")
    complete(virtual_pool, "parent")
    release(virtual_pool)
    clock.advance(60)
    due(virtual_pool)
    beat(virtual_pool, "a2", max_concurrent=3)
    reclaim(virtual_pool, "a1")
    agent_set(virtual_pool, "a3", Verb.RETIRE, 0)
    retire(virtual_pool, "a3")

    assert_exact(virtual_pool, "retired", "lost", "back", "failed", "later", "child")


def test_a_second_change_begins_again(virtual_pool: Pool) -> None:
    names = [f"t{n:03}" for n in range(300)]
    submit(virtual_pool, *names[:150])
    submit(virtual_pool, *names[150:])
    configure(virtual_pool, FIT)
    rescore(virtual_pool)
    configure(virtual_pool, PoolSettings(strategy="fit", ageing=2))

    assert rescore_all(virtual_pool) == 300

    assert_exact(virtual_pool, *names)


def test_every_role_has_its_turn(virtual_pool: Pool) -> None:
    submit(virtual_pool, *(make_task(f"t{n}", role=f"r{n}") for n in range(7)))
    configure(virtual_pool, FIT)

    assert rescore_all(virtual_pool) == 7

    assert_exact(virtual_pool, *(f"t{n}" for n in range(7)))


# --- the order of agents ---


def in_line(pool: Pool, units: int = 1) -> set[str]:
    cid, _ = class_definition(AgentClass("dev", (), units))
    return set(pool.client.zrange(pool.keys.turn(cid), 0, -1))


def test_agents_get_their_turns_when_the_pool_begins_to_go_by_them(virtual_pool: Pool) -> None:
    """By their heartbeats, and by being counted again; until then they are given work by load."""
    names = [f"a{n}" for n in range(6)]
    for name in names:
        beat(virtual_pool, name)
    submit(virtual_pool, *(f"t{n}" for n in range(6)))
    configure(virtual_pool, PoolSettings(strategy="round_robin"))
    assert in_line(virtual_pool) == set()

    assert len(drain(virtual_pool)) == 4
    left = {name for name in names if not virtual_pool.client.exists(virtual_pool.keys.held(name))}
    beat(virtual_pool, min(left))
    assert in_line(virtual_pool) == {min(left)}
    with changes(virtual_pool) as seen:
        beat(virtual_pool, min(left))
    assert f"agent:{min(left)} turn" not in seen.state
    recount(virtual_pool, max(left))
    assert in_line(virtual_pool) == left
    assert len(drain(virtual_pool)) == 2


@pytest.mark.parametrize("way", [("round_robin", "random"), ("random", "round_robin")])
def test_turns_of_another_order_are_given_anew(virtual_pool: Pool, way: tuple[str, str]) -> None:
    for n in range(4):
        beat(virtual_pool, f"a{n}")
    for strategy in way:
        configure(virtual_pool, PoolSettings(strategy=strategy))
        for n in range(4):
            beat(virtual_pool, f"a{n}")
        turns = [
            int(virtual_pool.client.hget(virtual_pool.keys.agent(f"a{n}"), "turn") or 0)
            for n in range(4)
        ]
        assert len(set(turns)) == 4
        assert all(turn < 0 if strategy == "random" else turn >= NOW_US for turn in turns)
        assert in_line(virtual_pool) == {f"a{n}" for n in range(4)}


def test_turns_are_kept_while_the_pool_goes_by_load(virtual_pool: Pool) -> None:
    """Else the index would be wrong when it comes back to them."""
    configure(virtual_pool, PoolSettings(strategy="round_robin"))
    beat(virtual_pool, "a1")
    beat(virtual_pool, "a2", max_concurrent=2)
    configure(virtual_pool, FIT)
    beat(virtual_pool, "a3")
    submit(virtual_pool, "t1", "t2")
    assign(virtual_pool, "t1", "a1")
    beat(virtual_pool, "a2", max_concurrent=2, mode="stopped")
    assert (in_line(virtual_pool), in_line(virtual_pool, 2)) == (set(), set())

    configure(virtual_pool, PoolSettings(strategy="round_robin"))
    complete(virtual_pool, "t1")
    beat(virtual_pool, "a3")

    assert in_line(virtual_pool) == {"a1", "a3"}
    assert set(drain(virtual_pool)) == {"t2"}


# --- strict priority, exact scores ---


def test_strict_priority_beats_everything(virtual_pool: Pool, clock: Clock) -> None:
    configure(
        virtual_pool,
        PoolSettings(
            strategy="fit", strict_priority=True, ageing=0.001, estimate_min={"huge": 1_000_000}
        ),
    )
    submit(virtual_pool, make_task("low", priority="low", category="tiny"))
    clock.advance(40 * 365 * 86_400)
    for priority in ("medium", "high", "critical"):
        submit(virtual_pool, make_task(priority, priority=priority, category="huge"))

    assert [task for task, _ in order_in(virtual_pool)] == ["critical", "high", "medium", "low"]
    assert_exact(virtual_pool, "critical", "high", "medium", "low")


@pytest.mark.parametrize("settings", [FIT, PoolSettings(strategy="fit", strict_priority=True)])
def test_a_bulk_keeps_its_order_to_the_microsecond(
    virtual_pool: Pool, clock: Clock, settings: PoolSettings
) -> None:
    """Late in the 23rd century, as far ahead of zero as behind it: no digit is lost."""
    clock.now_us = 2**53 - 400_000_000_000_000
    configure(virtual_pool, settings)
    names = [f"t{n}" for n in range(200)]
    submit(virtual_pool, *(make_task(name, priority="low") for name in names))

    places = order_in(virtual_pool)

    assert [task for task, _ in places] == names
    assert [place - places[0][1] for _, place in places] == list(range(200))
    assert_exact(virtual_pool, *names)
