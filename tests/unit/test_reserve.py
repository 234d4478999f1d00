"""Whom a plan keeps free for a task that no free agent can hold: the one that should have room first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from balancer.core.lanes import AgentClass, Lane
from balancer.core.planner import Planner
from balancer.core.settings import PoolSettings
from balancer.core.view import FreeAgent, FreeClass, Head, Held, LaneView, RoleView, View

NOW_MS = 100_000_000
CLASS = AgentClass("dev", (), 4)


def agent(id_: str, used: int, freed_us: int = 0) -> FreeAgent:
    return FreeAgent(id_, "", 4, used, 1.0, freed_us)


def lease(estimate_s: float, units: int = 1, since_s: float = 0.0) -> Held:
    return Held(units, NOW_MS - round(1_000 * since_s), estimate_s)


def kept(
    *agents: FreeAgent,
    held: Mapping[str, Sequence[Held]],
    strategy: str = "fit",
    **lane: Any,
) -> str | None:
    large = LaneView(Lane("dev", "x", **{"cost": 4} | lane), 1, [Head(1.0, "large")])
    role = RoleView("dev", [large], [FreeClass(CLASS, len(agents), list(agents))], held=held)
    decision = Planner(PoolSettings(strategy=strategy)).decide(View(NOW_MS, False, [role]))
    assert not decision.proposals
    return decision.kept.get("dev")


DAYS = [lease(200_000.0), lease(100_000.0)]
MINUTES = [lease(60.0), lease(90.0), lease(30.0)]


@pytest.mark.parametrize("strategy", ["fit", "best_match", "round_robin"])
def test_who_should_have_room_much_sooner_is_kept_though_it_has_less_free(strategy: str) -> None:
    agents = agent("long", 2), agent("short", 3)

    assert kept(*agents, held={"long": DAYS, "short": MINUTES}, strategy=strategy) == "short"
    assert kept(*agents, held={"long": MINUTES[:2], "short": DAYS}, strategy=strategy) == "long"


def test_the_emptier_one_stays_where_the_other_is_not_twice_as_soon() -> None:
    """It has been emptied for this task: what only looks a little better is no reason to begin again."""
    agents = agent("emptied", 1), agent("other", 3)

    assert kept(*agents, held={"emptied": [lease(180.0)], "other": MINUTES}) == "emptied"
    assert kept(*agents, held={"emptied": [lease(180.1)], "other": MINUTES}) == "other"


def test_a_part_of_the_leases_may_be_enough() -> None:
    agents = agent("long", 2), agent("short", 3)
    held = {"long": DAYS, "short": [lease(60.0, units=2), lease(900_000.0)]}

    assert kept(*agents, held=held, cost=3) == "short"
    assert kept(*agents, held=held, cost=4) == "long"
    held["short"] = [lease(60.0), lease(30.0), lease(900_000.0)]
    assert kept(*agents, held=held, cost=3) == "short"


def test_who_must_be_empty_waits_for_all_leases() -> None:
    agents = agent("one", 1), agent("two", 2)
    held = {"one": [lease(500.0)], "two": [lease(60.0), lease(240.0)]}

    assert kept(*agents, held=held, cost=1, alone=True) == "two"
    held = {"one": [lease(700.0)], "two": [lease(60.0), lease(400.0)]}
    assert kept(*agents, held=held, cost=1, alone=True) == "one"


def test_what_runs_beyond_its_estimate_is_not_expected_to_end_at_once() -> None:
    overdue = [lease(60.0, since_s=80_000.0), lease(60.0, since_s=90_000.0)]

    assert kept(agent("late", 2), agent("short", 3), held={"late": overdue, "short": MINUTES}) == "short"  # fmt: skip


@pytest.mark.parametrize("known", [(), ("short",), ("long",)])
def test_of_whom_nothing_is_known_the_emptiest_is_kept(known: tuple[str, ...]) -> None:
    held = {"long": DAYS, "short": MINUTES}
    some = {id_: held[id_] for id_ in known}

    assert kept(agent("long", 2), agent("short", 3), held=some) == "long"


def test_units_that_were_not_read_are_not_counted_on() -> None:
    agents = agent("long", 2), agent("busy", 3)

    assert kept(*agents, held={"long": DAYS, "busy": MINUTES[:2]}) == "long"
