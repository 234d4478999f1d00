"""The agent that a task would rather have, with strategies that score agents."""

from __future__ import annotations

import pytest

from balancer.core.lanes import AgentClass, Lane
from balancer.core.model import Priority
from balancer.core.plan.preferred import bonus
from balancer.core.planner import Planner, Proposal
from balancer.core.queue_order import QueueOrder
from balancer.core.settings import PoolSettings
from balancer.core.strategies import Scores, Strategy, make_strategy, queue_of
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

NOW_S = 1_760_000_000
CLASS = AgentClass("dev", (), 10)


class Cheapest:
    """Scores below 0: the price of an agent."""

    name = "cheapest"
    order = "load"
    queue = "effort"

    def __init__(self, *prices: float) -> None:
        self._prices = dict(zip("abcd", prices, strict=False))

    def agent_part(self, agent: FreeAgent) -> Scores:
        return {"price": -self._prices.get(agent.id, 100.0)}

    def match_part(self, lane: Lane, cls: AgentClass) -> Scores:
        return {}


def wishes(
    settings: PoolSettings,
    *agents: FreeAgent,
    wish: str = "b",
    ready_s: float = NOW_S - 5,
    for_s: float = 60,
    lane: Lane = Lane("dev", "x", 1),  # noqa: B008
    strategy: Strategy | None = None,
    tasks: int = 1,
) -> list[Proposal]:
    """A plan in which the first task would rather have an agent."""
    deciding = strategy or make_strategy(settings)
    order = QueueOrder.of(settings, queue_of(deciding))
    order_us = 1e6 * ready_s + order.delay_us(Priority.MEDIUM, 3_600_000)
    heads = [Head(order_us, "t0", preference=Preference(wish, round(1_000 * for_s)))]
    heads += [Head(order_us + n, f"t{n}") for n in range(1, tasks)]
    named = {one.id: Named(CLASS, one) for one in agents if one.id == wish}
    shown = [FreeClass(CLASS, len(agents), list(agents))]
    role = RoleView("dev", [LaneView(lane, tasks, heads)], shown, named=named)
    return Planner(settings, strategy).plan(View(1_000 * NOW_S, False, [role]))


def agent(name: str, used: int = 0, turn: float = 0.0) -> FreeAgent:
    return FreeAgent(name, "", 10, used, 1.0, 0, turn)


LEAST, BEST = PoolSettings(strategy="least_loaded"), PoolSettings(strategy="best_match")


@pytest.mark.parametrize(("used", "gets"), [(0, "b"), (3, "b"), (4, "a"), (9, "a")])
def test_it_gets_the_task_while_it_is_near_to_the_best(used: int, gets: str) -> None:
    (wish,) = wishes(LEAST, agent("a"), agent("b", used))

    assert wish.agent == gets
    if gets == "b":
        assert wish.scores == {"load": 1 - used / 10, "preferred": pytest.approx(1 / 3)}
        assert sum(wish.scores.values()) >= 1, "the parts say why it was chosen"
    else:
        assert wish.scores == {"load": 1.0}


@pytest.mark.parametrize(("used", "gets"), [(6, "b"), (10, "a")])
def test_load_is_only_a_part_of_best_match(used: int, gets: str) -> None:
    (wish,) = wishes(BEST, agent("a"), agent("b", used))
    assert wish.agent == gets


@pytest.mark.parametrize(("price", "gets"), [(13.0, "b"), (14.0, "a")])
def test_scores_below_zero_count_alike(price: float, gets: str) -> None:
    (wish,) = wishes(BEST, agent("a"), agent("b"), strategy=Cheapest(10.0, price))
    assert wish.agent == gets
    assert [bonus(-9.0), bonus(9.0), bonus(0.0)] == pytest.approx([3, 3, 0])


@pytest.mark.parametrize(
    "settings", [LEAST, BEST, LEAST.model_copy(update={"strict_priority": True})]
)
def test_a_preference_ends(settings: PoolSettings) -> None:
    def first(since_s: float) -> str:
        both = agent("a"), agent("b", 1)
        return wishes(settings, *both, ready_s=NOW_S - since_s)[0].agent

    assert (first(59), first(61)) == ("b", "a")


def test_it_never_makes_a_task_wait_nor_goes_against_the_rules() -> None:
    both = agent("a"), agent("b", 1)
    for lane in (
        Lane("dev", "x", 1, tried=("b",)),
        Lane("dev", "x", 10),
        Lane("dev", "x", 1, alone=True),
        Lane("dev", "x", 1, avoid=("b",), avoid_until_ms=1_000 * NOW_S + 1),
    ):
        assert [wish.agent for wish in wishes(LEAST, *both, lane=lane)] == ["a"], lane
    ill = FreeAgent("b", "", 10, 0, 0.2, 0)
    assert [wish.agent for wish in wishes(LEAST, agent("a"), ill)] == ["a"]
    assert [wish.agent for wish in wishes(LEAST, agent("a"), wish="gone")] == ["a"]


def test_the_units_of_the_preferred_one_are_taken_and_others_go_by_score() -> None:
    found = wishes(LEAST, agent("a", 2), agent("b", 3), tasks=5)

    assert [wish.agent for wish in found] == ["b", "a", "a", "b", "a"]
    assert ["preferred" in wish.scores for wish in found] == [True, *4 * [False]]


@pytest.mark.parametrize("strategy", ["round_robin", "random"])
def test_where_it_goes_by_turns_whose_turn_it_is_gets_it(strategy: str) -> None:
    settings = PoolSettings(strategy=strategy, seed=1)
    (wish,) = wishes(settings, agent("a", turn=0.9), agent("b", turn=0.8))
    assert (wish.agent, set(wish.scores)) == ("a", {"turn"})
