"""The best agent among many classes, while a plan takes one after another: whoever a look at everybody would find."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from balancer.core.lanes import AgentClass, Lane
from balancer.core.plan import best as best_
from balancer.core.plan.best import Best
from balancer.core.plan.fit import kept_share
from balancer.core.plan.free import Beyond, Entry, Ranked, rank
from balancer.core.plan.rules import bars, room_rule
from balancer.core.turns import Order, Turns
from balancer.core.view import FreeAgent, FreeClass


def turns() -> Turns:
    return Turns(Order.LOAD, Random(1), 0)


def entry(agent: FreeAgent, number: int) -> Entry:
    worth = (-kept_share(agent.health), agent.used - agent.max_concurrent)
    return (worth, agent.freed_us, number, agent, {})


def ranked(units: int, agents: list[tuple[str, int, float]], size: int = 0) -> Ranked:
    some = [FreeAgent(id_, "", units, used, health, 0) for id_, used, health in agents]
    cls = AgentClass("dev", (), units)
    return rank(FreeClass(cls, size or len(some), some), entry, turns(), 0.0, None)


classes_ = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.5, 0.95, 1.0, 2.0)),
        st.integers(1, 4),
        st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from((1.0, 0.8, 0.2))), min_size=1, max_size=4
        ),
    ),
    max_size=8,
)
lanes_ = st.lists(
    st.tuples(st.booleans(), st.lists(st.integers(0, 31), max_size=6)), min_size=1, max_size=20
)


@settings(max_examples=100)
@given(classes_, lanes_, st.integers(1, 3))
@example([(0.95, 1, [(0, 1.0)]), (1.0, 1, [(0, 1.0), (0, 0.2)])], [(False, []), (False, [])], 1)
def test_each_choice_is_as_good_as_the_best_of_all(
    classes: list[tuple[float, int, list[tuple[int, float]]]],
    lanes: list[tuple[bool, list[int]]],
    cost: int,
) -> None:
    ranks = [
        ranked(
            units,
            [(f"a{4 * n + k}", used % units, health) for k, (used, health) in enumerate(some)],
        )
        for n, (_, units, some) in enumerate(classes)
    ]
    speeds = [speed if cost <= units else 0.0 for speed, units, _ in classes]
    best = Best(speeds, ranks, cost)

    for alone, tried in lanes:
        lane = Lane("dev", "x", cost, alone=alone, tried=tuple(f"a{n}" for n in tried))
        suitable = [
            best.worth(at, one)
            for at, own in enumerate(ranks)
            for one in own.entries
            if speeds[at] and not bars(lane, one[3], 0) and not room_rule(lane, one[3])
        ]
        choice = best.choose(lane, 0)
        if choice is None:
            assert not suitable
            continue
        at, place = choice
        chosen = ranks[at].entries[place]
        assert not bars(lane, chosen[3], 0)
        assert not room_rule(lane, chosen[3])
        assert best.worth(at, chosen) == min(suitable)
        taken = chosen[3].max_concurrent if alone else cost
        ranks[at].take(place, taken, turns())


def test_who_may_be_better_beyond_the_picture_ends_the_plan() -> None:
    fast, slow = ranked(1, [("fast", 0, 1.0)], size=2), ranked(1, [("slow", 0, 1.0)])
    best = Best([2.0, 1.0], [fast, slow], 1)
    lane = Lane("dev", "x", 1)
    assert best.choose(lane, 0) == (0, 0)
    fast.take(0, 1, turns())

    for _ in range(2):
        with pytest.raises(Beyond):
            best.choose(lane, 0)
    assert Best([2.0, 2.0], [fast, slow], 1).choose(lane, 0) == (1, 0), "as fast as those"
    with pytest.raises(Beyond) as beyond:
        best.choose(lane._replace(tried=("other",)), 0)
    assert beyond.value.instead == (1, 0)


def test_who_is_barred_does_not_stand_for_those_beyond_the_picture() -> None:
    """Of the agents shown one has failed the tasks of the lane, and the other is used by the plan."""
    fast, slow = (
        ranked(2, [("failed", 0, 1.0), ("fast", 0, 1.0)], size=3),
        ranked(1, [("slow", 0, 1.0)]),
    )
    lane = Lane("dev", "x", 1, tried=("failed",))
    best = Best([2.0, 1.0], [fast, slow], 1)
    assert best.choose(lane, 0) == (0, 1)
    fast.take(1, 2, turns())

    with pytest.raises(Beyond) as beyond:
        best.choose(lane, 0)

    assert beyond.value.instead == (1, 0)
    assert best.choose(lane._replace(tried=()), 0) == (0, 0)
    assert Best([2.0, 2.0], [fast, slow], 1).choose(lane, 0) == (1, 0), "as fast as those"


def test_a_choice_looks_at_those_that_changed_and_at_slower_ones_only_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 256 classes, each with one agent; for tasks that failed on twelve of them."""
    looked: list[str] = []

    def bars_counted(lane: Lane, agent: FreeAgent, now_ms: int) -> Any:
        looked.append(agent.id)
        return bars(lane, agent, now_ms)

    monkeypatch.setattr(best_, "bars", bars_counted)
    ranks = [ranked(1, [(f"a{n:03}", 0, 1.0)]) for n in range(256)]
    best = Best([2.0] * 128 + [1.0] * 128, ranks, 1)
    lane = Lane("dev", "x", 1, tried=tuple(f"a{n:03}" for n in range(12)))

    for turn in range(116):
        at, place = best.choose(lane, 0) or (-1, -1)
        assert (at, len(looked)) == (12 + turn, 13)
        ranks[at].take(place, 1, turns())
        looked.clear()
    assert best.choose(lane, 0) == (128, 0)
    assert len(looked) == 13
