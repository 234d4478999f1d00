"""`balancer task` beyond listing: asking an agent to stop, a new life, another priority, looking back."""

from __future__ import annotations

import pytest

from balancer.ledger import Pool
from tests.flow import test_cli
from tests.flow.test_cli import Command
from tests.support.factories import assign, beat, complete, make_task, submit

server, pool, balancer = test_cli.server, test_cli.pool, test_cli.balancer


@pytest.fixture
def dead(pool: Pool) -> Pool:
    """d1 failed for good on a1, d2 of role ops too; t1 runs on a1, t2 waits."""
    submit(
        pool, make_task("d1", max_failures=1), make_task("d2", "ops", max_failures=1), "t1", "t2"
    )
    beat(pool, "a1", max_concurrent=2)
    beat(pool, "a2", role="ops")
    for task, agent in (("d1", "a1"), ("d2", "a2")):
        assign(pool, task, agent)
        complete(pool, task, "failed", error="no luck")
    assign(pool, "t1", "a1")
    return pool


def test_a_running_task_is_asked_to_stop(balancer: Command, dead: Pool) -> None:
    assert balancer("task", "cancel", "t1").err == (
        "asked the agent of t1 to stop; it ends cancelled\n"
    )
    again = balancer("task", "cancel", "t1", "--json").data
    assert again == {"id": "t1", "state": "assigned", "cancelling": True}
    assert "its agent was asked to stop" in balancer("task", "show", "t1").out
    complete(dead, "t1", "cancelled")
    assert balancer("task", "cancel", "t1", "--json").data["state"] == "cancelled"


def test_dead_letters_are_listed_and_shown_with_their_history(
    balancer: Command,
    dead: Pool,
) -> None:
    rows = balancer("task", "ls", "--state", "dead", "--json").data
    assert [(row["id"], row["reason"]) for row in rows] == [("d1", "failed"), ("d2", "failed")]
    shown = balancer("task", "show", "d1", "--json").data
    [tried] = shown["history"]
    assert (tried["agent"], tried["how"]) == ("a1", "failed")
    assert "failed on a1 at" in balancer("task", "show", "d1").out


def test_retry_of_named_tasks(balancer: Command, dead: Pool) -> None:
    assert balancer("task", "retry", "d1").err == "d1: retried (it was dead)\n"
    again = balancer("task", "retry", "d1", "d2", "--json")
    assert again.code == 0
    assert again.data == [
        {"id": "d1", "outcome": "already", "state": "pending"},
        {"id": "d2", "outcome": "retried", "state": "dead"},
    ]
    balancer("task", "cancel", "t2")
    assert balancer("task", "retry", "t2").code == 5
    assert balancer("task", "retry", "nobody").code == 3
    assert balancer("task", "ls", "--state", "dead", "--json").data == []


def test_retry_of_all_that_is_dead(balancer: Command, dead: Pool) -> None:
    assert balancer("task", "retry", "--all", "--reason", "lost", "--json").data == {"retried": 0}
    assert balancer("task", "retry", "--all", "--role", "ops").err == "1 dead task retried\n"
    assert balancer("task", "retry", "--all", "--json").data == {"retried": 1}
    assert balancer("task", "retry", "--all", "--json").data == {"retried": 0}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("retry", "ID...: name tasks, or --all"),
        ("retry d1 --all", "ID...: name tasks, or --all"),
        ("retry d1 --role dev", "--role, --reason: only with --all"),
        ("retry --all --role a*", "role: 'a*'"),
        ("retry a*", "task id: 'a*'"),
        ("reprioritise --priority high", "ID...: name at least one"),
        ("reprioritise t2 --priority urgent", "priority: 'urgent' is none of critical, high"),
        ("reprioritise a* --priority high", "task id: 'a*'"),
    ],
)
def test_bad_input_is_told_and_changes_nothing(
    balancer: Command,
    dead: Pool,
    line: str,
    said: str,
) -> None:
    answer = balancer("task", *line.split())
    assert answer.code == 2
    assert said in answer.err
    assert len(balancer("task", "ls", "--state", "dead", "--json").data) == 2


def test_reprioritise(balancer: Command, dead: Pool) -> None:
    answer = balancer("task", "reprioritise", "t2", "--priority", "critical")
    assert answer.err == "t2: moved (it was pending)\n"
    assert balancer("task", "show", "t2", "--json").data["priority"] == "critical"
    again = balancer("task", "reprioritise", "t2", "--priority", "critical", "--json")
    assert (again.code, again.data[0]["outcome"]) == (0, "already")
    assert balancer("task", "reprioritise", "t1", "--priority", "low").code == 5
