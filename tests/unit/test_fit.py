"""The strategy `fit`: its formulas, and what a plan does with them."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.core.fleet import Fleet, Rung
from balancer.core.lanes import AgentClass, Lane
from balancer.core.model import Priority
from balancer.core.plan.fit import Formula, better_takes_s, kept_share
from balancer.core.planner import Planner, Proposal
from balancer.core.queue_order import Queue, QueueOrder
from balancer.core.settings import PoolSettings
from balancer.core.view import (
    FreeAgent,
    FreeClass,
    Head,
    LaneView,
    Named,
    Preference,
    RoleView,
    View,
)

FIT = PoolSettings(strategy="fit")
ORDER = QueueOrder.of(FIT, Queue.EFFORT)
#: The time of all plans here, and of what is ready at 0 unless something else is said.
NOW_S = 1_000.0


def head(
    task: str,
    estimate_s: float = 100.0,
    ready_s: float = NOW_S,
    priority: Priority = Priority.MEDIUM,
    prefers: str = "",
) -> Head:
    order_us = 1e6 * ready_s + ORDER.delay_us(priority, round(1_000 * estimate_s))
    return Head(
        order_us, task, estimate_s, priority, Preference(prefers, 600_000) if prefers else None
    )


def lane(*heads: Head, category: str = "bug", size: int = 0, **facts: Any) -> LaneView:
    kind = Lane("dev", category, **({"cost": 1} | facts))
    ordered = sorted(heads, key=lambda one: one.order_us)
    return LaneView(kind, size or len(heads), ordered)


def agent(id_: str, most: int = 1, used: int = 0, **facts: Any) -> FreeAgent:
    known: dict[str, Any] = {"type": "", "health": 1.0, "freed_us": 0} | facts
    return FreeAgent(id_, max_concurrent=most, used=used, **known)


def cls(speed: float, units: int = 1, **by_category: float) -> AgentClass:
    speeds = {"": speed} | by_category
    return AgentClass("dev", (), units, speeds=tuple(sorted(speeds.items())))


def free(kind: AgentClass, *agents: FreeAgent, size: int = 0, extra: int = 0) -> FreeClass:
    return FreeClass(kind, size or len(agents), list(agents), extra)


def plan(
    lanes: list[LaneView],
    classes: list[FreeClass],
    fleet: list[tuple[AgentClass, int]] | None = None,
    settings: PoolSettings = FIT,
    **role: Any,
) -> list[Proposal]:
    """`fleet`: classes with the units of all that accept work; without it those that are free."""
    all_ = Fleet(fleet) if fleet is not None else None
    picture = RoleView("dev", lanes, classes, 128, all_, **role)
    return Planner(settings).plan(View(round(1_000 * NOW_S), False, [picture]))


def pairs(wishes: list[Proposal]) -> list[tuple[str, str]]:
    return [(wish.task, wish.agent) for wish in wishes]


# --- formulas ---


def test_index_is_ready_time_plus_size_over_weight_ageing_and_relative_speed() -> None:
    formula = Formula(FIT)
    one = head("t", estimate_s=60, ready_s=7, priority=Priority.HIGH)

    def seconds(rung: Rung) -> float:
        return formula.index_us(one, rung) / 1e6

    assert seconds(Rung(2.0, 0.0, 0, 0.0)) == pytest.approx(7 + 60 / (4 * 0.2))
    assert seconds(Rung(0.5, 3.0, 9, 2.0)) == pytest.approx(7 + 60 / (4 * 0.2 * (0.5 / 2.0)))


def test_ready_time_is_read_back_from_the_place_in_line() -> None:
    strict = PoolSettings(strategy="fit", strict_priority=True)
    order = QueueOrder.of(strict, Queue.EFFORT)
    for priority in Priority:
        at = Head(5e6 + order.delay_us(priority, 60_000), "t", 60.0, priority)
        assert Formula(strict).ready_us(at) == pytest.approx(5e6)


def test_better_agents_take_their_share_of_the_line_and_their_own_time() -> None:
    """M x (1 + n) / U + p / b."""
    rung = Rung(1.0, 1.0, 4, 2.0)

    assert better_takes_s(100.0, rung, service_s=30.0, waiting=3) == 30 * 4 / 4 + 50
    assert better_takes_s(100.0, rung, service_s=0.0, waiting=3) == 50 * 4 / 4 + 50


@pytest.mark.parametrize(
    ("estimate_s", "waited_s", "held"),
    [(100, 0, False), (600, 0, True), (600, 600, True), (600, 601, False)],
)
def test_guard_holds_back_what_a_better_agent_will_have_done_until_it_should_have(
    estimate_s: float, waited_s: float, held: bool
) -> None:
    """G = 50 x 2 / 1 + p / 2, slack 1.5: 100 s on this agent are within 225; 600 are not within 600 unless waited."""
    rung = Rung(0.5, 3.0, 1, 2.0)
    waiting = head("t", estimate_s, ready_s=NOW_S - waited_s)

    assert Formula(FIT).holds_back(waiting, rung, 50.0, 1, round(1_000 * NOW_S)) is held


def test_nobody_is_better_than_the_best() -> None:
    best = Rung(2.0, 0.0, 0, 0.0)

    assert not Formula(FIT).holds_back(head("t", 1e6), best, 1.0, 1, 0)


def test_health_is_a_mild_penalty() -> None:
    assert [kept_share(health) for health in (1.0, 0.8, 0.5)] == pytest.approx([1.0, 0.98, 0.95])


def test_ladder_compares_a_class_with_all_that_accept_work() -> None:
    slow, middle, near, fast = cls(1.0), cls(2.0), cls(2.05), cls(4.0, bug=1.0)
    ladder = Fleet([(slow, 10), (middle, 4), (near, 3), (fast, 2)]).ladder(Lane("dev", "x", 1))

    assert ladder.rung(fast) == Rung(4.0, 0.0, 0, 0.0)
    assert ladder.rung(near) == pytest.approx(Rung(2.05, 4 / 2.05 - 1, 2, 4.0))
    assert ladder.rung(middle) == Rung(2.0, 1.0, 2, 4.0), "2.05 is not more than 5 % faster"
    assert ladder.rung(slow) == pytest.approx(Rung(1.0, 3.0, 9, (8 + 6.15 + 8) / 9))


def test_ladder_knows_only_who_may_serve_the_lane() -> None:
    able = AgentClass("dev", (), 2, (("python", 3),))
    fleet = Fleet([(able, 2), (AgentClass("dev", (), 2, (("python", 2),)), 2), (cls(9.0), 5)])
    ladder = fleet.ladder(Lane("dev", "x", 2, requires=(("python", 3),)))

    assert ladder.rung(able) == Rung(1.0, 0.0, 0, 0.0)
    assert [ladder.rung(other) for other, _ in fleet.classes[1:]] == [None, None]


# --- which agent ---


def test_task_goes_to_the_fastest_in_its_category() -> None:
    kinds = [cls(1.0), cls(1.2, bug=0.9), cls(0.8, bug=1.5)]
    names = ["plain", "fast", "specialist"]
    classes = [free(kind, agent(name)) for kind, name in zip(kinds, names, strict=True)]

    (wish,) = plan([lane(head("t", 300))], classes)

    assert wish.agent == "specialist"
    assert wish.estimate_s == pytest.approx(200)
    assert wish.scores == {"speed": 1.5}
    assert (wish.strategy, wish.reason) == ("fit", "Fit: specialist (score: 1.50)")
    assert pairs(plan([lane(head("t"), category="docs")], classes)) == [("t", "fast")]


def test_equally_fast_ties_go_to_most_free_units_then_to_the_longest_idle() -> None:
    one, two = cls(1.0, 4), cls(1.0, 8)
    late, early = agent("late", 4, 1, freed_us=9), agent("early", 4, 1, freed_us=5)

    for classes in (
        [free(one, late, early), free(two, agent("many", 8, 2))],
        [free(two, agent("many", 8, 2)), free(one, early, late)],
    ):
        wishes = plan([lane(*(head(f"t{n}", ready_s=n) for n in range(5)))], classes)
        assert [wish.agent for wish in wishes] == [*["many"] * 4, "early"]


def test_a_less_healthy_agent_goes_behind_a_slightly_slower_one_only() -> None:
    ill = free(cls(1.0), agent("ill", health=0.5))

    (wish,) = plan([lane(head("t"))], [ill, free(cls(0.97), agent("well"))])
    assert wish.agent == "well"
    (wish,) = plan([lane(head("t"))], [ill, free(cls(0.9), agent("well"))])
    assert wish.agent == "ill"
    assert wish.scores == pytest.approx({"speed": 1.0, "health": -0.05})
    assert wish.estimate_s == 100, "what it is expected to take is not a matter of health"
    assert plan([lane(head("t"))], [free(cls(1.0), agent("dying", health=0.2))]) == []


# --- which task ---


def test_short_and_heavy_tasks_go_first_and_old_ones_are_not_forgotten() -> None:
    waiting = lane(
        head("long", 100), head("short", 10), head("urgent", 30, priority=Priority.CRITICAL)
    )
    wishes = plan([waiting], [free(cls(1.0, 3), agent("x", 3))])
    assert [wish.task for wish in wishes] == ["urgent", "short", "long"]

    waiting = lane(head("old", 100, ready_s=NOW_S - 300), head("short", 10))
    assert plan([waiting], [free(cls(1.0), agent("x"))])[0].task == "old"


def test_an_agent_gets_the_task_that_suits_it() -> None:
    """Both wait as long for as much; the agent is as fast as any for bugs, slower than others for docs."""
    mine, others = cls(1.0), cls(1.0, docs=1.5)
    lanes = [lane(head("docs"), category="docs"), lane(head("bug"))]

    (wish,) = plan(lanes, [free(mine, agent("x"))], [(mine, 1), (others, 1)])

    assert wish.task == "bug"


def test_a_lane_whose_fast_agents_are_taken_goes_back_in_line() -> None:
    """`a` comes first with the fast agent, and again with the slow one only after `b`, which all do alike."""
    fast, slow = cls(2.0, b=1.0), cls(1.0)
    lanes = [
        lane(head("a1", 10), head("a2", 11), category="a"),
        lane(head("b", 15), category="b"),
    ]

    wishes = plan(
        lanes, [free(fast, agent("fast")), free(slow, agent("slow"))], [(fast, 1), (slow, 1)]
    )

    assert pairs(wishes) == [("a1", "fast"), ("b", "slow")]


def test_every_lane_is_looked_at_until_nobody_is_left() -> None:
    kind = cls(1.0, 2)
    lanes = [lane(*(head(f"{c}{n}") for n in range(3)), category=c) for c in "xyz"]

    wishes = plan(lanes, [free(kind, *(agent(f"a{n}", 2) for n in range(5)))])

    assert sorted(wish.task for wish in wishes) == [f"{c}{n}" for c in "xyz" for n in range(3)]


def test_nothing_beyond_the_picture_is_overtaken() -> None:
    kind = cls(1.0, 5)
    lanes = [lane(head("first", 1), size=2), lane(head("later", 500), category="docs")]

    assert pairs(plan(lanes, [free(kind, agent("x", 5))])) == [("first", "x")]


def test_agents_beyond_the_picture_are_not_replaced_by_slower_ones() -> None:
    fast, slow = cls(2.0), cls(1.0)
    classes = [free(fast, agent("fast"), size=2), free(slow, agent("slow"))]

    assert pairs(plan([lane(head("a", 1), head("b", 1, NOW_S + 1))], classes)) == [("a", "fast")]
    equal = [free(fast, agent("fast"), size=2), free(cls(2.0, docs=1.0), agent("other"))]
    assert len(plan([lane(head("a"), head("b"))], equal)) == 2, "as fast: no reason to look again"


# --- the guard ---

FAST, SLOW = cls(2.0), cls(0.5)
SLOW_FREE = [free(SLOW, agent("slow"))]


def guarded(ready_s: float = NOW_S, size: int = 1, **role: Any) -> list[tuple[str, str]]:
    """A long task, two fast agents at work, a slow one free."""
    all_ = role.pop("fleet", [(FAST, 2), (SLOW, 1)])
    waiting = role.pop("lane", None) or lane(head("t", 1_000, ready_s), size=size)
    return pairs(plan([waiting], SLOW_FREE, all_, service_s=100.0, **role))


def test_a_slow_agent_waits_while_better_ones_will_be_sooner() -> None:
    """2,000 s on the slow one; better ones within 100 x 2 / 2 + 500."""
    assert guarded() == []
    assert guarded(size=20) == [("t", "slow")], "100 x 21 / 2 + 500 is too long to wait for"


def test_other_lanes_have_the_slow_agent_meanwhile() -> None:
    lanes = [lane(head("t", 1_000)), lane(head("short", 10), category="docs")]

    wishes = plan(lanes, SLOW_FREE, [(FAST, 2), (SLOW, 1)], service_s=100.0)

    assert pairs(wishes) == [("short", "slow")]


def test_better_agents_that_accept_nothing_are_not_waited_for() -> None:
    """Paused, off, stopped or lost: they are not of the fleet then."""
    assert guarded(fleet=[(SLOW, 1)]) == [("t", "slow")]


def test_better_agents_that_failed_this_task_are_not_waited_for() -> None:
    fast = {f"f{n}": Named(FAST, agent(f"f{n}", 1, 1)) for n in range(2)}

    def with_tried(*names: str) -> list[tuple[str, str]]:
        waiting = lane(head("t", 1_000), tried=names)
        return guarded(lane=waiting, named={name: fast[name] for name in names})

    assert with_tried("f0") == [], "f1 is left to wait for"
    assert with_tried("f0", "f1") == [("t", "slow")]


def test_better_agents_that_stay_busy_are_not_waited_for_longer_than_foreseen() -> None:
    """Slack 1.5 x (100 x 2 / 2 + 500) = 900 s after it became ready."""
    assert guarded(NOW_S - 900) == []
    assert guarded(NOW_S - 901) == [("t", "slow")]


def test_a_lane_that_is_held_back_is_looked_at_again_when_its_agent_is_taken() -> None:
    """The guard refuses `better`, for the one rare fast agent. When another lane has taken `better`, it is asked about
    `common`, and nearly all that are better than that are as slow.
    """
    rare, better, common = cls(4.0), cls(1.0), cls(0.94)
    lanes = [
        lane(head("t", 1_000)),
        lane(head("short", 10, NOW_S + 10_000), category="docs"),  # behind t in line
    ]
    fleet = [(rare, 10), (better, 10_000), (common, 1)]
    classes = [free(better, agent("better")), free(common, agent("common"))]

    assert pairs(plan(lanes[:1], classes, fleet, service_s=100.0)) == []
    assert pairs(plan(lanes, classes, fleet, service_s=100.0)) == [
        ("short", "better"),
        ("t", "common"),
    ]


def test_slack_is_a_setting() -> None:
    loose = PoolSettings(strategy="fit", guard_slack=10.0)

    assert plan([lane(head("t", 1_000))], SLOW_FREE, [(FAST, 2), (SLOW, 1)], loose)


# --- agents that failed the task ---


def test_an_agent_that_failed_a_task_gets_it_again_only_after_all_others() -> None:
    kind = cls(1.0)
    tried, other = agent("tried"), agent("other")

    def wishes(*free_agents: FreeAgent, accepting: int, named: tuple[str, ...]) -> list[Proposal]:
        known = {name: Named(kind, agent(name)) for name in named}
        waiting = lane(head("t"), tried=("tried", "gone"))
        return plan([waiting], [free(kind, *free_agents)], [(kind, accepting)], named=known)

    assert [w.agent for w in wishes(tried, other, accepting=2, named=("tried",))] == ["other"]
    assert wishes(tried, accepting=2, named=("tried",)) == [], "the other one is busy"
    assert [w.agent for w in wishes(tried, accepting=1, named=("tried",))] == ["tried"]
    assert wishes(tried, accepting=3, named=("tried", "gone")) == []


def test_an_agent_that_failed_a_task_has_others_meanwhile() -> None:
    kind = cls(1.0)
    lanes = [lane(head("t", 1), tried=("x",)), lane(head("u"), category="docs")]
    named = {"x": Named(kind, agent("x"))}

    wishes = plan(lanes, [free(kind, agent("x"))], [(kind, 2)], named=named)

    assert pairs(wishes) == [("u", "x")]


# --- preferred agents ---


def preferring(
    speed: float, ready_s: float = NOW_S, **facts: Any
) -> tuple[FreeAgent | None, list[Proposal]]:
    """A task that would rather have `mine`, of this speed; `best` has speed 1."""
    mine, best = cls(speed, 2), cls(1.0, 2)
    wanted = agent("mine", 2, **facts)
    classes = [free(best, agent("best", 2)), free(mine, wanted)]
    waiting = lane(head("t", ready_s=ready_s, prefers="mine"))
    return wanted, plan([waiting], classes, named={"mine": Named(mine, wanted)})


@pytest.mark.parametrize(("speed", "chosen"), [(0.67, "mine"), (0.66, "best"), (3.0, "mine")])
def test_a_preferred_agent_is_taken_unless_it_is_much_slower(speed: float, chosen: str) -> None:
    _, (wish,) = preferring(speed)

    assert wish.agent == chosen
    assert ("preferred" in wish.scores) is (chosen == "mine")
    assert wish.estimate_s == pytest.approx(100 / (speed if chosen == "mine" else 1.0))


def test_a_preference_ends_and_never_makes_a_task_wait() -> None:
    assert [wish.agent for wish in preferring(0.9, NOW_S - 600)[1]] == ["mine"]
    assert [wish.agent for wish in preferring(0.9, NOW_S - 601)[1]] == ["best"]
    full = {"mine": Named(cls(1.0), agent("mine", 1, 1))}
    waiting = lane(head("t", prefers="mine"))
    assert pairs(plan([waiting], [free(cls(1.0), agent("x"))], named=full)) == [("t", "x")]
    assert pairs(plan([waiting], [free(cls(1.0), agent("x"))])) == [("t", "x")], "not live"


def test_a_preferred_agent_that_may_not_have_the_task_does_not_get_it() -> None:
    kind = cls(1.0, 4)
    named = {"mine": Named(kind, agent("mine", 4, 2))}
    classes = [free(kind, agent("mine", 4, 2), agent("x", 4))]

    for barred in ({"tried": ("mine",)}, {"cost": 3}, {"alone": True}):
        waiting = lane(head("t", prefers="mine"), **barred)
        (wish,) = plan([waiting], classes, [(kind, 8)], named=named)
        assert wish.agent == "x", barred


def test_the_next_task_of_a_lane_keeps_its_place_after_a_preferred_agent() -> None:
    slow, fast = cls(1.0), cls(1.4)
    lanes = [
        lane(head("a1", 10, prefers="slow"), head("a2", 12)),
        lane(head("b", 13), category="docs"),
    ]
    named = {"slow": Named(slow, agent("slow"))}

    wishes = plan(lanes, [free(slow, agent("slow")), free(fast, agent("fast"))], named=named)

    assert pairs(wishes) == [("a1", "slow"), ("a2", "fast")]


@pytest.mark.parametrize(("classes", "is_last"), [(255, True), (256, False)])
def test_a_plan_that_may_not_have_seen_all_classes_is_not_the_last(
    classes: int, is_last: bool
) -> None:
    kinds = [cls(1.0 + n / 1_000) for n in range(classes)]
    shown = [free(kind, agent(f"a{n}")) for n, kind in enumerate(kinds)]
    lanes = [lane(head("t1")), lane(head("large"), cost=2)]

    decision = Planner(FIT).decide(View(0, False, [RoleView("dev", lanes, shown)]))

    assert [wish.task for wish in decision.proposals] == ["t1"]
    assert decision.is_last is is_last
