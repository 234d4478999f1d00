"""The script `agent_set`: an operator pauses, resumes and retires agents. Deadlines are in test_retire.py."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.core.lanes import AgentClass, class_definition
from balancer.core.model import Admin
from balancer.ledger import Pool
from balancer.ledger import reclaim as reclaims
from balancer.ledger.agent_set import SCRIPT, Verb, agent_set
from balancer.ledger.read_fleet import agents_by_id
from tests.support.factories import (
    GONE,
    NOW_MS,
    NOW_US,
    Clock,
    assert_bad_argument,
    assert_guarded,
    assign,
    beat,
    changes,
    commit,
    complete,
    drain,
    entries,
    fields,
    make_task,
    populate,
    proposal,
    submit,
)

CLASS, _ = class_definition(AgentClass("dev", (), 2))


def say(pool: Pool, verb: str, deadline_s: float = 0.0, agent: str = "a1") -> tuple[str, int]:
    outcome, held = agent_set(pool, agent, Verb(verb), deadline_s)
    return outcome.value, held


def admin(pool: Pool, agent: str = "a1") -> Any:
    return pool.client.hget(pool.keys.agent(agent), "admin")


@pytest.fixture
def busy(virtual_pool: Pool, clock: Clock) -> Pool:
    """a1 has two units, holds t1, and has been heard just now; t2 waits."""
    beat(virtual_pool, max_concurrent=2)
    submit(virtual_pool, "t1", "t2")
    assign(virtual_pool)
    virtual_pool.client.delete(virtual_pool.keys.wake)
    clock.advance(1)
    return virtual_pool


def test_pause_keeps_what_is_held_and_gives_nothing_new(busy: Pool) -> None:
    with changes(busy) as seen:
        assert say(busy, "pause") == ("paused", 1)

    assert seen.state == {
        "agent:a1 admin": "paused",
        f"free:{CLASS} a1": GONE,
        f"fc:dev {CLASS}": GONE,
        f"capacity:dev {CLASS}": GONE,
        "role:dev fleet_ver": "2",
    }
    assert seen.events == [("agent_paused", "", "a1", "1")]
    assert commit(busy, proposal("t2")) == ["not_accepting"]
    assert drain(busy) == {}
    assert complete(busy, "t1") == "ok"
    assert drain(busy) == {}


def test_heartbeats_leave_a_pause_as_it_is(busy: Pool) -> None:
    say(busy, "pause")

    assert beat(busy, max_concurrent=2) == "ok"
    assert beat(busy, max_concurrent=4) == "changed"
    assert beat(busy, boot=2, max_concurrent=2, start=True) == "new_boot"

    assert admin(busy) == "paused"
    assert drain(busy) == {}


def test_resume_gives_work_again_at_once(busy: Pool) -> None:
    say(busy, "pause")

    with changes(busy) as seen:
        assert say(busy, "resume") == ("resumed", 1)

    now_ms = NOW_MS + 1_000
    assert seen.state == {
        **fields("agent:a1", admin="", freed_us=str(NOW_US + 1_000_000)),
        f"free:{CLASS} a1": 500 * 2**42 + now_ms,
        f"fc:dev {CLASS}": 1,
        f"capacity:dev {CLASS}": 2,
        "role:dev fleet_ver": "3",
        "wake": ["1"],
    }
    assert drain(busy) == {"t2": "a1"}


def test_retire_tells_the_agent_and_gives_nothing_new(busy: Pool) -> None:
    with changes(busy) as seen:
        assert say(busy, "retire", 10) == ("retiring", 1)

    deadline_ms = NOW_MS + 11_000
    entry, told = entries(busy, busy.keys.inbox("a1"))[-1]
    assert told == {"v": "1", "kind": "retire", "deadline_ms": str(deadline_ms)}
    assert seen.state == {
        "agent:a1 admin": f"retiring|{deadline_ms}|{entry}",
        f"inbox:a1 {entry}": told,
        "agent_timers a1": deadline_ms,
        f"free:{CLASS} a1": GONE,
        f"fc:dev {CLASS}": GONE,
        f"capacity:dev {CLASS}": GONE,
        "role:dev fleet_ver": "2",
    }
    assert seen.events == [("agent_retiring", "", "a1", "1")]
    assert commit(busy, proposal("t2")) == ["not_accepting"]


def test_a_later_heartbeat_does_not_put_the_deadline_off(busy: Pool, clock: Clock) -> None:
    say(busy, "retire", 10)
    clock.advance(5)

    beat(busy, max_concurrent=2)

    assert busy.client.zscore(busy.keys.agent_timers, "a1") == NOW_MS + 11_000
    assert reclaims.reclaim(busy, "a1").outcome == "alive"
    assert busy.client.zscore(busy.keys.agent_timers, "a1") == NOW_MS + 11_000


@pytest.mark.parametrize(
    ("verb", "deadline_s"), [("pause", 0), ("retire", 10), ("retire", 20), ("resume", 0)]
)
def test_what_was_said_already_changes_nothing(busy: Pool, verb: str, deadline_s: float) -> None:
    if verb != "resume":
        say(busy, verb, min(deadline_s, 10))

    with changes(busy) as seen:
        assert say(busy, verb, deadline_s) == ("already", 1)

    assert seen.nothing


def test_a_shorter_deadline_counts(busy: Pool) -> None:
    say(busy, "retire", 10)
    ((old, _),) = entries(busy, busy.keys.inbox("a1"))[1:]

    with changes(busy) as seen:
        assert say(busy, "retire", 3) == ("retiring", 1)

    entry, told = entries(busy, busy.keys.inbox("a1"))[-1]
    assert seen.state == {
        "agent:a1 admin": f"retiring|{NOW_MS + 4_000}|{entry}",
        f"inbox:a1 {old}": GONE,
        f"inbox:a1 {entry}": told,
        "agent_timers a1": NOW_MS + 4_000,
    }


def test_resume_takes_a_retirement_back(busy: Pool) -> None:
    say(busy, "retire", 10)
    entry, _ = entries(busy, busy.keys.inbox("a1"))[-1]

    with changes(busy) as seen:
        assert say(busy, "resume") == ("resumed", 1)

    assert seen.state[f"inbox:a1 {entry}"] == GONE
    assert admin(busy) == ""
    assert drain(busy) == {"t2": "a1"}


def test_pause_of_a_retiring_agent_is_refused(busy: Pool) -> None:
    say(busy, "retire", 10)

    with changes(busy) as seen:
        assert say(busy, "pause") == ("refused", 1)

    assert seen.nothing


def test_retire_of_a_paused_agent_goes_beyond_the_pause(busy: Pool) -> None:
    say(busy, "pause")

    assert say(busy, "retire", 10) == ("retiring", 1)
    assert str(admin(busy)).startswith("retiring|")


def test_retire_of_an_agent_that_is_gone_needs_no_deadline(virtual_pool: Pool) -> None:
    beat(virtual_pool, mode="stopped")

    with changes(virtual_pool) as seen:
        assert say(virtual_pool, "retire", 10) == ("retired", 0)

    assert seen.state == {"agent:a1 admin": "retired"}
    assert beat(virtual_pool, mode="running") == "retired"
    assert say(virtual_pool, "resume") == ("resumed", 0)
    assert beat(virtual_pool, mode="running") == "joined"


@pytest.mark.parametrize("verb", ["pause", "resume", "retire"])
def test_an_agent_that_nobody_knows_is_unknown(virtual_pool: Pool, verb: str) -> None:
    with changes(virtual_pool) as seen:
        assert say(virtual_pool, verb, agent="ghost") == ("unknown", 0)

    assert seen.nothing


def test_what_was_said_is_shown(busy: Pool) -> None:
    def shown() -> tuple[Admin, float | None, bool]:
        (agent,) = agents_by_id(busy, ["a1"])
        assert agent
        return agent.admin, agent.retires_in_s, agent.is_available

    assert shown() == (Admin.NONE, None, True)
    say(busy, "pause")
    assert shown() == (Admin.PAUSED, None, False)
    say(busy, "retire", 10)
    assert shown() == (Admin.RETIRING, 10.0, False)
    beat(busy, mode="stopped")
    assert shown() == (Admin.RETIRING, 10.0, False)


def test_agent_set_on_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    assert_guarded(virtual_pool, SCRIPT, ["a1", "retire", 1_000])


def test_agent_set_on_a_real_pool_with_a_time_of_the_callers_writes_nothing(pool: Pool) -> None:
    populate(pool)
    assert_guarded(pool, SCRIPT, ["a1", "retire", 1_000])


@pytest.mark.parametrize(
    "args",
    [
        [], ["a1"], ["a1", "pause"], ["a1", "PAUSE", 0], ["a1", "", 0], ["a1", "paus", 0], ["a1", "retire", "nan"],
        ["a1", "retire", -1], ["a1", "retire", "1e3"], ["a1", "retire", 2_592_000_001], ["a1", "retire", "1.5"],
    ],
)  # fmt: skip
def test_agent_set_with_a_bad_argument_writes_nothing(busy: Pool, args: list[object]) -> None:
    assert_bad_argument(busy, SCRIPT, args)


def test_a_paused_agent_is_lost_like_any_other(busy: Pool, clock: Clock) -> None:
    say(busy, "pause")
    submit(busy, make_task("t3", role="ops"))
    clock.advance(60)
    beat(busy, "a2", role="ops")

    assert reclaims.reclaim(busy, "a1") == ("lost", 1, 0, False)
    assert beat(busy, max_concurrent=2) == "joined"
    assert admin(busy) == "paused"
