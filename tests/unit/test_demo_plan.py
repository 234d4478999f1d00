from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.errors import InvalidInput
from balancer.core.model import Priority
from balancer.demo.options import DemoOptions
from balancer.demo.plan import LONGEST_S, MOST_KILLS, MOST_PACE, Plan, make_plan
from balancer.demo.roster import apportion, make_agents
from balancer.trace import SHIPPED, Row, read


def row(
    id: str = "a",
    *,
    arrival_s: float = 0.0,
    duration_s: float = 60.0,
    role: str = "developer",
    category: str = "fix",
    depends_on: tuple[str, ...] = (),
    outcome: str = "done",
    description: str = "",
) -> Row:
    return Row(
        id=id,
        arrival_s=arrival_s,
        duration_s=duration_s,
        role=role,
        category=category,
        priority=Priority.HIGH,
        description=description,
        depends_on=depends_on,
        group="g",
        outcome=outcome,
    )


def rows(count: int) -> list[Row]:
    return [row(f"t{i}", arrival_s=100.0 * i) for i in range(count)]


def at_s(plan: Plan) -> dict[str, float]:
    return {planned.task.id: planned.at_s for planned in plan.tasks}


def units(plan: Plan, role: str) -> list[int]:
    return [agent.max_concurrent for agent in plan.agents if agent.role == role]


@given(
    weights=st.lists(st.floats(0, 1e9), min_size=1, max_size=8),
    least=st.integers(0, 3),
    more=st.integers(0, 60),
)
def test_apportion_gives_all_away_and_the_least_to_everybody(
    weights: list[float], least: int, more: int
) -> None:
    given_ = apportion(least * len(weights) + more, weights, least)

    assert sum(given_) == least * len(weights) + more
    assert min(given_) >= least


def test_apportion_follows_the_weights_up_to_the_most() -> None:
    assert apportion(10, [3, 1, 1], 1) == [6, 2, 2]
    assert apportion(10, [3, 1, 1], 1, [4, 4, 4]) == [4, 3, 3]


@pytest.mark.parametrize(("total", "most"), [(1, [9, 9]), (9, [4, 4])])
def test_apportion_refuses_what_cannot_be_shared_out(total: int, most: list[int]) -> None:
    with pytest.raises(ValueError, match="cannot be shared out"):
        apportion(total, [1, 1], 1, most)


def test_units_follow_the_work_of_each_role() -> None:
    agents = make_agents(
        [
            row("a", duration_s=600, role="developer"),
            row("b", duration_s=300, role="tester"),
            row("c", duration_s=1, role="writer"),
        ],
        9,
        18,
    )
    by_role = {
        role: [a.max_concurrent for a in agents if a.role == role]
        for role in ("developer", "tester", "writer")
    }

    assert {role: sum(sizes) for role, sizes in by_role.items()} == {
        "developer": 11,
        "tester": 5,
        "writer": 2,
    }
    assert by_role["writer"] == [1, 1]
    assert len(set(by_role["developer"])) > 1
    assert max(by_role["developer"]) <= 4


def test_specializations_are_categories_of_the_role_and_some_agents_are_generalists() -> None:
    agents = make_agents([row(c, category=c) for c in ("build", "ci", "docs")], 6, 12)

    assert [agent.specializations for agent in agents[:3]] == [("build", "ci"), ("ci", "docs"), ()]
    assert len({agent.id for agent in agents}) == 6


def test_agents_of_roles_with_long_names_have_ids_of_their_own() -> None:
    agents = make_agents([row("a", role="r" * 64), row("b", role="r" * 63 + "x")], None, None)

    assert len({agent.id for agent in agents}) == len(agents)
    assert max(len(agent.id) for agent in agents) <= 64


@pytest.mark.parametrize(
    ("agents", "capacity", "text"),
    [
        (3, None, "--agents is 3, must be: at least 2"),
        (4, 3, "--capacity is 3, must be: at least 1"),
    ],
)
def test_too_few_agents_or_units_are_refused(agents: int, capacity: int | None, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        make_agents([row("a"), row("b", role="tester")], agents, capacity)


def test_arrivals_are_compressed_until_the_load_is_as_asked() -> None:
    plan = make_plan(rows(101), DemoOptions(agents=4, capacity=10, load=0.5, speed=60.0))

    # 101 tasks of 1 s on 10 units: 20.2 s at a load of one half.
    assert plan.replay_s == pytest.approx(101 * 1.0 / 10 / 0.5)
    assert plan.arrival_factor == pytest.approx(10_000 / plan.replay_s)
    assert plan.longest_s == pytest.approx(1.0)
    assert plan.tasks[0].task.payload == {"run_s": 1.0, "fail_first": False}
    assert plan.capacity == 10


def test_failed_rows_are_work_twice_and_fail_once() -> None:
    once = make_plan(rows(10), DemoOptions(speed=60.0))
    twice = make_plan(
        [row(f"t{i}", arrival_s=100.0 * i, outcome="failed") for i in range(10)],
        DemoOptions(speed=60.0),
    )

    assert twice.replay_s == pytest.approx(2 * once.replay_s)
    assert twice.tasks[0].task.payload["fail_first"] is True


def test_a_child_that_arrives_before_its_parent_waits_for_it() -> None:
    plan = make_plan(
        [
            row("first", arrival_s=0),
            row("parent", arrival_s=100),
            row("child", arrival_s=50, depends_on=("parent",)),
            row("grandchild", arrival_s=60, depends_on=("child",)),
        ],
        DemoOptions(),
    )

    assert [planned.task.id for planned in plan.tasks] == ["first", "parent", "child", "grandchild"]
    assert at_s(plan)["child"] == at_s(plan)["grandchild"] == at_s(plan)["parent"]


def test_tasks_that_arrive_together_are_submitted_together() -> None:
    plan = make_plan([row("a", duration_s=0), row("b", duration_s=0)], DemoOptions())

    assert set(at_s(plan).values()) == {0.0}
    assert plan.arrival_factor == 0.0


def test_the_replay_is_short_unless_a_machine_could_not_follow() -> None:
    few, many = (make_plan(rows(count), DemoOptions()) for count in (200, 8_000))

    assert few.replay_s <= LONGEST_S / 4
    assert many.replay_s == pytest.approx(8_000 / MOST_PACE)


def test_the_longest_task_takes_at_most_half_of_the_replay() -> None:
    plan = make_plan([*rows(50), row("long", duration_s=1e6)], DemoOptions())

    assert plan.longest_s <= 2.5


def test_kills_are_spread_over_the_replay() -> None:
    plan = make_plan(rows(100), DemoOptions(kill=3))

    assert plan.kills_s == tuple(pytest.approx(plan.replay_s * i / 4) for i in (1, 2, 3))
    assert make_plan(rows(100), DemoOptions(kill=0)).kills_s == ()


def test_head_starts_run_as_fast_as_durations() -> None:
    plan = make_plan(rows(10), DemoOptions(speed=100.0))

    assert plan.settings.head_start_s.high == 6.0


def test_descriptions_are_cut_to_what_a_task_may_hold() -> None:
    plan = make_plan([row(description="ä" * 20_000)], DemoOptions())

    assert len(plan.tasks[0].task.description) == 2_000


def test_a_row_that_is_no_task_is_named() -> None:
    parents = [row(f"p{i}") for i in range(1_001)]
    child = row("child", depends_on=tuple(parent.id for parent in parents))

    with pytest.raises(InvalidInput, match="row child: depends_on: "):
        make_plan([*parents, child], DemoOptions())


def test_a_trace_without_rows_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no rows"):
        make_plan([], DemoOptions())


def test_the_shipped_trace_fits_into_the_time_there_is() -> None:
    plan = make_plan(read(SHIPPED), DemoOptions())

    assert plan.replay_s <= LONGEST_S
    assert len(plan.kills_s) == MOST_KILLS
    assert {
        role: sum(units(plan, role)) for role in ("developer", "devops", "tester", "writer")
    } == {
        "developer": 26,
        "devops": 2,
        "tester": 2,
        "writer": 2,
    }


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"agents": 1}, "--agents is 1, must be: from 2 to 500"),
        ({"load": float("nan")}, "--load is nan"),
        ({"speed": 0.0}, "--speed is 0"),
        ({"limit": 0}, "--limit is 0"),
        ({"kill": -1}, "--kill is -1"),
        ({"replicas": 0}, "--replicas is 0"),
    ],
)
def test_options_out_of_bounds_are_refused(fields: dict[str, float], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        DemoOptions(trace=Path("x.csv"), **fields)  # type: ignore[arg-type]
