"""The figures over a fleet's open leases."""

from __future__ import annotations

from balancer.core.workload import workload_stats


def test_figures_over_a_fleet() -> None:
    stats = workload_stats([("b", 3), ("a", 3), ("c", 0)])
    assert stats.model_dump() == {
        "total_tasks": 6,
        "agent_workloads": {"a": 3, "b": 3, "c": 0},
        "max_workload": 3,
        "busiest_agent": "a",
        "avg_workload": 2.0,
    }


def test_without_agents_all_is_zero() -> None:
    stats = workload_stats([])
    assert stats.model_dump() == {
        "total_tasks": 0,
        "agent_workloads": {},
        "max_workload": 0,
        "busiest_agent": None,
        "avg_workload": 0.0,
    }


def test_an_idle_fleet_has_no_busiest_agent() -> None:
    assert workload_stats([("a", 0), ("b", 0)]).busiest_agent is None
