"""Which waiting tasks no agent could have, told from lanes and classes alone."""

from __future__ import annotations

import pytest

from balancer.core.lanes import Lane
from balancer.ledger import Pool, read_unplaceable
from balancer.ledger.agent_set import Verb, agent_set
from balancer.ledger.read_unplaceable import Unplaceable, unplaceable, why_unplaceable
from tests.support.factories import assign, beat, changes, make_task, submit

NONE = Unplaceable(0, None)


def test_tasks_that_no_agent_which_takes_work_could_have(virtual_pool: Pool) -> None:
    beat(virtual_pool, "a1", max_concurrent=2, skills={"go": 3})
    beat(virtual_pool, "a2", max_concurrent=4)
    submit(
        virtual_pool,
        make_task("small", requires={"go": 3}),
        make_task("t1", requires={"go": 4}),
        make_task("t2", requires={"go": 4}),
        make_task("t3", requires={"go": 3}, cost=4),
        make_task("t4", cost=5),
        make_task("alien", role="ops", cost=9),
    )
    with changes(virtual_pool) as seen:
        assert unplaceable(virtual_pool, ["dev", "ops", "nobody"]) == [
            Unplaceable(4, "t1"),
            NONE,  # nobody of it takes work: that is said otherwise
            NONE,
        ]
    assert seen.nothing
    assert unplaceable(virtual_pool, []) == []


def test_busy_agents_could_have_it_and_paused_ones_not(virtual_pool: Pool) -> None:
    beat(virtual_pool, "a1", skills={"go": 3})
    beat(virtual_pool, "a2")
    submit(virtual_pool, "t0", make_task("t1", requires={"go": 3}))
    assign(virtual_pool, "t0", "a1")
    assert unplaceable(virtual_pool, ["dev"]) == [NONE]
    agent_set(virtual_pool, "a1", Verb.PAUSE)
    assert unplaceable(virtual_pool, ["dev"]) == [Unplaceable(1, "t1")]
    agent_set(virtual_pool, "a1", Verb.RESUME)
    assert unplaceable(virtual_pool, ["dev"]) == [NONE]


def test_the_reason_counts_agents(virtual_pool: Pool) -> None:
    lane = Lane("dev", "general", 3, requires=(("go", 2),))
    assert why_unplaceable(virtual_pool, lane) is None
    beat(virtual_pool, "a1", max_concurrent=4)
    beat(virtual_pool, "a2", max_concurrent=4)
    beat(virtual_pool, "a3", max_concurrent=2, skills={"go": 2})
    assert why_unplaceable(virtual_pool, lane) == (
        "it needs go 2, 3 units; of those that take work: 1 too small, 2 without the skills"
    )
    beat(virtual_pool, "a4", max_concurrent=3, skills={"go": 2})
    assert why_unplaceable(virtual_pool, lane) is None


def test_so_many_lanes_are_looked_at(virtual_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_unplaceable, "MOST_LANES", 5)
    beat(virtual_pool, "a1")
    submit(virtual_pool, *(make_task(f"t{n}", category=f"c{n}", cost=2) for n in range(8)))
    assert unplaceable(virtual_pool, ["dev"]) == [Unplaceable(5, "t0")]
