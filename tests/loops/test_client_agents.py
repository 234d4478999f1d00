"""What an operator says about agents, through the client."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from balancer import Balancer, Conflict, InvalidInput, NotFound
from balancer.core.model import Admin
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from tests.support.factories import assign, beat, changes, submit


@pytest.fixture
def operator(redis_server: EmbeddedRedis, pool: Pool) -> Iterator[Balancer]:
    beat(pool, max_concurrent=2)
    submit(pool, "t1")
    assign(pool)
    with Balancer(redis_server.url, pool.name) as balancer:
        yield balancer


def test_pause_resume_and_retire_answer_what_is_held(operator: Balancer) -> None:
    assert operator.pause_agent("a1") == 1
    assert operator.agents()[0].admin is Admin.PAUSED
    assert operator.resume_agent("a1") == 1
    assert operator.agents()[0].admin is Admin.NONE
    assert operator.retire_agent("a1", 60) == 1
    agent = operator.agents()[0]
    assert agent.admin is Admin.RETIRING
    assert agent.retires_in_s == pytest.approx(60, abs=5)


def test_each_said_again_changes_nothing(operator: Balancer, pool: Pool) -> None:
    calls: tuple[Callable[[], int], ...] = (
        lambda: operator.pause_agent("a1"),
        lambda: operator.resume_agent("a1"),
        lambda: operator.retire_agent("a1", 60),
    )
    for say in calls:
        say()
        with changes(pool) as seen:
            assert say() == 1
        assert seen.nothing


def test_pause_of_a_retiring_agent_is_a_conflict(operator: Balancer) -> None:
    operator.retire_agent("a1", 60)
    with pytest.raises(Conflict, match="'a1' is retiring"):
        operator.pause_agent("a1")


def test_an_unknown_agent_is_not_found(operator: Balancer) -> None:
    for say in (
        operator.pause_agent,
        operator.resume_agent,
        lambda agent: operator.retire_agent(agent, 1),
    ):
        with pytest.raises(NotFound, match=r"agent 'ghost'.*pool 'p'"):
            say("ghost")


@pytest.mark.parametrize("deadline_s", [-1, 2_592_001, float("nan"), float("inf"), True, "60"])
def test_a_deadline_out_of_bounds_is_refused(
    operator: Balancer, pool: Pool, deadline_s: float
) -> None:
    with changes(pool) as seen, pytest.raises(InvalidInput, match="deadline_s"):
        operator.retire_agent("a1", deadline_s)
    assert seen.nothing


@pytest.mark.parametrize("name", ["", "a b", "a\n", "ü", "x" * 65])
def test_what_cannot_be_an_agent_is_refused(operator: Balancer, name: str) -> None:
    with pytest.raises(InvalidInput, match="agent id"):
        operator.pause_agent(name)
