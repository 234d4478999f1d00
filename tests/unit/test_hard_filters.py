"""No strategy gives a task to an agent that may not have it. The rules stand here a second time."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.fleet import Fleet
from balancer.core.lanes import AgentClass, Gate, Lane
from balancer.core.planner import Planner
from balancer.core.settings import STRATEGY_NAMES, PoolSettings
from balancer.core.view import FreeAgent, FreeClass, Head, LaneView, Named, RoleView, View

ROLES, NAMES = ("dev", "ops"), tuple(f"a{n}" for n in range(8))
NOW_MS = 1_760_000_000_000


class Somebody(NamedTuple):
    """An agent that is live and accepts work; busy ones are in no free index."""

    name: str
    role: str
    units: int
    used: int
    go: int
    ui: int
    speed: float
    health: float
    gate: Gate

    @property
    def cls(self) -> AgentClass:
        levels = {"go": self.go, "ui": self.ui}
        skills = tuple((skill, level) for skill, level in levels.items() if level)
        return AgentClass(self.role, (), self.units, skills, (("", self.speed),), gate=self.gate)

    @property
    def free(self) -> FreeAgent:
        return FreeAgent(self.name, "", self.units, self.used, self.health, 0)

    def can(self, lane: Lane) -> bool:
        """Whether it might have a task of this lane, were it idle, well, and had nothing happened."""
        levels = {"go": self.go, "ui": self.ui}
        skilled = all(levels[skill] >= level for skill, level in lane.requires)
        return self.role == lane.role and lane.cost <= self.units and skilled


people = st.builds(
    Somebody,
    name=st.just(""),
    role=st.sampled_from(ROLES[:1] * 3 + ROLES[1:]),
    units=st.integers(1, 4),
    used=st.integers(0, 4),
    go=st.integers(0, 3),
    ui=st.integers(0, 1),
    speed=st.sampled_from([1.0, 1.0, 2.0]),
    health=st.sampled_from([1.0, 1.0, 0.8, 0.5, 0.2]),
    gate=st.sampled_from([Gate.OPEN, Gate.OPEN, Gate.SHUT, Gate.PROBE]),
)
fleets = st.lists(people, min_size=1, max_size=8).map(
    lambda found: [
        one._replace(name=name, used=min(one.used, one.units))
        for name, one in zip(NAMES, found, strict=False)
    ]
)
some_names = st.sets(st.sampled_from([*NAMES, "unknown"])).map(lambda found: tuple(sorted(found)))
lanes = st.builds(
    Lane,
    role=st.sampled_from(ROLES[:1] * 3 + ROLES[1:]),
    category=st.sampled_from(["bug", "docs"]),
    cost=st.integers(1, 3),
    alone=st.sampled_from([False, False, True]),
    avoid=some_names.map(lambda found: found[:3]),
    avoid_until_ms=st.sampled_from([NOW_MS - 1, NOW_MS + 5_000]),
    requires=st.sampled_from([(), (), (("go", 2),), (("go", 1), ("ui", 1))]),
    tried=some_names,
)


def able(fleet: list[Somebody], lane: Lane) -> list[Somebody]:
    """Those who may have its tasks, were they idle and well: none that is shut out, while others could."""
    could = [one for one in fleet if one.can(lane)]
    trusted = any(one.gate is Gate.OPEN for one in could)
    return [one for one in could if not (trusted and one.gate is Gate.SHUT)]


def trying(fleet: list[Somebody], lane: Lane) -> set[str]:
    """Those that its tasks wait for once they failed: whoever has not tried, and is not gated while others are not."""
    could = able(fleet, lane)
    trusted = any(one.gate is Gate.OPEN for one in could)
    return {one.name for one in could if not (trusted and one.gate)} - set(lane.tried)


def probes(fleet: list[Somebody], lane: Lane) -> bool:
    """Whether those that are probed have a task of this lane only while they hold nothing."""
    return any(one.can(lane) and one.gate is Gate.OPEN for one in fleet)


waiting = st.lists(st.tuples(lanes, st.integers(1, 3)), min_size=1, max_size=5)


def picture(fleet: list[Somebody], queue: list[tuple[Lane, int]]) -> View:
    views = []
    for role in ROLES:
        of_role = [one for one in fleet if one.role == role]
        kinds = list(dict.fromkeys(one.cls for one in of_role))
        members = {kind: [one for one in of_role if one.cls == kind] for kind in kinds}
        free = {kind: [one.free for one in members[kind] if one.used < one.units] for kind in kinds}
        mine = {lane: count for lane, count in queue if lane.role == role}
        named = {name for lane in mine for name in lane.tried}
        views.append(
            RoleView(
                role,
                [
                    LaneView(
                        lane, count, [Head(float(n + m), f"{role}{n}.{m}") for m in range(count)]
                    )
                    for n, (lane, count) in enumerate(mine.items())
                ],
                [FreeClass(kind, len(free[kind]), free[kind]) for kind in kinds if free[kind]],
                fleet=Fleet((kind, kind.max_concurrent * len(members[kind])) for kind in kinds),
                named={one.name: Named(one.cls, one.free) for one in of_role if one.name in named},
            )
        )
    return View(NOW_MS, False, views)


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
@settings(max_examples=100, deadline=None)
@given(fleet=fleets, queue=waiting)
def test_whoever_gets_a_task_may_have_it(
    strategy: str, fleet: list[Somebody], queue: list[tuple[Lane, int]]
) -> None:
    view = picture(fleet, queue)
    lane_of = {
        head.task: shown.lane for role in view.roles for shown in role.lanes for head in shown.heads
    }
    planner = Planner(PoolSettings(strategy=strategy, seed=1, min_health=0.5))
    used = {one.name: one.used for one in fleet}
    by_name = {one.name: one for one in fleet}

    wishes = planner.plan(view)

    assert len({wish.task for wish in wishes}) == len(wishes)
    for wish in wishes:
        lane, agent = lane_of[wish.task], by_name[wish.agent]
        assert agent.can(lane), "role, skills, size"
        assert agent.health >= 0.5
        assert lane.avoid_until_ms <= NOW_MS or agent.name not in lane.avoid
        assert agent in able(fleet, lane), "it fails too often"
        probed = agent.gate is Gate.PROBE and probes(fleet, lane)
        assert not (probed and used[agent.name]), "one task"
        others = trying(fleet, lane)
        assert not (others and agent.name in lane.tried), f"{others} have not tried"
        assert not (lane.alone and used[agent.name]), "alone"
        used[agent.name] += agent.units if lane.alone else lane.cost
        assert used[agent.name] <= agent.units


@pytest.mark.parametrize("gate", [Gate.SHUT, Gate.PROBE])
@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_who_is_gated_is_not_counted_among_those_that_have_not_tried(
    strategy: str, gate: Gate
) -> None:
    """One that is probed holds its one task."""
    good = Somebody("good", "dev", 1, 1, 0, 0, 1.0, 1.0, Gate.OPEN)
    other = good._replace(name="other", used=0)
    bad = good._replace(name="bad", units=2, gate=gate)
    planner = Planner(PoolSettings(strategy=strategy))

    def gets(*tried: str) -> list[str]:
        lane = Lane("dev", "bug", 1, tried=tried)
        return [wish.agent for wish in planner.plan(picture([good, other, bad], [(lane, 1)]))]

    assert gets("bad", "other") == [], "good has not tried"
    assert gets("bad", "good", "other") == ["other"], "all who could have it have tried"
    assert gets("good", "other") == ["other"], "bad could not have it"
    assert gets("bad") == gets("good") == ["other"]


@settings(max_examples=100, deadline=None)
@given(fleet=fleets, lane=lanes)
def test_a_single_task_waits_for_nothing_but_the_rules(fleet: list[Somebody], lane: Lane) -> None:
    """What they let through is granted: none of them says more than it should."""
    others = trying(fleet, lane)
    may = {
        one.name
        for one in able(fleet, lane)
        if not (one.gate is Gate.PROBE and probes(fleet, lane) and one.used)
        and one.health >= 0.5
        and one.units - one.used >= (one.units if lane.alone else lane.cost)
        and not (lane.avoid_until_ms > NOW_MS and one.name in lane.avoid)
        and not (others and one.name in lane.tried)
    }

    wishes = Planner(PoolSettings(strategy="least_loaded")).plan(picture(fleet, [(lane, 1)]))

    assert {wish.agent for wish in wishes} <= may
    assert bool(wishes) == bool(may)
