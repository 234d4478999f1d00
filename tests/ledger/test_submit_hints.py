"""The script `submit`: what a producer says of a task's needs, its effort and who should have it."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.core.hints import features_text, short_name
from balancer.core.lanes import Lane, lane_definition
from balancer.ledger import Pool
from balancer.ledger import submit as submits
from tests.support.factories import dump, make_task, structure_violations, submit


def stored(pool: Pool, task: str = "t1") -> dict[str, str]:
    return dict(pool.client.hgetall(pool.keys.task(task)))


def test_required_skills_make_a_lane_of_their_own(virtual_pool: Pool) -> None:
    requires = {"python": 3, "go": 1}
    lane, definition = lane_definition(
        Lane("dev", "general", 1, requires=(("go", 1), ("python", 3)))
    )

    assert submit(virtual_pool, make_task("t1", requires=requires), "t2") == ["accepted"] * 2

    assert stored(virtual_pool)["lane"] == lane
    assert stored(virtual_pool)["r"] == '{"go":1,"python":3}'
    assert "r" not in stored(virtual_pool, "t2")
    assert virtual_pool.client.hget(virtual_pool.keys.lanedef, lane) == definition
    assert not structure_violations(dump(virtual_pool.client), virtual_pool.keys.prefix)


@pytest.mark.parametrize(
    ("facts", "estimate_ms"),
    [
        ({}, 3_600_000),
        ({"category": "bug", "complexity": 2}, 7_200_000),
        ({"complexity": 1}, 3_600_000),
        ({"complexity": 5}, 18_000_000),
        ({"estimate_s": 90.5}, 90_500),
        ({"estimate_s": 0.001}, 1),
        ({"estimate_s": 90.5, "complexity": 5}, 90_500),
        ({"group": "shop"}, 3_600_000),
    ],
)
def test_the_prior_is_the_estimate_or_minutes_times_complexity(
    virtual_pool: Pool, facts: dict[str, Any], estimate_ms: int
) -> None:
    submit(virtual_pool, make_task("t1", **facts))

    assert stored(virtual_pool)["e"].split("|")[-1] == str(estimate_ms)


def test_group_and_features_are_kept_by_their_hashes(virtual_pool: Pool) -> None:
    features: dict[str, str | int | float | bool] = {"files": 12, "language": "python", "ci": True}
    submit(virtual_pool, make_task("t1", group="shop: the \U0001f6d2", features=features))
    submit(virtual_pool, make_task("t2", group="shop: the \U0001f6d2", estimate_s=5))
    submit(virtual_pool, make_task("t3", complexity=2))

    group = short_name("shop: the \U0001f6d2")
    line = features_text(features)
    assert line == 'ci=true,files=2^3,language="python"'
    assert stored(virtual_pool)["l"] == f"m|{group}|{short_name(line)}"
    assert stored(virtual_pool, "t2")["l"] == f"e|{group}|"
    assert "l" not in stored(virtual_pool, "t3")


def test_a_preferred_agent_is_kept_with_how_long_it_is(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task("t1", prefer_agent="a-1", prefer_for_s=1.5))
    submit(virtual_pool, make_task("t2", prefer_agent="a-1"), "t3")

    assert stored(virtual_pool)["p"] == "a-1|1500"
    assert stored(virtual_pool, "t2")["p"] == "a-1|600000"
    assert "p" not in stored(virtual_pool, "t3")


def test_a_task_that_says_nothing_of_it_is_sent_and_stored_as_ever(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task("t1", prefer_for_s=5))

    assert not stored(virtual_pool).keys() & {"l", "p", "r"}
    assert submits._pack(make_task("t1"), virtual_pool.settings).rest[3] == ""


@pytest.mark.parametrize(
    "other",
    [
        {"requires": {"go": 2}},
        {"requires": {"go": 1, "python": 1}},
        {"complexity": 2},
        {"estimate_s": 60},
        {"group": "web"},
        {"features": {"files": 13}},
        {"features": {"files": "12"}},
        {"prefer_agent": "a2"},
        {"prefer_for_s": 601},
    ],
    ids=str,
)
def test_each_of_them_is_part_of_what_the_task_is(
    virtual_pool: Pool, other: dict[str, Any]
) -> None:
    facts: dict[str, Any] = {
        "requires": {"go": 1}, "complexity": 1, "estimate_s": 61, "group": "shop", "features": {"files": 12},
        "prefer_agent": "a1",
    }  # fmt: skip
    submit(virtual_pool, make_task("t1", **facts))
    before = dump(virtual_pool.client)

    assert submit(virtual_pool, make_task("t1", **facts)) == ["duplicate"]
    assert submit(virtual_pool, make_task("t1", **facts | other)) == ["conflict"]

    assert dump(virtual_pool.client) == before


@pytest.mark.parametrize(
    ("value", "bucket"),
    [
        (0, "0"), (1, "2^0"), (2, "2^1"), (3, "2^1"), (4, "2^2"), (1023, "2^9"), (1024, "2^10"), (0.3, "2^-2"),
        (-5, "-2^2"), (2**53 - 1, "2^52"), (True, "true"), (False, "false"), ("2^1", '"2^1"'), ("a,b=c", '"a,b=c"'),
    ],
)  # fmt: skip
def test_numbers_count_by_the_power_of_two_below_them(value: Any, bucket: str) -> None:
    assert features_text({"x": value}) == f"x={bucket}"
