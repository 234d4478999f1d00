"""Lanes and classes are named by their content."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from balancer.core.lanes import (
    LEARNED_STEP,
    AgentClass,
    Gate,
    Lane,
    class_definition,
    feasible,
    gate_of,
    lane_definition,
    read_class,
    read_lane,
)
from tests.support.names import names

levels = st.dictionaries(names, st.integers(1, 100), max_size=3).map(
    lambda found: tuple(sorted(found.items()))
)
plain_lanes = st.builds(
    lambda role, category, cost, requires: Lane(role, category, cost, requires=requires),
    names,
    names,
    st.integers(1, 1_000),
    levels,
)
lanes = st.builds(
    lambda lane, alone, avoid, until, tried: lane._replace(
        alone=alone,
        avoid=tuple(avoid),
        avoid_until_ms=until if avoid else 0,
        tried=tuple(sorted(tried)),
    ),
    plain_lanes,
    st.booleans(),
    st.lists(names, max_size=3),
    st.integers(0, 2**50),
    st.sets(names, max_size=3),
)
categories = st.one_of(st.just(""), names)
classes = st.builds(
    AgentClass,
    names,
    st.lists(names, max_size=4).map(tuple),
    st.integers(0, 1_000),
    levels,
    st.dictionaries(categories, st.floats(0.01, 100), max_size=3).map(
        lambda found: tuple(sorted(found.items()))
    ),
    st.dictionaries(categories, st.integers(-9, 9), max_size=3).map(
        lambda found: tuple(sorted(found.items()))
    ),
    st.sampled_from([*3 * [Gate.OPEN], *Gate]),
).map(lambda cls: cls._replace(learned=()) if cls.gate else cls)


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
    requires = (("go", 1), ("python", 3))
    assert lane_definition(Lane("dev", "bug", 2, requires=requires, tried=("a1", "b"))) == (
        "v1c93f14bbc93fb4+tried2.f45402338011",
        '{"category":"bug","cost":2,"requires":{"go":1,"python":3},"role":"dev","v":1,"tried":["a1","b"]}',
    )
    cls = AgentClass("dev", (), 4, (("go", 7),), (("", 0.5), ("bug", 1.25)), (("", -2),))
    assert class_definition(cls) == (
        "v1c4cfda36b1413a+s74da7cec7696",
        '{"max_concurrent":4,"role":"dev","skills":{"go":7},"specializations":[],'
        '"speeds":{"":0.5,"bug":1.25},"v":1,"learned":{"":-2}}',
    )
    cls = AgentClass("dev", ("bug", "docs"), 4, gate=Gate.SHUT)
    assert class_definition(cls) == (
        "v1a7e8d36fa89bf6+shut",
        '{"max_concurrent":4,"role":"dev","specializations":["bug","docs"],"v":1,"gate":"shut"}',
    )


def test_names_that_differ_little_make_ids_of_their_own() -> None:
    plain = Lane("dev", "bug", 1)
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    names = [f"pod-{a}{b}{c}" for a in digits for b in digits for c in digits]
    names += [f"build-agent-{n}" for n in range(160_000)]
    # Not through the cache of definitions, which is for those that are in use.
    ids = {lane_definition.__wrapped__(plain._replace(tried=(name,)))[0] for name in names}

    assert len(names) > 200_000
    assert len(ids) == len(names)
    one, other = (plain._replace(tried=(name,)) for name in ("pod-30", "pod-1n"))
    assert lane_definition(one)[0] != lane_definition(other)[0]


@given(lanes)
def test_a_lane_that_is_not_plain_begins_with_the_id_of_the_plain_one(lane: Lane) -> None:
    plain = Lane(lane.role, lane.category, lane.cost, requires=lane.requires)

    assert lane_definition(lane)[0].split("+")[0] == lane_definition(plain)[0]


@given(lanes)
def test_lane_reads_back_as_it_was(lane: Lane) -> None:
    lane_id, text = lane_definition(lane)

    assert read_lane(text) == lane
    assert re.fullmatch(
        r"v1[0-9a-f]{14}(\+alone)?(\+tried\d+\.[0-9a-f]{12})?(\+[0-9a-f]{12})?", lane_id
    )
    assert (f"+tried{len(lane.tried)}." in lane_id) == bool(lane.tried)
    assert ("+alone" in lane_id) == lane.alone
    assert ("+" in lane_id) != lane.is_plain


@given(classes)
def test_class_reads_back_with_its_specializations_as_a_sorted_set(cls: AgentClass) -> None:
    class_id, text = class_definition(cls)

    assert read_class(text) == cls._replace(specializations=tuple(sorted(set(cls.specializations))))
    assert re.fullmatch(r"v1[0-9a-f]{14}(\+s[0-9a-f]{12}|\+shut|\+probe)?", class_id)
    assert ("+s" in class_id) == bool(cls.learned or cls.gate is Gate.SHUT)
    assert gate_of(class_id) is cls.gate


@given(lanes, lanes)
def test_two_lanes_share_an_id_only_when_they_are_one(one: Lane, other: Lane) -> None:
    assert (lane_definition(one)[0] == lane_definition(other)[0]) == (one == other)


def test_order_and_repetition_of_specializations_do_not_matter() -> None:
    assert class_definition(AgentClass("dev", ("b", "a", "b"), 1)) == class_definition(
        AgentClass("dev", ("a", "b"), 1)
    )


@given(lanes, classes)
def test_feasible_is_role_cost_and_skills(lane: Lane, cls: AgentClass) -> None:
    asks_nothing = lane._replace(requires=())

    assert feasible(asks_nothing, cls) == (
        lane.role == cls.role and lane.cost <= cls.max_concurrent
    )
    assert feasible(asks_nothing._replace(role=cls.role), cls) == (lane.cost <= cls.max_concurrent)


@given(lanes, levels, levels)
def test_every_required_skill_is_had_with_its_least_level(
    lane: Lane, required: tuple[tuple[str, int], ...], had: tuple[tuple[str, int], ...]
) -> None:
    cls = AgentClass(lane.role, (), 1_000, skills=had)
    meets_all = feasible(lane._replace(requires=had), cls)
    too_high = [lane._replace(requires=((skill, level + 1),)) for skill, level in had]

    assert meets_all
    assert not any(feasible(one, cls) for one in too_high)
    assert feasible(lane._replace(requires=required), cls) == all(
        any(name == skill and has >= level for name, has in had) for skill, level in required
    )


def test_speed_is_what_was_declared_else_a_modest_one_of_a_specialist() -> None:
    plain = AgentClass("dev", ("bug", "docs"), 1)
    fast = plain._replace(speeds=(("", 2.0), ("docs", 0.5)))

    assert [plain.speed_of(category) for category in ("bug", "docs", "ui", "")] == [
        1.25,
        1.25,
        1,
        1,
    ]
    assert [fast.speed_of(category) for category in ("bug", "docs", "ui", "")] == [2.5, 0.5, 2, 2]


def test_what_was_learned_of_a_category_stands_for_what_was_learned_of_all() -> None:
    cls = AgentClass("dev", ("bug",), 1, speeds=(("docs", 2.0),), learned=(("", -1), ("bug", 2)))

    assert cls.speed_of("bug") == 1.25 * LEARNED_STEP**2
    assert cls.speed_of("docs") == 2 / LEARNED_STEP
    assert cls.speed_of("ui") == 1 / LEARNED_STEP
