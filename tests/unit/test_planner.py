"""The planner: who gets what, from a picture alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.fleet import Fleet
from balancer.core.lanes import AgentClass, Lane, feasible
from balancer.core.planner import Planner, Proposal, leaves_nothing
from balancer.core.settings import STRATEGY_NAMES, PoolSettings, Weights
from balancer.core.view import FreeAgent, FreeClass, Head, LaneView, RoleView, View

BEST = PoolSettings(strategy="best_match")


def agent(id_: str, most: int = 1, used: int = 0, **facts: Any) -> FreeAgent:
    known: dict[str, Any] = {"type": "", "health": 1.0, "freed_us": 0} | facts
    return FreeAgent(id_, max_concurrent=most, used=used, **known)


def cls(*agents: FreeAgent, specs: tuple[str, ...] = (), size: int | None = None) -> FreeClass:
    """A class of these agents, which have the same number of units."""
    return FreeClass(
        AgentClass("dev", specs, agents[0].max_concurrent), size or len(agents), list(agents)
    )


def lane(
    *tasks: tuple[int, str], category: str = "general", cost: int = 1, size: int | None = None
) -> LaneView:
    heads = [Head(order, task) for order, task in tasks]
    return LaneView(Lane("dev", category, cost), size or len(heads), heads)


def view(
    lanes: list[LaneView], classes: list[FreeClass], more: bool = False, units: int = 128
) -> View:
    return View(0, more, [RoleView("dev", lanes, classes, units)])


def plan(
    lanes: list[LaneView], classes: list[FreeClass], most: int = 128, **settings: Any
) -> list[Proposal]:
    return Planner(PoolSettings(**{"strategy": "best_match"} | settings)).plan(
        view(lanes, classes), most
    )


def pairs(proposals: list[Proposal]) -> list[tuple[str, str]]:
    return [(wish.task, wish.agent) for wish in proposals]


# --- order of tasks ---


def test_tasks_go_in_the_order_of_the_pool_whichever_lane_they_stand_in() -> None:
    lanes = [lane((1, "a"), (4, "d")), lane((2, "b"), (3, "c"), category="bug")]

    wishes = plan(lanes, [cls(agent("x", 4))])

    assert [wish.task for wish in wishes] == ["a", "b", "c", "d"]


def test_scarce_units_go_to_the_first_in_line() -> None:
    lanes = [lane((3, "late")), lane((1, "early"), category="bug")]

    assert pairs(plan(lanes, [cls(agent("x"))])) == [("early", "x")]


def test_nothing_beyond_the_picture_is_overtaken() -> None:
    """The lane holds more than its head: its next task may come before `later`."""
    lanes = [lane((1, "first"), size=2), lane((9, "later"), category="bug")]

    assert pairs(plan(lanes, [cls(agent("x", 5))])) == [("first", "x")]


def test_horizon_lies_behind_the_last_head_shown() -> None:
    lanes = [lane((1, "a"), (5, "b"), size=3), lane((2, "c"), (6, "d"), category="bug")]

    assert [wish.task for wish in plan(lanes, [cls(agent("x", 9))])] == ["a", "c", "b"]


def test_lane_that_nobody_can_serve_is_no_horizon() -> None:
    lanes = [lane((1, "huge"), cost=9, size=500), lane((2, "small"))]

    assert pairs(plan(lanes, [cls(agent("x"))])) == [("small", "x")]


def test_proposals_are_capped_over_all_roles() -> None:
    roles = [RoleView(role, [LaneView(Lane(role, "c", 1), 3, [Head(at + n, f"{role}{n}") for n in range(3)])],
                      [FreeClass(AgentClass(role, (), 5), 1, [agent(f"x-{role}", 5)])])
             for at, role in ((10, "ops"), (9, "dev"))]  # fmt: skip

    wishes = Planner(BEST).plan(View(0, False, roles), most=4)

    assert [wish.task for wish in wishes] == ["dev0", "ops0", "dev1", "ops1"]


# --- hard rules ---


def test_cost_must_fit_the_units_left() -> None:
    lanes = [lane((1, "big"), cost=3)]

    assert pairs(plan(lanes, [cls(agent("full", 4, 2)), cls(agent("fits", 5, 2))])) == [
        ("big", "fits")
    ]
    assert plan(lanes, [cls(agent("full", 4, 2))]) == []


def test_big_task_at_the_front_does_not_take_the_small_ones_place() -> None:
    """An agent too full for the first keeps its place for the second."""
    lanes = [lane((1, "big"), cost=3), lane((2, "small"))]

    wishes = plan(lanes, [cls(agent("a", 3, 1, freed_us=1), agent("b", 3, 0, freed_us=2))])

    assert pairs(wishes) == [("big", "b"), ("small", "a")]


def test_class_of_too_few_units_or_another_role_is_not_asked() -> None:
    assert not feasible(Lane("dev", "x", 4), AgentClass("dev", (), 3))
    assert not feasible(Lane("dev", "x", 1), AgentClass("ops", (), 3))
    assert feasible(Lane("dev", "x", 3), AgentClass("dev", ("y",), 3))


@pytest.mark.parametrize(
    ("health", "served"), [(1.0, True), (0.8, True), (0.5, True), (0.2, False)]
)
def test_agent_below_the_least_health_gets_nothing(health: float, served: bool) -> None:
    assert bool(plan([lane((1, "t"))], [cls(agent("x", health=health))])) is served


def test_least_health_is_a_setting() -> None:
    assert plan([lane((1, "t"))], [cls(agent("x", health=0.8))], min_health=0.9) == []
    assert plan([lane((1, "t"))], [cls(agent("x", health=0.2))], min_health=0.1)


def test_no_agent_is_given_more_than_it_can_hold() -> None:
    lanes = [lane(*((n, f"t{n}") for n in range(20)))]

    wishes = plan(lanes, [cls(agent("x", 3, 1), agent("y", 3, 0))])

    assert sorted(wish.agent for wish in wishes) == ["x", "x", "y", "y", "y"]


# --- choice ---


def test_best_match_is_the_sum_of_its_components() -> None:
    """weights.health x health + weights.load x (1 - used / max) + weights.specialization for a specialist."""
    weights = Weights(health=2.0, specialization=0.7, load=0.4)
    agents = [cls(agent("x", 4, 1, health=0.8, type="build-agent"), specs=("bug",))]

    (wish,) = plan([lane((1, "t"), category="bug")], agents, weights=weights)

    assert wish.scores == pytest.approx({"health": 1.6, "load": 0.3, "specialization": 0.7})
    assert wish.reason == "Best match: build-agent (score: 2.60)"
    assert (wish.task, wish.agent, wish.cost, wish.estimate_s) == ("t", "x", 1, 3_600 / 1.25)
    assert len(wish.nonce) == 32


def test_no_specialist_no_component() -> None:
    (wish,) = plan([lane((1, "t"), category="docs")], [cls(agent("x", 4, 1), specs=("bug",))])

    assert wish.scores == pytest.approx({"health": 1.0, "load": 0.15})
    assert wish.reason == "Best match: x (score: 1.15)", "an agent without a type goes by its id"


@pytest.mark.parametrize(
    ("one", "other", "better"),
    [
        (cls(agent("fresh", health=1.0)), cls(agent("late", health=0.8), specs=("x",)), "fresh"),
        (cls(agent("any")), cls(agent("specialist"), specs=("bug",)), "specialist"),
        (cls(agent("idle", 4, 0)), cls(agent("busy", 8, 4)), "idle"),
        (cls(agent("idle", 4, 0)), cls(agent("specialist", 8, 7), specs=("bug",)), "specialist"),
        (
            cls(agent("fresh", 4, 3, health=1.0)),
            cls(agent("specialist", 8, 0, health=0.5), specs=("bug",)),
            "fresh",
        ),
    ],
)
def test_best_match_weighs_health_then_specialization_then_load(
    one: FreeClass, other: FreeClass, better: str
) -> None:
    for classes in ([one, other], [other, one]):
        (wish,) = plan([lane((1, "t"), category="bug")], classes)
        assert wish.agent == better


def test_least_loaded_asks_for_load_alone() -> None:
    classes = [
        cls(agent("specialist", 4, 2, health=1.0), specs=("bug",)),
        cls(agent("emptier", 5, 2, health=0.5)),
    ]

    (wish,) = plan([lane((1, "t"), category="bug")], classes, strategy="least_loaded")

    assert wish.agent == "emptier"
    assert wish.scores == pytest.approx({"load": 0.6})
    assert wish.reason == "Least loaded: emptier (score: 0.60)"


@pytest.mark.parametrize("strategy", ["best_match", "least_loaded"])
def test_tie_goes_to_whose_unit_is_free_longest(strategy: str) -> None:
    short, long = agent("short", freed_us=200), agent("long", freed_us=100)

    for classes in (
        [cls(short, long)],
        [cls(long, short)],
        [cls(short), cls(long)],
        [cls(long), cls(short)],
    ):
        wishes = plan([lane((1, "t1"), (2, "t2"))], classes, strategy=strategy)
        assert pairs(wishes) == [("t1", "long"), ("t2", "short")]


def test_load_counts_what_this_plan_has_given_already() -> None:
    wishes = plan(
        [lane(*((n, f"t{n}") for n in range(4)))],
        [cls(agent("a", 2, freed_us=1), agent("b", 2, freed_us=2))],
    )

    assert [wish.agent for wish in wishes] == ["a", "b", "a", "b"]


def test_estimate_is_the_tasks_own_by_the_speed_of_the_agent() -> None:
    heads = [Head(1, "t1", 300), Head(2, "t2", 420)]
    lanes = [LaneView(Lane("dev", "bug", 1), 2, heads)]

    for specs, expected in (((), [300, 420]), (("bug",), [240, 336])):
        wishes = plan(lanes, [cls(agent("x", 2), specs=specs)])
        assert [wish.estimate_s for wish in wishes] == expected


def test_strategy_of_the_users_decides() -> None:
    class Alphabet:
        name = "by_the_alphabet"
        order = "load"

        def agent_part(self, agent: FreeAgent) -> dict[str, float]:
            return {"letter": -float(ord(agent.id[0]))}

        def match_part(self, lane: Lane, cls: AgentClass) -> dict[str, float]:
            return {}

    picture = view([lane((1, "t"))], [cls(agent("b"), agent("a"), agent("c"))])

    (wish,) = Planner(BEST, Alphabet()).plan(picture)

    assert (wish.agent, wish.reason) == ("a", "By the alphabet: a (score: -97.00)")


def test_every_lease_has_a_nonce_of_its_own() -> None:
    lanes = [lane(*((n, f"t{n}") for n in range(50)))]
    picture = view(lanes, [cls(agent("x", 50))])
    planner = Planner(BEST)

    nonces = [wish.nonce for _ in range(2) for wish in planner.plan(picture)]

    assert len(set(nonces)) == 100


def test_empty_pictures_give_empty_plans() -> None:
    assert Planner(BEST).plan(View(0, False, [])) == []
    assert plan([], [cls(agent("x"))]) == []
    assert plan([lane((1, "t"))], []) == []
    assert plan([lane()], [cls(agent("x"))]) == []


agents_of_a_class = st.tuples(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=4),
)
lanes_of_a_role = st.lists(
    st.tuples(st.integers(1, 5), st.lists(st.integers(0, 99), max_size=6, unique=True)), max_size=5
)


@given(st.lists(agents_of_a_class, max_size=4), lanes_of_a_role)
def test_any_plan_keeps_the_hard_rules_and_leaves_no_task_that_fits_who_is_not_kept(
    classes: list[tuple[int, list[tuple[int, int]]]], lanes: list[tuple[int, list[int]]]
) -> None:
    free = [
        cls(
            *(
                agent(f"a{i}.{j}", most, min(used, most), freed_us=freed)
                for j, (used, freed) in enumerate(members)
            ),
            specs=(f"s{i}",),
        )
        for i, (most, members) in enumerate(classes)
    ]
    waiting = [
        lane(*((order, f"t{i}.{order}") for order in sorted(orders)), category=f"c{i}", cost=cost)
        for i, (cost, orders) in enumerate(lanes)
    ]

    wishes, _, kept = Planner(BEST).decide(view(waiting, free))

    left = {a.id: a.max_concurrent - a.used for fc in free for a in fc.agents}
    for wish in wishes:
        left[wish.agent] -= wish.cost
    assert all(units >= 0 for units in left.values())
    left.pop(kept.get("dev", ""), None)
    taken = [wish.task for wish in wishes]
    assert len(set(taken)) == len(taken)
    for one in waiting:
        names = [head.task for head in one.heads]
        got = [name for name in names if name in taken]
        assert got == names[: len(got)], "within a lane, in order"
        assert len(got) == len(names) or all(units < one.lane.cost for units in left.values())


# --- whether to look again ---


def test_whole_picture_planned_leaves_nothing() -> None:
    picture = view([lane((1, "t"))], [cls(agent("x", 2))])

    assert leaves_nothing(picture, Planner(BEST).plan(picture))


@pytest.mark.parametrize(
    ("picture", "nothing"),
    [
        (view([lane((1, "t"), size=9)], [cls(agent("x", 1))]), True),
        (view([lane((1, "t"), size=9)], [cls(agent("x", 2))]), False),
        (view([lane((1, "t"))], [cls(agent("x", 1), size=9)]), True),
        (view([lane((1, "t"), (2, "u"))], [cls(agent("x", 1), size=9)]), False),
        (view([lane((1, "t"), (2, "u"))], [cls(agent("x", 2))], units=1), False),
        (view([lane((1, "t"))], [cls(agent("x", 1))], more=True), False),
        (view([lane((1, "t"), cost=2)], [cls(agent("x", 1))]), True),
    ],
)
def test_what_lies_beyond_the_picture_is_looked_at_again(picture: View, nothing: bool) -> None:
    assert leaves_nothing(picture, Planner(BEST).plan(picture)) is nothing


# --- tasks that go alone, or that agents gave back ---


def marked(*tasks: tuple[int, str], cost: int = 1, **marks: Any) -> LaneView:
    heads = [Head(order, task) for order, task in tasks]
    return LaneView(Lane("dev", "general", cost, **marks), len(heads), heads)


def test_a_task_that_goes_alone_takes_all_units_of_an_agent_that_holds_nothing() -> None:
    lanes = [marked((1, "suspect"), alone=True), lane((2, "b"), (3, "c"), category="bug")]

    wishes = plan(lanes, [cls(agent("busy", 4, used=1, freed_us=1), agent("idle", 4, freed_us=2))])

    assert pairs(wishes) == [("suspect", "idle"), ("b", "busy"), ("c", "busy")]
    assert [wish.cost for wish in wishes] == [4, 1, 1]


def test_a_task_that_goes_alone_waits_for_an_agent_that_gets_nothing_meanwhile() -> None:
    """Else a busy pool would never have one that holds nothing."""
    lanes = [marked((1, "suspect"), alone=True), lane((2, "b"), (3, "c"), (4, "d"), category="bug")]
    agents = cls(agent("x", 3, used=2), agent("nearest", 3, used=1), agent("y", 3, used=2))

    assert pairs(plan(lanes, [agents])) == [("b", "x"), ("c", "y")]


def test_only_one_agent_of_a_role_is_kept_for_tasks_that_go_alone() -> None:
    lanes = [
        marked((1, "one"), alone=True),
        marked((2, "two"), alone=True, cost=2),
        lane((3, "c"), category="bug"),
    ]

    assert pairs(plan(lanes, [cls(agent("x", 2, used=1), agent("y", 2, used=1))])) == [("c", "y")]


def test_a_task_that_goes_alone_needs_its_cost_all_the_same() -> None:
    assert plan([marked((1, "t"), alone=True, cost=3)], [cls(agent("small", 2))]) == []


def test_two_that_go_alone_take_two_agents() -> None:
    wishes = plan(
        [marked((1, "a"), (2, "b"), (3, "c"), alone=True)], [cls(agent("x", 2), agent("y", 2))]
    )

    assert pairs(wishes) == [("a", "x"), ("b", "y")]


@pytest.mark.parametrize(("until_ms", "chosen"), [(1, ["other"]), (0, ["best"])])
def test_an_agent_that_gave_a_task_back_is_avoided_for_a_while(
    until_ms: int, chosen: list[str]
) -> None:
    lanes = [marked((1, "t"), avoid=("best",), avoid_until_ms=until_ms)]
    agents = cls(agent("best", 4), agent("other", 4, used=3))

    assert [wish.agent for wish in plan(lanes, [agents])] == chosen


def test_the_only_agent_gets_what_it_gave_back_later_and_other_work_meanwhile() -> None:
    lanes = [marked((1, "t"), avoid=("x",), avoid_until_ms=1), lane((2, "b"), category="bug")]

    assert pairs(plan(lanes, [cls(agent("x", 4))])) == [("b", "x")]


# --- units kept free for large costs ---


def test_a_task_that_no_free_agent_can_hold_has_one_kept_for_it() -> None:
    """The nearest: with most units free, then the one whose last unit came free longest ago."""
    lanes = [lane((1, "big"), cost=3), lane((2, "b"), (3, "c"), (4, "d"), (5, "e"), category="bug")]
    agents = cls(agent("x", 4, 3), agent("late", 4, 2, freed_us=9), agent("near", 4, 2, freed_us=5))

    wishes, is_last, kept = Planner(BEST).decide(view(lanes, [agents]))

    assert pairs(wishes) == [("b", "late"), ("c", "x"), ("d", "late")]
    assert (is_last, kept) == (True, {"dev": "near"})


def test_those_that_come_first_in_line_have_their_units_first() -> None:
    lanes = [lane((1, "b"), (2, "c"), category="bug"), lane((3, "big"), cost=3)]

    wishes, _, kept = Planner(BEST).decide(view(lanes, [cls(agent("x", 4, 2))]))

    assert pairs(wishes) == [("b", "x"), ("c", "x")]
    assert kept == {}


def test_nobody_is_kept_for_a_task_that_no_class_can_hold() -> None:
    lanes = [lane((1, "huge"), cost=9), lane((2, "b"), category="bug")]

    wishes, _, kept = Planner(BEST).decide(view(lanes, [cls(agent("x", 2, 1))]))

    assert (pairs(wishes), kept) == ([("b", "x")], {})


def test_nobody_is_kept_who_may_not_have_the_task() -> None:
    lanes = [marked((1, "big"), cost=2, avoid=("x",), avoid_until_ms=1)]
    picture = view(lanes, [cls(agent("x", 2, 1))])

    assert Planner(BEST).decide(picture).kept == {}


def test_one_agent_of_a_role_is_kept_on_all_pages() -> None:
    planner = Planner(BEST)
    agents = [cls(agent("x", 4, 3), agent("y", 4, 2))]
    first = view([lane((1, "big"), cost=3)], agents, more=True)
    second = view([lane((2, "large"), cost=4), lane((3, "b"), (4, "c"), category="bug")], agents)

    kept = planner.decide(first).kept
    wishes, _, still = planner.decide(second, kept=kept)

    assert kept == still == {"dev": "y"}
    assert pairs(wishes) == [("b", "x")]


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_every_strategy_keeps_units_for_large_costs(strategy: str) -> None:
    lanes = [lane((1, "big"), cost=2), lane((2, "b"), category="bug")]

    decision = Planner(PoolSettings(strategy=strategy)).decide(view(lanes, [cls(agent("x", 2, 1))]))

    assert (decision.proposals, decision.kept) == ([], {"dev": "x"})


def test_a_plan_that_left_nobody_out_is_the_last_though_units_are_free() -> None:
    lanes = [lane((1, "t")), lane((2, "huge"), cost=9)]
    classes = [cls(agent("x", 5), size=7)]

    assert Planner(BEST).decide(view(lanes, classes)).is_last
    assert not Planner(BEST).decide(view(lanes, classes, more=True)).is_last
    beyond = [lane((1, "t"), size=2), lane((2, "huge"), cost=9)]
    assert not Planner(BEST).decide(view(beyond, classes)).is_last


@pytest.mark.parametrize(
    ("shown", "classes", "looks"),
    [(255, 300, 1), (256, 256, 1), (256, 257, 2), (256, 320, 2), (256, 321, 3), (256, 1_000, 13)],
)
def test_as_many_looks_as_show_all_classes(shown: int, classes: int, looks: int) -> None:
    kinds = [AgentClass("dev", (f"s{n}",), 1) for n in range(classes)]
    role = RoleView(
        "dev",
        [lane((1, "t"))],
        [FreeClass(kind, 1, [agent(f"a{n}")]) for n, kind in enumerate(kinds[:shown])],
        fleet=Fleet((kind, 1) for kind in kinds),
    )

    assert View(0, False, [role]).looks == looks
