"""What a view shows where there is more than it has room for: enough for all free units, and others in turn."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.core.view import RoleView
from balancer.ledger import Pool
from balancer.ledger import view as views
from balancer.ledger.due import due
from tests.support.factories import (
    Clock,
    beat,
    changes,
    commit,
    completion_entry,
    make_task,
    plan,
    proposal,
    settle,
    submit,
)


def look(pool: Pool, pivot: int = 0) -> RoleView:
    (role,) = views.Viewer(pool, lambda: pivot).view().roles
    return role


# --- heads ---


@pytest.mark.parametrize(("lanes", "each"), [(3, 150), (5, 150), (64, 40)])
def test_one_view_of_lanes_of_unlike_sizes_is_enough_for_all_free_units(
    virtual_pool: Pool, lanes: int, each: int
) -> None:
    """All that comes first in line stands in the lanes of the smallest tasks."""
    beat(virtual_pool, max_concurrent=128)
    for n in range(lanes):
        kind: dict[str, Any] = {"category": f"c{n:02}", "estimate_s": 60 * 1.1**n}
        submit(virtual_pool, *(make_task(f"c{n:02}-{k:03}", **kind) for k in range(each)))

    role, wishes = look(virtual_pool), [wish.task for wish in plan(virtual_pool)]

    line = [task for n in range(lanes) for task in _places(virtual_pool, role.lanes[n].id)]
    assert wishes == [task for _, task in sorted(line)[:128]]
    assert sum(len(lane.heads) for lane in role.lanes) <= 256 + 128


def _places(pool: Pool, lane: str) -> list[tuple[float, str]]:
    found = pool.client.zrange(pool.keys.lane(lane), 0, -1, withscores=True)
    return [(score, task) for task, score in found]


def test_few_units_are_not_planned_with_more_heads_than_they_need(virtual_pool: Pool) -> None:
    beat(virtual_pool, max_concurrent=6)
    for n in range(8):
        submit(virtual_pool, *(make_task(f"c{n}-{k}", category=f"c{n}") for k in range(9)))

    shown = [[head.task for head in lane.heads] for lane in look(virtual_pool).lanes]

    assert shown[0] == [f"c0-{k}" for k in range(6)], "as many as there are units"
    assert shown[1:] == [[f"c{n}-{k}" for k in range(4)] for n in range(1, 8)]


# --- agents on whom tasks failed ---


@pytest.fixture
def failed(virtual_pool: Pool, clock: Clock) -> Pool:
    """Sixty-four tasks, each of which failed on three agents that no other failed on; one agent has not tried any."""
    for n in range(192):
        beat(virtual_pool, f"a{n:03}", ttl_ms=6_000_000)
    tasks = [f"t{n:02}" for n in range(64)]
    submit(virtual_pool, *(make_task(task, max_failures=9) for task in tasks))
    for turn in range(3):
        wishes = [proposal(task, f"a{3 * n + turn:03}", turn) for n, task in enumerate(tasks)]
        assert set(commit(virtual_pool, *wishes)) == {"assigned"}
        tries = [completion_entry(virtual_pool, task, "failed") for task in tasks]
        assert set(settle(virtual_pool, *tries)) == {"retry"}
        clock.advance(100)
        due(virtual_pool)
    beat(virtual_pool, "fresh", ttl_ms=6_000_000)
    return virtual_pool


def test_of_many_agents_on_whom_tasks_failed_some_are_named_and_others_in_turn(
    failed: Pool,
) -> None:
    named: set[str] = set()
    with changes(failed) as seen:
        for pivot in range(64):
            role = look(failed, pivot)
            assert len(role.named) == 128
            named |= set(role.named)
            own = [lane.lane.tried for lane in role.lanes]
            assert sum(set(tried) <= set(role.named) for tried in own) >= 42, "whole lanes"
    assert named == {f"a{n:03}" for n in range(192)}
    assert seen.nothing


def test_as_many_more_agents_of_a_class_are_shown_as_one_lane_bars(failed: Pool) -> None:
    """Not as many as all lanes bar together; and none more of a class of which they bar nobody."""
    for n in range(60):
        beat(failed, f"b{n:02}", max_concurrent=2, ttl_ms=6_000_000)

    (barring, other) = sorted(look(failed).classes, key=lambda fc: fc.cls.max_concurrent)

    assert (barring.size, len(barring.agents) - barring.extra) == (193, 48 + 3)
    assert (other.size, len(other.agents)) == (60, 48), "1.5 for each of 64 units, over two classes"
