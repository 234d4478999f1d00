"""Lanes and classes are named by their content."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from balancer.core.lanes import (
    AgentClass,
    Lane,
    class_definition,
    feasible,
    lane_definition,
    read_class,
    read_lane,
)
from balancer.core.names import NAME_RULE

names = st.from_regex(NAME_RULE, fullmatch=True)
plain_lanes = st.builds(
    Lane, names, names, st.integers(1, 1_000), st.just(False), st.just(()), st.just(0)
)
lanes = st.builds(
    lambda lane, alone, avoid, until: lane._replace(
        alone=alone, avoid=tuple(avoid), avoid_until_ms=until if avoid else 0
    ),
    plain_lanes,
    st.booleans(),
    st.lists(names, max_size=3),
    st.integers(0, 2**50),
)
classes = st.builds(
    AgentClass, names, st.lists(names, max_size=4).map(tuple), st.integers(0, 1_000)
)


def test_ids_never_change() -> None:
    """They stand in Redis: another release must compute the same."""
    assert lane_definition(Lane("dev", "bug", 2)) == (
        "v13ec80077e67483",
        '{"category":"bug","cost":2,"role":"dev","v":1}',
    )
    assert class_definition(AgentClass("dev", ("bug", "docs"), 4)) == (
        "v1a7e8d36fa89bf6",
        '{"max_concurrent":4,"role":"dev","specializations":["bug","docs"],"v":1}',
    )


@given(lanes)
def test_a_lane_that_is_not_plain_begins_with_the_id_of_the_plain_one(lane: Lane) -> None:
    plain = Lane(lane.role, lane.category, lane.cost)

    assert lane_definition(lane)[0].split("+")[0] == lane_definition(plain)[0]


@given(lanes)
def test_lane_reads_back_as_it_was(lane: Lane) -> None:
    lane_id, text = lane_definition(lane)

    assert read_lane(text) == lane
    assert re.fullmatch(r"v1[0-9a-f]{14}(\+alone)?(\+[0-9a-f]{12})?", lane_id)
    assert ("+alone" in lane_id) == lane.alone
    assert ("+" in lane_id) != lane.is_plain


@given(classes)
def test_class_reads_back_with_its_specializations_as_a_sorted_set(cls: AgentClass) -> None:
    class_id, text = class_definition(cls)

    assert read_class(text) == cls._replace(specializations=tuple(sorted(set(cls.specializations))))
    assert re.fullmatch(r"v1[0-9a-f]{14}", class_id)


@given(lanes, lanes)
def test_two_lanes_share_an_id_only_when_they_are_one(one: Lane, other: Lane) -> None:
    assert (lane_definition(one)[0] == lane_definition(other)[0]) == (one == other)


def test_order_and_repetition_of_specializations_do_not_matter() -> None:
    assert class_definition(AgentClass("dev", ("b", "a", "b"), 1)) == class_definition(
        AgentClass("dev", ("a", "b"), 1)
    )


@given(lanes, classes)
def test_feasible_is_role_and_cost(lane: Lane, cls: AgentClass) -> None:
    assert feasible(lane, cls) == (lane.role == cls.role and lane.cost <= cls.max_concurrent)
    assert feasible(lane._replace(role=cls.role), cls) == (lane.cost <= cls.max_concurrent)
