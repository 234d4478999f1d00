"""When a task should start and end: estimates of what runs and of what stands before it, over the suitable units."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.core.effort import left_s
from balancer.core.explain.answer import Examined, Span
from balancer.core.explain.judge import Judge
from balancer.core.explain.outlook import running_outlook, waiting_outlook
from balancer.core.explain.picture import Ahead, Picture, Running, Seen
from balancer.core.fleet import Fleet
from balancer.core.lanes import AgentClass, Lane
from balancer.core.settings import PoolSettings
from balancer.core.view import FreeAgent, Head, LaneView, Named, RoleView, View

NOW_MS = 1_760_000_000_000
LANE, OTHER = Lane("dev", "bug", 1), Lane("dev", "docs", 1, requires=(("go", 1),))
CLASS = AgentClass("dev", (), 2)


def picture(
    *agents: tuple[str, int],
    ahead: list[Ahead],
    running: list[Running],
    ahead_of: int | None = None,
    lane: Lane = LANE,
    live: int = 0,
    service_s: float = 0.0,
) -> Picture:
    """A task of 100 s (p90 150 s) on agents of two units, so many of them used."""
    seen = [
        Seen(CLASS, "v1", FreeAgent(id_, "", 2, used, 1.0, NOW_MS * 1_000), None)
        for id_, used in agents
    ]
    count = max(len(ahead), ahead_of or 0)
    head = Head(NOW_MS * 1_000.0, "t1", 100.0)
    view = RoleView(
        "dev",
        [LaneView(lane, count + 1, [head])],
        [],
        0,
        Fleet([(CLASS, 2 * max(live, len(agents)))]),
        service_s,
    )
    return Picture(
        view=View(NOW_MS, False, [view]),
        lane=lane,
        head=head,
        p90_s=150.0,
        before=0,
        size=count + 1,
        is_paused=False,
        agents=seen,
        class_ids={CLASS: "v1"},
        live=max(live, len(agents)),
        free_units={},
        ahead=ahead,
        ahead_of=count,
        unplaceable_ahead=0,
        lost=[],
        running=running,
        is_served=True,
        unserved_s=None,
        examined=Examined(
            agents=len(agents),
            pool_agents=len(agents),
            pool_agents_of=max(live, len(agents)),
            classes=1,
            classes_of=1,
            lanes=1,
            lanes_of=1,
        ),
    )


def outlook(shown: Picture) -> tuple[Span, Span]:
    found, _ = waiting_outlook(Judge(PoolSettings(strategy="fit"), shown))
    assert found is not None
    assert found.starts_in is not None
    return found.starts_in, found.ends_in


def span(low_s: float, high_s: float) -> Span:
    return Span(low_s=low_s, high_s=high_s)


def test_a_running_task_past_its_estimate_counts_as_half_as_long_again() -> None:
    assert left_s(10, 30) == 20
    assert left_s(30, 30) == 0
    assert left_s(40, 30) == 20
    assert running_outlook(40, 30, 70).ends_in == span(20, 30)
    assert running_outlook(100, 30, 70).ends_in == span(50, 50)


def test_the_first_unit_that_comes_free_by_mean_and_by_p90() -> None:
    running = [
        Running("a1", 1, 10, 60, 100),
        Running("a1", 1, 10, 40, 90),
    ]
    assert outlook(picture(("a1", 2), ahead=[], running=running)) == (
        *(span(30, 80), span(130, 230)),
    )
    assert outlook(picture(("a1", 1), ahead=[], running=running[:1]))[0] == span(0, 0)


def test_what_stands_before_it_takes_units_first_but_not_what_others_do() -> None:
    ahead = [Ahead(float(n), LANE, 50, 60) for n in range(3)]
    strangers = [Ahead(0.0, OTHER, 9_999, 9_999)] * 3
    running = [Running("a1", 2, 0, 20, 30)]
    # Two at 20, the third at 70; the next unit at 70, too.
    assert outlook(picture(("a1", 2), ahead=ahead + strangers, running=running))[0] == span(70, 90)


def test_what_was_not_read_is_taken_to_be_like_what_was() -> None:
    ahead = [Ahead(float(n), LANE, 50, 50) for n in range(2)]
    read, _ = outlook(picture(("a1", 2), ahead=ahead, running=[Running("a1", 2, 0, 20, 20)]))
    more, _ = outlook(
        picture(("a1", 2), ahead=ahead, ahead_of=42, running=[Running("a1", 2, 0, 20, 20)])
    )
    assert (read, more) == (span(70, 70), span(70 + 40 * 50 / 2, 70 + 40 * 50 / 2))
    # Leases that were not read take as long as tasks of the role do.
    assert outlook(picture(("a1", 2), ahead=[], running=[], service_s=33))[0] == span(33, 33)


def test_agents_that_were_not_looked_at_do_their_share() -> None:
    ahead = [Ahead(float(n), LANE, 50, 50) for n in range(4)]
    alone, _ = outlook(picture(("a1", 0), ahead=ahead, running=[]))
    shared, _ = outlook(picture(("a1", 0), ahead=ahead, running=[], live=5))
    assert (alone, shared) == (span(100, 100), span(20, 20))


def test_a_large_task_needs_its_units_at_once() -> None:
    running = [Running("a1", 1, 0, 60, 60), Running("a1", 1, 0, 10, 10)]
    large = LANE._replace(cost=2)
    assert outlook(picture(("a1", 2), ahead=[], running=running, lane=large))[0] == span(60, 60)


def test_without_anybody_there_is_none() -> None:
    judge = Judge(PoolSettings(strategy="fit"), picture(ahead=[], running=[]))
    assert waiting_outlook(judge) == (None, None)


@pytest.mark.parametrize("strategy", ["fit", "best_match"])
def test_pools_of_any_strategy_have_one(strategy: str) -> None:
    judge = Judge(PoolSettings(strategy=strategy), picture(("a1", 0), ahead=[], running=[]))
    outlook, guard = waiting_outlook(judge)
    assert outlook is not None
    assert guard is None


def passed_over(shown: Picture, **lane: Any) -> Picture:
    """The same task, with agents in its past."""
    past = shown.lane._replace(**lane)
    (role,) = shown.view.roles
    named = {seen.agent.id: Named(CLASS, seen.agent) for seen in shown.agents}
    role = role._replace(lanes=[LaneView(past, shown.size, [shown.head])], named=named)
    return shown._replace(lane=past, view=View(NOW_MS, False, [role]))


def test_an_agent_on_which_it_failed_is_no_room_for_it() -> None:
    shown = picture(("a1", 0), ("a2", 2), ahead=[], running=[Running("a2", 2, 0, 60, 90)])
    assert outlook(shown)[0] == span(0, 0)
    assert outlook(passed_over(shown, tried=("a1",))) == (span(60, 90), span(160, 240))
    # Where all have failed it, they may have it again.
    assert outlook(passed_over(shown, tried=("a1", "a2")))[0] == span(0, 0)


def test_an_agent_that_gave_it_back_is_no_room_until_it_may_again() -> None:
    avoid: dict[str, Any] = {"avoid": ("a1",), "avoid_until_ms": NOW_MS + 10_000}
    later = picture(("a1", 0), ("a2", 2), ahead=[], running=[Running("a2", 2, 0, 60, 90)])
    assert outlook(passed_over(later, **avoid)) == (span(10, 10), span(110, 160))
    sooner = picture(("a1", 0), ("a2", 2), ahead=[], running=[Running("a2", 2, 0, 3, 4)])
    assert outlook(passed_over(sooner, **avoid)) == (span(3, 4), span(103, 154))
