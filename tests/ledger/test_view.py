"""The script `view`: a bounded picture of what could be decided now."""

from __future__ import annotations

import pytest

from balancer.core.fleet import Fleet
from balancer.core.lanes import AgentClass, Lane, lane_definition
from balancer.core.model import Priority
from balancer.core.view import (
    FreeAgent,
    FreeClass,
    Head,
    LaneView,
    Preference,
    RoleView,
    View,
)
from balancer.ledger import Pool
from balancer.ledger import view as views
from balancer.ledger.configure import configure
from tests.support.factories import (
    NOW_MS,
    NOW_US,
    Clock,
    assert_bad_argument,
    assert_guarded,
    assign,
    beat,
    changes,
    complete,
    make_task,
    populate,
    submit,
)

MEDIUM_US = 60_000_000


def look(pool: Pool, page: int = 0, units: int = 128) -> View:
    return views.Viewer(pool).view(page, units)


def test_view_shows_lanes_heads_classes_and_agents(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1", make_task("t2", category="bug", cost=2), "t3")
    beat(virtual_pool, "a1", max_concurrent=3, specializations=("bug",), type="build-agent")

    with changes(virtual_pool) as seen:
        view = look(virtual_pool)

    order = float(NOW_US - MEDIUM_US)
    plain, bugs = Lane("dev", "general", 1), Lane("dev", "bug", 2)
    assert view == View(
        NOW_MS,
        False,
        [
            RoleView(
                "dev",
                [
                    LaneView(
                        plain,
                        2,
                        [Head(order, "t1"), Head(order + 2, "t3")],
                        lane_definition(plain)[0],
                    ),
                    LaneView(bugs, 1, [Head(order + 1, "t2")], lane_definition(bugs)[0]),
                ],
                [
                    FreeClass(
                        AgentClass("dev", ("bug",), 3),
                        1,
                        [FreeAgent("a1", "build-agent", 3, 0, 1.0, NOW_US)],
                    )
                ],
                units=3,
                fleet=Fleet([(AgentClass("dev", ("bug",), 3), 3)]),
            )
        ],
    )
    assert seen.nothing
    assert look(virtual_pool) == view


def test_view_of_a_role_without_work_or_without_free_units_is_empty(virtual_pool: Pool) -> None:
    beat(virtual_pool, "idle", role="ops")
    submit(virtual_pool, "t1")

    assert look(virtual_pool) == View(NOW_MS, False, [])
    beat(virtual_pool, "a1")
    assign(virtual_pool, "t1", "a1")
    submit(virtual_pool, "t2")
    assert look(virtual_pool) == View(NOW_MS, False, [])


def test_view_leaves_out_agents_that_take_nothing(virtual_pool: Pool, clock: Clock) -> None:
    for agent in ("free", "stopping", "stopped", "full"):
        beat(virtual_pool, agent)
    submit(virtual_pool, "t1", "t2")
    assign(virtual_pool, "t1", "full")
    beat(virtual_pool, "stopping", mode="stopping")
    beat(virtual_pool, "stopped", mode="stopped")

    (role,) = look(virtual_pool).roles

    assert [(cls.size, [agent.id for agent in cls.agents]) for cls in role.classes] == [
        (1, ["free"])
    ]


def test_view_orders_agents_by_load_then_by_how_long_they_are_free(
    virtual_pool: Pool, clock: Clock
) -> None:
    for agent in ("a3", "a1", "a2"):
        beat(virtual_pool, agent, max_concurrent=3)
        clock.advance(1)
    submit(virtual_pool, *(f"t{n}" for n in range(6)))
    assign(virtual_pool, "t0", "a3")
    assign(virtual_pool, "t1", "a1")
    assign(virtual_pool, "t2", "a1")

    def order() -> list[tuple[str, int]]:
        return [(agent.id, agent.used) for agent in look(virtual_pool).roles[0].classes[0].agents]

    assert order() == [("a2", 0), ("a3", 1), ("a1", 2)]
    complete(virtual_pool, "t0")
    assert order() == [("a2", 0), ("a3", 0), ("a1", 2)], "a3 became free after a2"


def test_view_pages_over_lanes_in_the_order_of_their_heads(virtual_pool: Pool) -> None:
    beat(virtual_pool, max_concurrent=5)
    submit(virtual_pool, *(make_task(f"t{n}", category=f"c{n:03}") for n in range(150)))

    pages = [look(virtual_pool, page) for page in range(4)]

    found = [[lane.lane.category for role in page.roles for lane in role.lanes] for page in pages]
    assert [len(lanes) for lanes in found] == [64, 64, 22, 0]
    assert [category for page in found for category in page] == [f"c{n:03}" for n in range(150)]
    assert [page.more for page in pages] == [True, True, False, False]


def test_view_shows_as_many_heads_as_free_units_could_take(virtual_pool: Pool) -> None:
    submit(virtual_pool, *(f"t{n}" for n in range(200)))
    beat(virtual_pool, "a1", max_concurrent=7)
    assert len(look(virtual_pool).roles[0].lanes[0].heads) == 7
    beat(virtual_pool, "a2", max_concurrent=1000)
    assert len(look(virtual_pool).roles[0].lanes[0].heads) == 128
    assert len(look(virtual_pool, units=5).roles[0].lanes[0].heads) == 5
    assert look(virtual_pool).roles[0].lanes[0].size == 200


def test_view_sees_a_head_of_every_lane_of_its_page(virtual_pool: Pool) -> None:
    urgent = [make_task(f"u{n}", priority=Priority.CRITICAL) for n in range(50)]
    submit(virtual_pool, *urgent, make_task("rare", category="rare", priority=Priority.LOW))
    beat(virtual_pool, max_concurrent=4)

    (role,) = look(virtual_pool).roles

    assert [[head.task for head in lane.heads][:1] for lane in role.lanes] == [["u0"], ["rare"]]


@pytest.mark.damaged
def test_view_is_bounded_by_256_classes_and_512_agents(virtual_pool: Pool) -> None:
    submit(virtual_pool, *(f"t{n}" for n in range(200)))
    for n in range(300):
        beat(virtual_pool, f"a{n}", max_concurrent=2, specializations=(f"s{n}",))
    for n in range(20):
        beat(virtual_pool, f"b{n}", max_concurrent=1)

    (role,) = look(virtual_pool).roles

    assert len(role.classes) == 256
    assert len(role.classes[0].agents) == 2, "512 agents over 256 classes"
    assert role.classes[0].size == 20, "the class with the most free units comes first"
    assert sum(len(cls.agents) for cls in role.classes) <= 512


def test_every_class_beyond_256_comes_into_view(virtual_pool: Pool) -> None:
    """The 192 with most free units are in each view; of the others 64, from where the pivot says."""
    for n in range(400):
        beat(virtual_pool, f"a{n:03}", max_concurrent=400 - n)
    submit(virtual_pool, "t1")

    def shown(pivot: int) -> list[int]:
        (role,) = views.Viewer(virtual_pool, lambda: pivot).view().roles
        return [400 - fc.cls.max_concurrent for fc in role.classes]

    assert shown(0) == list(range(256))
    assert shown(208 * 7 + 100) == [*range(192), *range(292, 356)]
    assert shown(200) == [*range(192), *range(392, 400), *range(192, 248)]
    views_of_all = {n for pivot in range(0, 208, 64) for n in shown(pivot)}
    assert views_of_all == set(range(400))


def test_of_256_classes_all_are_in_view_wherever_it_starts(virtual_pool: Pool) -> None:
    for n in range(256):
        beat(virtual_pool, f"a{n:03}", max_concurrent=256 - n)
    submit(virtual_pool, "t1")

    (role,) = views.Viewer(virtual_pool, lambda: 100).view().roles

    assert [256 - fc.cls.max_concurrent for fc in role.classes] == list(range(256))


def test_view_finds_the_one_agent_that_can_hold_the_cost(virtual_pool: Pool) -> None:
    """300 emptier agents stand before it in any order by load."""
    for n in range(300):
        beat(virtual_pool, f"small{n}", max_concurrent=1)
    beat(virtual_pool, "large", max_concurrent=10)
    submit(virtual_pool, *(f"filler{n}" for n in range(6)), make_task("big", cost=4))
    for n in range(6):
        assign(virtual_pool, f"filler{n}", "large")

    agents = {agent.id for cls in look(virtual_pool).roles[0].classes for agent in cls.agents}

    assert "large" in agents


def test_view_judges_health_by_applied_heartbeats_not_by_the_clock(
    virtual_pool: Pool, clock: Clock
) -> None:
    """While nobody reads the heartbeats, silence says nothing."""
    submit(virtual_pool, "t1")
    beat(virtual_pool, "a1")
    clock.advance(3_600)

    assert look(virtual_pool).roles[0].classes[0].agents[0].health == 1.0
    beat(virtual_pool, "a2")
    healths = {agent.id: agent.health for agent in look(virtual_pool).roles[0].classes[0].agents}
    assert healths == {"a1": 0.2, "a2": 1.0}


def test_view_fetches_each_definition_once(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")
    beat(virtual_pool)
    viewer = views.Viewer(virtual_pool)
    first = viewer.view()
    virtual_pool.client.rename(virtual_pool.keys.lanedef, virtual_pool.keys.classdef + "x")
    moved = virtual_pool.client.hgetall(virtual_pool.keys.classdef + "x")

    assert viewer.view() == first
    virtual_pool.client.delete(virtual_pool.keys.classdef + "x")
    virtual_pool.client.hset(virtual_pool.keys.lanedef, mapping=moved)


def test_view_forgets_definitions_rather_than_grow(
    virtual_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MOST_KNOWN", 5)
    viewer = views.Viewer(virtual_pool)
    for n in range(12):
        beat(virtual_pool, f"a{n:02}", max_concurrent=n + 1)
        submit(virtual_pool, make_task(f"t{n:02}", category=f"c{n:02}"))
        view = viewer.view()
        assert view == look(virtual_pool)
        assert len(view.roles[0].classes) == len(view.roles[0].lanes) == n + 1
    for n in range(11):
        assign(virtual_pool, f"t{n:02}", "a11")
        complete(virtual_pool, f"t{n:02}")
        beat(virtual_pool, f"a{n:02}", max_concurrent=n + 1, mode="stopped")
    viewer.view()

    assert (len(viewer._lanes), len(viewer._classes)) == (1, 1)


@pytest.mark.damaged
def test_view_leaves_out_a_lane_whose_definition_is_gone_by_now(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1", make_task("t2", category="bug"))
    beat(virtual_pool)
    lane, _ = lane_definition(Lane("dev", "general", 1))
    virtual_pool.client.hdel(virtual_pool.keys.lanedef, lane)

    (role,) = look(virtual_pool).roles

    assert [lane.lane.category for lane in role.lanes] == ["bug"]


def test_locked_view_takes_the_lock_where_there_is_work(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    viewer = views.Viewer(virtual_pool)

    with changes(virtual_pool) as seen:
        first = viewer.locked_view("mine", 60_000)

    assert seen.state == {"drain_lock": "mine"}
    assert first == viewer.view() == viewer.locked_view("mine", 60_000)
    assert 50_000 < virtual_pool.client.pttl(virtual_pool.keys.drain_lock) <= 60_000


def test_locked_view_while_another_has_the_lock_is_none(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    views.Viewer(virtual_pool).locked_view("another's", 60_000)

    with changes(virtual_pool) as seen:
        assert views.Viewer(virtual_pool).locked_view("mine", 60_000) is None

    assert seen.nothing


@pytest.mark.parametrize("missing", ["work", "units"])
def test_locked_view_of_nothing_takes_no_lock(virtual_pool: Pool, missing: str) -> None:
    if missing == "units":
        submit(virtual_pool, "t1")
    else:
        beat(virtual_pool)

    with changes(virtual_pool) as seen:
        view = views.Viewer(virtual_pool).locked_view("mine", 60_000)

    assert view is not None
    assert view == views.Viewer(virtual_pool).view()
    assert not view.roles
    assert seen.nothing


# --- what `fit` asks of a view ---


def test_view_says_what_a_head_is_expected_to_take_its_priority_and_its_wish(
    virtual_pool: Pool,
) -> None:
    beat(virtual_pool)
    submit(
        virtual_pool,
        make_task("plain", estimate_s=90.0),
        make_task("urgent", priority=Priority.CRITICAL, estimate_s=0.5),
        make_task("choosy", priority=Priority.LOW, prefer_agent="a1", prefer_for_s=2.5),
    )

    heads = {head.task: head for head in look(virtual_pool, units=5).roles[0].lanes[0].heads}

    said = {id_: (head.priority, head.preference) for id_, head in heads.items()}
    assert said == {"urgent": (Priority.CRITICAL, None)}, "as many heads as there are free units"
    assert heads["urgent"].estimate_s == 0.5
    beat(virtual_pool, "a2", max_concurrent=8)
    heads = {head.task: head for head in look(virtual_pool).roles[0].lanes[0].heads}
    said = {id_: (head.priority, head.preference) for id_, head in heads.items()}
    assert said == {
        "urgent": (Priority.CRITICAL, None),
        "plain": (Priority.MEDIUM, None),
        "choosy": (Priority.LOW, Preference("a1", 2_500)),
    }
    assert heads["plain"].estimate_s == 90.0
    assert views.read_head(virtual_pool, "choosy") == heads["choosy"]


def test_view_says_how_an_agent_does_that_a_head_would_rather_have(
    virtual_pool: Pool, clock: Clock
) -> None:
    """Wherever it stands in its class; one that is full, too, but none that accepts nothing."""
    for n in range(8):
        beat(virtual_pool, f"a{n}", max_concurrent=2)
        clock.advance(1)
    beat(virtual_pool, "full")
    wished = ("a7", "full", "paused", "nobody")
    submit(virtual_pool, "t0", "t1", *(make_task(f"w-{id_}", prefer_agent=id_) for id_ in wished))
    assign(virtual_pool, "t0", "a7")
    assign(virtual_pool, "t1", "full")
    beat(virtual_pool, "paused", max_concurrent=2, mode="stopping")

    (role,) = look(virtual_pool, units=4).roles

    assert {id_: (named.agent.used, named.cls.max_concurrent) for id_, named in role.named.items()} == {
        "a7": (1, 2),
        "full": (1, 1),
    }  # fmt: skip
    (shown,) = role.classes
    assert [agent.id for agent in shown.agents][-1] == "a7"
    assert (shown.extra, shown.size, len(shown.agents)) == (1, 8, 7)


@pytest.mark.parametrize(
    ("strategy", "named"),
    [("best_match", {"a1"}), ("fit", {"a1"}), ("round_robin", set()), ("random", set())],
)
def test_where_nobody_looks_at_preferences_no_agent_is_read_for_them(
    virtual_pool: Pool, strategy: str, named: set[str]
) -> None:
    configure(virtual_pool, virtual_pool.settings.model_copy(update={"strategy": strategy}))
    beat(virtual_pool)
    submit(virtual_pool, make_task(prefer_agent="a1"))

    (role,) = look(virtual_pool).roles

    assert set(role.named) == named
    assert role.lanes[0].heads[0].preference is not None


def test_view_compares_with_all_that_accept_work_and_reads_them_when_they_change(
    virtual_pool: Pool,
) -> None:
    submit(virtual_pool, "t0", "t1", "t2")
    beat(virtual_pool, "a1", max_concurrent=2)
    beat(virtual_pool, "a2", max_concurrent=2)
    beat(virtual_pool, "fast", max_concurrent=3, speed=2.0)
    assign(virtual_pool, "t0", "a1")
    viewer = views.Viewer(virtual_pool)

    def units(view: View) -> list[tuple[float, int]]:
        fleet = view.roles[0].fleet
        assert fleet
        return sorted((cls.speed_of("x"), units) for cls, units in fleet.classes)

    first = viewer.view()
    assert units(first) == [(1.0, 4), (2.0, 3)]
    assign(virtual_pool, "t1", "a2")
    assert viewer.view().roles[0].fleet is first.roles[0].fleet, "a grant changes nothing of it"
    beat(virtual_pool, "fast", max_concurrent=3, speed=2.0, mode="stopping")
    assert units(viewer.view()) == [(1.0, 4)]


def test_view_says_how_long_the_roles_tasks_take(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")
    beat(virtual_pool)
    assert look(virtual_pool).roles[0].service_s == 0.0

    virtual_pool.client.hset(virtual_pool.keys.role("dev"), "service_us", "2500000")

    assert look(virtual_pool).roles[0].service_s == 2.5


def test_view_on_a_pool_that_is_not_ours_is_refused(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    assert_guarded(virtual_pool, views.SCRIPT, [0, 128, "mine", 100, 0])


@pytest.mark.parametrize(
    "args",
    [
        [],
        [0],
        ["nan", 1, "", 1, 0],
        [-1, 1, "", 1, 0],
        [1001, 1, "", 1, 0],
        [0, 0, "", 1, 0],
        [0, 129, "", 1, 0],
        [0, "0x10", "", 1, 0],
        ["1e3", 1, "", 1, 0],
        [0, "1.0", "", 1, 0],
        [0, 1, "mine"],
        [0, 1, "mine", 100],
        [0, 1, "", 1, -1],
        [0, 1, "", 1, "nan"],
        [0, 1, "", 1, 2**48],
        [0, 1, "mine", 0, 0],
        [0, 1, "mine", "nan", 0],
        [0, 1, "mine", 60_001, 0],
    ],
)
def test_view_with_a_bad_argument_is_refused(virtual_pool: Pool, args: list[object]) -> None:
    populate(virtual_pool)
    assert_bad_argument(virtual_pool, views.SCRIPT, args)
