"""Why a task is where it is: one golden sentence a reason, what stands behind it, and that the planner agrees."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import redis

from balancer.core.errors import Misconfigured
from balancer.core.explain.answer import Code, Span, Why
from balancer.core.explain.picture import Refusal
from balancer.core.explain.words import EXCLUDED, SENTENCES
from balancer.core.plan.rules import Rule
from balancer.core.settings import PoolSettings
from balancer.ledger import Pool, read_role
from balancer.ledger.agent_set import Verb, agent_set
from balancer.ledger.cancel import cancel
from balancer.ledger.due import due
from balancer.ledger.exchange import drive
from balancer.ledger.expire import expire
from balancer.ledger.read_tasks import lane_of
from balancer.ledger.read_tried import tried as tried_of
from balancer.ledger.read_why import why
from balancer.ledger.reclaim import reclaim
from balancer.ledger.release import release
from balancer.ledger.replicas import sign
from balancer.ledger.role_set import pause
from tests.support.factories import (
    Clock,
    assign,
    beat,
    changes,
    commit,
    complete,
    drain,
    later,
    make_task,
    plan,
    proposal,
    submit,
)


@pytest.fixture
def fit(redis_client: redis.Redis, clock: Clock) -> Pool:
    """A virtual pool of the strategy `fit` that a balancer serves; its default task takes an hour."""
    pool = Pool.create(redis_client, "p", PoolSettings(strategy="fit"), clock=clock)
    serve(pool)
    return pool


def serve(pool: Pool) -> None:
    """As if a balancer had just ticked."""
    assert pool.clock
    pool.client.hset(pool.keys.meta, "last_tick_ms", pool.clock() // 1_000)


def decide_by(pool: Pool, strategy: str, *, unable: int, of: int) -> None:
    """As if the pool had been configured where the class is, and as many of the balancers could not load it."""
    text = pool.settings.model_copy(update={"strategy": strategy}).model_dump_json()
    pool.client.hset(pool.keys.settings, "json", text)
    ver = int(pool.client.hget(pool.keys.meta, "settings_ver"))
    for slot in range(of):
        told = sign(f"host {slot} n", {"drainer": 1.0}, ver if slot < unable else None)
        pool.client.set(pool.keys.consumer(slot), told, px=30_000)


def ask(pool: Pool, task: str = "t1") -> Why:
    """The answer, which changes nothing."""
    with changes(pool) as seen:
        answer = why(pool, task)
    assert seen.nothing
    assert answer is not None
    return answer


# --- a golden sentence a reason: what leads to it, then what is said ---


def scheduled(pool: Pool, clock: Clock) -> str:
    submit(pool, make_task(not_before=later(90)))
    return "It waits for its time, in 90 s."


def blocked(pool: Pool, clock: Clock) -> str:
    beat(pool)
    submit(pool, "p1", "p2", make_task(depends_on=("p1", "p2")))
    assign(pool, "p1")
    return "It waits for 2 tasks: p1 (assigned), p2 (pending), to complete."


def backing_off(pool: Pool, clock: Clock) -> str:
    submit(pool, "t1")
    beat(pool)
    assign(pool)
    complete(pool, status="failed")
    return "Try 1 of 3 failed; the next one may start in 5.0 s."


def is_due(pool: Pool, clock: Clock) -> str:
    submit(pool, make_task(not_before=later(5)))
    clock.advance(5)
    return "What it waited for has come; the next sweep puts it into the queue, within a second."


def role_paused(pool: Pool, clock: Clock) -> str:
    beat(pool)
    submit(pool, "t1")
    pause(pool, "dev")
    return "The queue of role dev is paused."


def no_agents(pool: Pool, clock: Clock) -> str:
    beat(pool, "other", role="ops")
    submit(pool, "t1")
    return "No agent of role dev is live."


def unplaceable(pool: Pool, clock: Clock) -> str:
    beat(pool, "a1", skills={"gpu": 1}, max_concurrent=4)
    beat(pool, "a2", max_concurrent=4)
    beat(pool, "a3", max_concurrent=1, skills={"gpu": 5, "go": 1})
    submit(pool, make_task(requires={"gpu": 3, "go": 2}, cost=2))
    return (
        "No live agent of role dev could ever have it: 1 too small, 2 without the skills; it needs"
        " go 2 (the best has 1), 2 units."
    )


def not_accepting(pool: Pool, clock: Clock) -> str:
    for agent in ("a1", "a2", "a3"):
        beat(pool, agent, skills={"gpu": 3})
    beat(pool, "small")
    agent_set(pool, "a1", Verb.PAUSE)
    agent_set(pool, "a2", Verb.RETIRE, 60)
    beat(pool, "a3", skills={"gpu": 3}, mode="stopping")
    submit(pool, make_task(requires={"gpu": 3}))
    return (
        "Those of role dev that could have it take no new work: 1 paused, 1 retiring, 1 without the"
        " skills, 1 stopping."
    )


def health(pool: Pool, clock: Clock) -> str:
    beat(pool, "a1")
    submit(pool, "t1")
    clock.advance(20)
    serve(pool)
    beat(pool, "other", role="ops")
    return "The one agent that could have it has not been heard of for too long."


def noticed(pool: Pool, clock: Clock) -> str:
    """As health, once the pool has taken them out of the index."""
    for agent in ("a1", "a2"):
        beat(pool, agent, ttl_ms=6_000_000)
    beat(pool, "a3", ttl_ms=6_000_000)
    agent_set(pool, "a3", Verb.PAUSE)
    submit(pool, "t1")
    clock.advance(900)
    serve(pool)
    beat(pool, "other", role="ops")
    for agent in ("a1", "a2"):
        reclaim(pool, agent)
    return "All 2 agents that could have it have not been heard of for too long."


def all_busy(pool: Pool, clock: Clock) -> str:
    beat(pool, "a1", max_concurrent=2)
    beat(pool, "a2", max_concurrent=2)
    submit(pool, "b1", "b2", "b3", "b4", "t0", "t1")
    for task, agent in (("b1", "a1"), ("b2", "a1"), ("b3", "a2"), ("b4", "a2")):
        assign(pool, task, agent)
    return "All 2 agents that could have it are full: 4 of 4 units in use; it is number 2 in line."


def tried(pool: Pool, clock: Clock) -> str:
    beat(pool, "a1")
    beat(pool, "a2")
    submit(pool, "t1", "b1")
    assign(pool, "t1", "a1")
    assign(pool, "b1", "a2")
    complete(pool, status="failed")
    clock.advance(6)
    serve(pool)
    due(pool)
    beat(pool, "a1")
    return (
        "It failed on a1, and those that have not tried it yet have no room: 1 full, 1 failed it."
    )


def failing(pool: Pool, clock: Clock) -> str:
    beat(pool, "good")
    for name in ("bad", "worse"):
        beat(pool, name)
        for n in range(20):
            submit(pool, make_task(f"{name}{n}", max_failures=1))
            assign(pool, f"{name}{n}", name)
            complete(pool, f"{name}{n}", "failed")
    submit(pool, "b1", "t1")
    assert drain(pool) == {"b1": "good"}
    return (
        "Those that have room (bad, worse) fail nearly all that they try, and the others have none:"
        " 2 failing too often, 1 full; it is number 1 in line."
    )


def avoided(pool: Pool, clock: Clock) -> str:
    beat(pool, "a1")
    submit(pool, "t1")
    assign(pool)
    complete(pool, status="rejected")
    return (
        "It was given back by a1; others go first for 10 s more, and none has room: 1 gave it back."
    )


def guarded(pool: Pool, clock: Clock) -> str:
    beat(pool, "fast", speed=8.0, max_concurrent=2)
    beat(pool, "slow", speed=0.5)
    submit(pool, "b1", "b2", "t1")
    assign(pool, "b1", "fast")
    assign(pool, "b2", "fast")
    clock.advance(1)
    beat(pool, "slow", speed=0.5)
    pool.client.hset(pool.keys.role("dev"), "service_us", 450_000_000)
    return (
        "Faster agents (2 units, up to speed 8) should start it in 59 s and have done it in 8 min; those that"
        " have room would take 2 h. It waits for the faster ones for 22 min at most, or until more such work waits."
    )


def reserved(pool: Pool, clock: Clock) -> str:
    beat(pool, "a1", max_concurrent=4)
    submit(pool, "b1", make_task("large", cost=4), make_task("t1", priority="low"))
    assign(pool, "b1")
    return (
        "What has room, agent a1, is kept free for task large, which needs more units at once than any agent"
        " has left; it is number 2 in line."
    )


def waits_in_line(pool: Pool, clock: Clock) -> str:
    beat(pool, "a1", max_concurrent=2)
    submit(pool, "t0", "b1", "t1")
    return "Others go before it to the 2 free units that it could have; it is number 3 in line."


def placing(pool: Pool, clock: Clock) -> str:
    beat(pool, "a1")
    submit(pool, "t1")
    return "It is about to be given to agent a1."


def unserved(pool: Pool, clock: Clock) -> str:
    beat(pool, "a1")
    submit(pool, "t1")
    # Nobody applies heartbeats meanwhile, so the silence of a1 says nothing.
    clock.advance(200)
    return "No balancer serves the pool, since 3 min: nothing is given to agents, nor is heard what they say."


def undecided(pool: Pool, clock: Clock) -> str:
    beat(pool, "a1")
    submit(pool, "t1")
    decide_by(pool, "nowhere:Nobody", unable=2, of=2)
    return (
        "No balancer that runs can load the strategy nowhere:Nobody, so nothing is given to agents."
    )


def assigned(pool: Pool, clock: Clock) -> str:
    beat(pool, "a1")
    submit(pool, "t1")
    assert drain(pool) == {"t1": "a1"}
    clock.advance(30)
    return "Agent a1 has held it for 30 s (try 1)."


def cancelling(pool: Pool, clock: Clock) -> str:
    beat(pool)
    submit(pool, "t1")
    assign(pool)
    cancel(pool, ["t1"], "not needed")
    return "Agent a1 holds it and was asked to stop; it ends cancelled."


def completed(pool: Pool, clock: Clock) -> str:
    beat(pool)
    submit(pool, "t1")
    assign(pool)
    clock.advance(4)
    complete(pool)
    return "It is completed: agent a1 did it in 4.0 s (try 1)."


def dead(pool: Pool, clock: Clock) -> str:
    beat(pool)
    submit(pool, make_task(max_failures=2))
    for _ in range(2):
        assign(pool)
        clock.advance(2)
        complete(pool, status="failed")
        clock.advance(20)
        due(pool)
        beat(pool)
    return (
        "It is dead (failed) and will not be tried again; 2 tries did not complete, the last one failed on a1"
        " after 2.0 s."
    )


def cancelled(pool: Pool, clock: Clock) -> str:
    submit(pool, "t1")
    cancel(pool, ["t1"], "not needed")
    return "It was cancelled (not needed)."


GOLDEN: dict[Code, Callable[[Pool, Clock], str]] = {
    Code.SCHEDULED: scheduled,
    Code.BLOCKED: blocked,
    Code.BACKING_OFF: backing_off,
    Code.DUE: is_due,
    Code.ROLE_PAUSED: role_paused,
    Code.NO_AGENTS: no_agents,
    Code.UNPLACEABLE: unplaceable,
    Code.NOT_ACCEPTING: not_accepting,
    Code.HEALTH: health,
    Code.ALL_BUSY: all_busy,
    Code.TRIED: tried,
    Code.FAILING: failing,
    Code.AVOIDED: avoided,
    Code.GUARDED: guarded,
    Code.RESERVED: reserved,
    Code.WAITS_IN_LINE: waits_in_line,
    Code.PLACING: placing,
    Code.UNSERVED: unserved,
    Code.UNDECIDED: undecided,
    Code.ASSIGNED: assigned,
    Code.CANCELLING: cancelling,
    Code.COMPLETED: completed,
    Code.DEAD: dead,
    Code.CANCELLED: cancelled,
}


#: What helps in these cases; nothing but time in the others.
HELPS = {
    Code.BLOCKED: "balancer task why p1",
    Code.ROLE_PAUSED: "balancer queue resume dev",
    Code.NO_AGENTS: "start an agent: worker run --role dev -- PROGRAM",
    Code.UNPLACEABLE: "start an agent of role dev with go 2, gpu 3, 2 units",
    Code.NOT_ACCEPTING: "balancer agent resume a1",
    Code.HEALTH: "look at the machines, or at: balancer agent show a1",
    Code.ALL_BUSY: "start more agents of role dev, or let it go before others: balancer task reprioritise t1"
    " --priority high",
    Code.TRIED: "start more agents of role dev, or look at what its tries said",
    Code.FAILING: "start more agents of role dev, or look at: balancer agent show bad",
    Code.GUARDED: "to let slow agents have such tasks at once: balancer configure --set guard_slack=0",
    Code.UNSERVED: "balancer serve",
    Code.UNDECIDED: "install the class where the balancers run, or: balancer configure --strategy fit",
    Code.DEAD: "balancer task retry t1",
}
HELPS[Code.WAITS_IN_LINE] = HELPS[Code.ALL_BUSY]


@pytest.mark.parametrize("code", list(Code))
def test_each_reason_has_its_sentence_and_what_helps(code: Code, fit: Pool, clock: Clock) -> None:
    sentence = GOLDEN[code](fit, clock)
    answer = ask(fit)
    assert (answer.code, answer.text, answer.helps) == (code, sentence, HELPS.get(code, ""))


def test_late_agents_have_the_same_sentence_once_the_pool_has_noticed(
    fit: Pool, clock: Clock
) -> None:
    sentence = noticed(fit, clock)
    answer = ask(fit)
    assert (answer.code, answer.text) == (Code.HEALTH, sentence)
    assert answer.helps == HELPS[Code.HEALTH]
    assert answer.excluded == {"health": 2, "paused": 1}
    assert (answer.suitable, answer.goes_to) == (0, None)


def test_there_are_words_for_every_reason_and_rule() -> None:
    assert SENTENCES.keys() == set(Code)
    assert EXCLUDED.keys() == {*Rule, *Refusal}
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")
    section = page.split("## Why does it wait?")[1].split("\n## ")[0]
    assert [code for code in Code if f"`{code}`" not in section] == []


# --- the counts behind it, and who else may have it ---


def test_a_waiting_task_names_its_candidates_its_place_and_when_it_should_start(
    fit: Pool, clock: Clock
) -> None:
    beat(fit, "fast", speed=2.0, type="builder")
    beat(fit, "slow", max_concurrent=2)
    beat(fit, "unskilled")
    submit(fit, make_task("b1"), make_task("b2", estimate_s=60.0))
    assign(fit, "b1", "fast")
    assign(fit, "b2", "slow")
    clock.advance(100)
    for agent, facts in (
        ("fast", {"speed": 2.0, "type": "builder"}),
        ("slow", {"max_concurrent": 2}),
    ):
        beat(fit, agent, **facts)
    agent_set(fit, "slow", Verb.PAUSE)
    serve(fit)
    submit(fit, "t0", "t1")

    answer = ask(fit)

    assert (answer.code, answer.position, answer.is_position_exact) == (Code.ALL_BUSY, 2, True)
    assert answer.excluded == {"paused": 1, "full": 1, "health": 1}
    assert (answer.suitable, answer.suitable_units, answer.free_units) == (2, 2, 1)
    slow, fast, unskilled = sorted(
        answer.candidates, key=lambda one: (one.agent != "slow", one.agent)
    )
    assert (slow.excluded, fast.excluded, unskilled.excluded) == ("paused", "full", "health")
    assert (fast.speed, fast.rel, slow.speed, slow.rel) == (2.0, 1.0, 1.0, 0.5)
    # b1 was granted for 60 s (see proposal) and has run for 100: so it counts as 150. Then t0 at speed 2.
    assert answer.outlook is not None
    assert answer.outlook.starts_in == Span(low_s=50 + 1_800, high_s=50 + 1_800)
    assert answer.outlook.ends_in == Span(low_s=50 + 3_600, high_s=50 + 3_600)


def test_an_assigned_task_shows_what_decided_and_who_could_have_it_now(
    fit: Pool, clock: Clock
) -> None:
    beat(fit, "fast", speed=2.0, max_concurrent=2)
    beat(fit, "slow")
    submit(fit, make_task(requires={}))
    assert drain(fit) == {"t1": "fast"}
    clock.advance(1)

    answer = ask(fit)

    assert answer.code is Code.ASSIGNED
    assert answer.assignment is not None
    assert (answer.assignment.agent_id, answer.assignment.scores) == ("fast", {"speed": 2.0})
    holder, other = answer.candidates
    assert (holder.agent, holder.holds_it, holder.used, holder.rel) == ("fast", True, 1, 1.0)
    assert (other.agent, other.holds_it, other.excluded, other.rel) == ("slow", False, None, 0.5)
    # Twice as long there, so its place would be so much later: 3,600 s / (2 x .2), with its ready time now.
    assert holder.index_s == pytest.approx(9_000 - 1)
    assert other.index_s == pytest.approx(18_000 - 1)
    assert answer.outlook is not None
    assert answer.outlook.starts_in is None
    assert answer.outlook.ends_in.low_s == pytest.approx(1_800 - 1)


def test_with_a_strategy_that_scores_the_candidates_have_their_scores(virtual_pool: Pool) -> None:
    serve(virtual_pool)
    beat(virtual_pool, "a1", max_concurrent=2, specializations=("bug",))
    beat(virtual_pool, "a2", max_concurrent=2)
    submit(virtual_pool, make_task(category="bug"))

    answer = ask(virtual_pool)

    weights = virtual_pool.settings.weights
    plain = {"health": weights.health, "load": weights.load}
    special = plain | {"specialization": weights.specialization}
    assert (answer.code, answer.goes_to) == (Code.PLACING, "a1")
    assert [(one.agent, one.scores) for one in answer.candidates] == [
        ("a1", special),
        ("a2", plain),
    ]
    assert {one.index_s for one in answer.candidates} == {None}


def test_large_and_lone_tasks_say_what_they_need(fit: Pool, clock: Clock) -> None:
    beat(fit, "a1", max_concurrent=4)
    submit(fit, "b1", make_task(cost=4))
    assign(fit, "b1")

    answer = ask(fit)

    assert (answer.code, answer.most_free, answer.kept_agent, answer.kept_for) == (
        *(Code.ALL_BUSY, 3, "a1", "t1"),
    )
    assert answer.text == (
        "The one agent that could have it is full: 1 of 4 units in use, it needs 4 at once of one agent,"
        " agent a1 is kept free for it; it is number 1 in line."
    )


def test_unknown_tasks_have_no_reason(fit: Pool) -> None:
    assert why(fit, "t1") is None


def test_agents_that_have_no_room_anyway_are_busy_whatever_the_task_has_been_through(
    fit: Pool, clock: Clock
) -> None:
    tried(fit, clock)
    submit(fit, "b2")
    assign(fit, "b2", "a1")
    answer = ask(fit)
    assert (answer.code, answer.excluded) == (Code.ALL_BUSY, {"tried": 1, "full": 1})


def test_the_guard_lets_go_by_what_stands_in_the_lane_from_the_task_on(
    fit: Pool, clock: Clock
) -> None:
    guarded(fit, clock)
    submit(fit, "t2")
    first, second = ask(fit, "t1").guard, ask(fit, "t2").guard
    assert first is not None
    assert second is not None
    assert first.lapses_in_s == pytest.approx(1.5 * (450 * 3 / 2 + 450) - 1)
    assert second.lapses_in_s == pytest.approx(1.5 * (450 * 2 / 2 + 450))
    assert [(one.speed, one.units) for one in first.better] == [(8.0, 2)]
    assert first.better[0].class_id == fit.client.hget(fit.keys.agent("fast"), "class")


def test_the_guard_and_the_outlook_say_the_same(fit: Pool, clock: Clock) -> None:
    """What is left of the running task counts for both: with 60 s it starts in time, with a day it does not."""
    beat(fit, "fast", speed=8.0)
    beat(fit, "slow", speed=0.5)
    submit(fit, "b1", "t1")
    assign(fit, "b1", "fast")
    answer = ask(fit)
    assert answer.code is Code.GUARDED
    assert answer.guard is not None
    assert answer.guard.is_in_time
    assert answer.outlook is not None
    assert answer.outlook.starts_in == Span(low_s=60, high_s=60)
    assert answer.outlook.ends_in.low_s == answer.guard.better_in_s == 60 + 450
    assert answer.text == (
        "Faster agents (1 unit, up to speed 8) should start it in 60 s and have done it in 8 min; those that"
        " have room would take 2 h. It waits for the faster ones for 34 min at most, or until more such work waits."
    )


def test_a_guarded_task_starts_at_the_latest_when_the_guard_lets_go(fit: Pool) -> None:
    beat(fit, "fast", speed=8.0)
    beat(fit, "slow", speed=0.5)
    submit(fit, "b1", "t1")
    assert commit(fit, proposal("b1", "fast", estimate_s=9e4)) == ["assigned"]
    answer = ask(fit)
    assert answer.code is Code.GUARDED
    assert answer.guard is not None
    assert answer.outlook is not None
    assert answer.outlook.starts_in is not None
    lapse_s = pytest.approx(1.5 * (450 * 2 + 450))
    assert answer.due_in_s == answer.guard.lapses_in_s == lapse_s
    assert answer.guard.better_starts_in_s == 9e4
    assert answer.outlook.starts_in.low_s == answer.outlook.starts_in.high_s == lapse_s
    # It then goes to the one that has room, at half the speed.
    assert answer.outlook.ends_in.low_s == pytest.approx(1.5 * 1_350 + 7_200)
    assert answer.text == (
        "It is kept for faster agents (1 unit, up to speed 8), which should not have room before 25 h; those"
        " that have room would take 2 h. The guard lets go of it in 34 min, or when more such work waits;"
        " then it goes to one of those."
    )


def test_when_no_balancer_serves_each_waiting_task_says_so(fit: Pool, clock: Clock) -> None:
    beat(fit, "a1")
    submit(fit, "t1", "t2", make_task("t3", requires={"go": 1}), make_task("t4", role="ops"))
    clock.advance(200)
    answers = {task: ask(fit, task) for task in ("t1", "t2", "t3", "t4")}
    assert {answer.code for answer in answers.values()} == {Code.UNSERVED}
    assert [answer.besides for answer in answers.values()] == [
        *(None, Code.WAITS_IN_LINE, Code.UNPLACEABLE, Code.NO_AGENTS),
    ]
    assert {answer.outlook for answer in answers.values()} == {None}
    serve(fit)
    beat(fit, "a1")
    assert [ask(fit, task).code for task in answers] == [
        *(Code.PLACING, Code.WAITS_IN_LINE, Code.UNPLACEABLE, Code.NO_AGENTS),
    ]


def test_a_balancer_that_has_just_begun_serves_the_pool(fit: Pool) -> None:
    fit.client.hset(fit.keys.meta, "last_tick_ms", 0)
    beat(fit, "a1")
    submit(fit, "t1")
    assert ask(fit).text.startswith("No balancer serves the pool, and none ever has: nothing")
    fit.client.set(fit.keys.consumer(0), "host 1 n", px=30_000)
    assert ask(fit).code is Code.PLACING


class ByName:
    """A strategy that is importable here."""

    name, order = "by_name", "load"

    def __init__(self, settings: PoolSettings) -> None:
        pass

    def agent_part(self, agent: Any) -> dict[str, float]:
        return {"name": float(agent.id == "a1")}

    def match_part(self, lane: Any, cls: Any) -> dict[str, float]:
        return {}


def test_a_strategy_that_no_balancer_can_load(fit: Pool) -> None:
    beat(fit, "a1")
    submit(fit, "t1", "t2", make_task("t3", requires={"go": 1}))
    path = f"{__name__}:ByName"
    decide_by(fit, path, unable=2, of=2)
    answers = [ask(fit, task) for task in ("t1", "t2", "t3")]
    assert {(answer.code, answer.strategy) for answer in answers} == {(Code.UNDECIDED, path)}
    assert [answer.besides for answer in answers] == [None, Code.WAITS_IN_LINE, Code.UNPLACEABLE]
    assert answers[0].candidates[0].scores == {"name": 1.0}
    # One that can is enough; and where none runs, nobody has said that it cannot.
    decide_by(fit, path, unable=1, of=2)
    assert ask(fit).code is Code.PLACING
    decide_by(fit, path, unable=0, of=2)
    assert ask(fit).code is Code.PLACING
    # A word about other settings says nothing.
    decide_by(fit, path, unable=2, of=2)
    fit.client.hincrby(fit.keys.meta, "settings_ver", 1)
    assert ask(fit).code is Code.PLACING
    decide_by(fit, "nowhere:Nobody", unable=0, of=1)
    with pytest.raises(Misconfigured, match="nowhere"):
        why(fit, "t1")


def test_the_place_leaves_out_what_no_agent_could_have(fit: Pool) -> None:
    beat(fit, "a1", max_concurrent=2)
    submit(fit, "b1", "b2")
    assign(fit, "b1")
    assign(fit, "b2")
    lost = [make_task(f"x{n}", requires={"go": 1}, priority="critical") for n in range(3)]
    submit(fit, *lost, make_task("large", cost=9, priority="critical"), "t0", "t1")
    answer = ask(fit)
    assert (answer.position, answer.unplaceable_ahead) == (2, 4)
    assert answer.text == (
        "The one agent that could have it is full: 2 of 2 units in use; it is number 2 in line, not counting"
        " 4 tasks that no agent could have."
    )
    assert ask(fit, "x1").position is None


# --- one instant ---


def grant(pool: Pool, clock: Clock) -> None:
    assert drain(pool)


def grant_the_task(pool: Pool, clock: Clock) -> None:
    assign(pool, "t1", "a2")


def finish(pool: Pool, clock: Clock) -> None:
    complete(pool, "b1")


def join(pool: Pool, clock: Clock) -> None:
    beat(pool, "a3", max_concurrent=3)


def pause_one(pool: Pool, clock: Clock) -> None:
    agent_set(pool, "a1", Verb.PAUSE)


@pytest.mark.parametrize("happens", [grant, grant_the_task, finish, join, pause_one])
@pytest.mark.parametrize("trip", range(1, 8))
def test_what_happens_between_two_reads_is_in_the_answer_or_is_not(
    fit: Pool, clock: Clock, trip: int, happens: Callable[[Pool, Clock], None]
) -> None:
    beat(fit, "a1")
    submit(fit, "b1", make_task("t0", priority="high"), "t1")
    assign(fit, "b1")
    beat(fit, "a2")
    before = ask(fit)

    def interrupted() -> Generator[Any, Any, Any]:
        steps, reply = why.steps(fit, "t1"), None
        for number in itertools.count(1):
            try:
                step = steps.send(reply)
            except StopIteration as done:
                return done.value
            reply = yield step
            if number == trip:
                happens(fit, clock)

    found = drive(fit.client, interrupted())
    after = ask(fit)
    told = [(one.code, one.text, one.excluded, one.free_units) for one in (before, found, after)]
    assert told[1] in (told[0], told[2])


def test_the_end_of_a_task_follows_from_its_own_lease(fit: Pool, clock: Clock) -> None:
    beat(fit, "a1", max_concurrent=3)
    submit(fit, "t0", "t1", "t2")
    for task, estimate_s in (("t0", 10.0), ("t1", 500.0), ("t2", 20.0)):
        assert commit(fit, proposal(task, "a1", estimate_s=estimate_s)) == ["assigned"]
    ends = [
        answer.ends_in.low_s for task in ("t0", "t1", "t2") if (answer := ask(fit, task).outlook)
    ]
    assert ends == [10, 500, 20]


# --- what befell it, and what its producer asked for ---


def test_what_tries_said_and_how_often_it_was_lost(fit: Pool, clock: Clock) -> None:
    submit(fit, make_task(max_failures=2))
    beat(fit, "a1")
    assign(fit)
    complete(fit, status="failed", error="ValueError: no")
    answer = ask(fit)
    assert (answer.code, answer.error, answer.tried) == (
        *(Code.BACKING_OFF, "ValueError: no", ("a1",)),
    )
    clock.advance(20)
    due(fit)
    beat(fit, "a2")
    assign(fit, agent="a2")
    clock.advance(60)
    serve(fit)
    beat(fit, "other", role="ops")
    assert [reclaim(fit, agent).requeued for agent in ("a1", "a2")] == [0, 1]
    answer = ask(fit)
    assert (answer.code, answer.losses, answer.max_losses) == (Code.NO_AGENTS, 1, 3)
    assert (answer.lost, answer.error) == (("a2", "a1"), "")
    assert answer.text == "No agent of role dev is live; a2, a1 were lost."
    beat(fit, "a3")
    assign(fit, agent="a3")
    complete(fit, status="failed", error="ValueError: still no")
    answer = ask(fit)
    assert (answer.code, answer.error) == (Code.DEAD, "ValueError: still no")


def starts_in_s(answer: Why) -> float:
    """When it should start, by the means."""
    assert answer.outlook is not None
    assert answer.outlook.starts_in is not None
    return answer.outlook.starts_in.low_s


def test_whoever_is_barred_is_no_room_for_it(fit: Pool, clock: Clock) -> None:
    tried(fit, clock)
    # b1 was to take 60 s, of which 6 have gone; a1, on which it failed, has nothing to do.
    assert starts_in_s(ask(fit)) == pytest.approx(54)


def test_whoever_gave_it_back_is_no_room_for_it_yet(fit: Pool, clock: Clock) -> None:
    avoided(fit, clock)
    answer = ask(fit)
    assert starts_in_s(answer) == answer.due_in_s == 10


def test_a_preferred_agent_that_the_guard_holds_off_is_said_to_be_guarded(fit: Pool) -> None:
    beat(fit, "fast", speed=8.0)
    beat(fit, "slow", speed=0.5)
    submit(fit, "b1", make_task("t1", prefer_agent="slow"))
    assign(fit, "b1", "fast")
    answer = ask(fit)
    assert (answer.code, answer.prefers, answer.unmet) == (Code.GUARDED, "slow", "guarded")


@pytest.mark.parametrize("strategy", ["fit", "best_match"])
def test_a_preferred_agent_that_is_kept_free_is_said_to_be(
    redis_client: redis.Redis, clock: Clock, strategy: str
) -> None:
    pool = Pool.create(redis_client, "p", PoolSettings(strategy=strategy), clock=clock)
    serve(pool)
    beat(pool, "a1", max_concurrent=4)
    wish = make_task("t1", priority="low", prefer_agent="a1")
    submit(pool, "b1", make_task("large", cost=4, prefer_agent="a1"), wish)
    assign(pool, "b1")
    answer = ask(pool)
    assert (answer.code, answer.prefers, answer.unmet) == (Code.RESERVED, "a1", "kept free")
    assert ask(pool, "large").unmet == "full"


def test_a_paused_role_says_so_of_tasks_that_nobody_could_have_besides(fit: Pool) -> None:
    submit(fit, "t1", make_task("t2", requires={"go": 1}))
    pause(fit, "dev")
    answer = ask(fit)
    assert (answer.code, answer.besides) == (Code.ROLE_PAUSED, Code.NO_AGENTS)
    beat(fit, "a1")
    answers = [ask(fit, task) for task in ("t1", "t2")]
    assert {answer.code for answer in answers} == {Code.ROLE_PAUSED}
    assert [answer.besides for answer in answers] == [None, Code.UNPLACEABLE]


def test_skills_that_no_one_agent_has_together(fit: Pool) -> None:
    beat(fit, "a1", skills={"go": 3})
    beat(fit, "a2", skills={"gpu": 3})
    submit(fit, make_task(requires={"gpu": 2, "go": 1}))
    assert ask(fit).text == (
        "No live agent of role dev could ever have it: 2 without the skills; it needs all of go 1, gpu 2 in"
        " one agent."
    )


def test_by_which_limit_it_expired(fit: Pool, clock: Clock) -> None:
    submit(
        fit,
        make_task("t1", max_wait_s=90),
        make_task("t2", expires_at=later(60)),
        make_task("t3", max_wait_s=30, expires_at=later(60)),
        make_task("t4", max_wait_s=90, expires_at=later(60)),
        # Blocked, it waits for nobody: only expires_at counts.
        make_task("t5", max_wait_s=30, expires_at=later(60), depends_on=("t1",)),
    )
    for _ in range(3):
        clock.advance(31)
        expire(fit)
    said = {
        task: (one.expired_by, one.text)
        for task in ("t1", "t2", "t3", "t4", "t5")
        if (one := ask(fit, task)).reason == "expired"
    }
    waited = "It is dead (expired after its max_wait_s of {} s) and will not be tried again."
    moment = "It is dead (expired at its expires_at) and will not be tried again."
    assert said == {
        "t1": ("max_wait_s", waited.format(90)),
        "t2": ("expires_at", moment),
        "t3": ("max_wait_s", waited.format(30)),
        "t4": ("expires_at", moment),
        "t5": ("expires_at", moment),
    }


def test_a_reason_that_says_nothing_more_is_not_said_twice(fit: Pool) -> None:
    submit(fit, "t1")
    cancel(fit, ["t1"])
    assert ask(fit).text == "It was cancelled."


def test_when_it_expires(fit: Pool, clock: Clock) -> None:
    submit(fit, make_task("t1", max_wait_s=90), make_task("t2", expires_at=later(60)), "t3")
    clock.advance(5)
    answers = [ask(fit, task) for task in ("t1", "t2", "t3")]
    assert [(one.expires_in_s, one.max_wait_s) for one in answers] == [
        *((85, 90), (55, None), (None, None)),
    ]
    beat(fit)
    assign(fit)
    assert ask(fit).expires_in_s is None


@pytest.mark.parametrize(
    ("wish", "unmet"),
    [
        ("a1", None),
        ("a2", "full"),
        ("a3", "paused"),
        ("a4", "skill"),
        ("a5", "over 1.5 times slower"),
        ("nobody", "not a live agent of its role"),
    ],
)
def test_an_agent_that_it_would_rather_have(
    fit: Pool, clock: Clock, wish: str, unmet: str | None
) -> None:
    for agent in ("a1", "a2", "a3"):
        beat(fit, agent, skills={"go": 1})
    beat(fit, "a4")
    beat(fit, "a5", skills={"go": 1}, speed=0.5)
    submit(fit, "b1", make_task("t1", requires={"go": 1}, prefer_agent=wish, prefer_for_s=30))
    assign(fit, "b1", "a2")
    agent_set(fit, "a3", Verb.PAUSE)
    answer = ask(fit)
    assert (answer.prefers, answer.unmet) == (wish, unmet)
    clock.advance(31)
    beat(fit, "a1", skills={"go": 1})
    serve(fit)
    assert ask(fit).unmet == "for longer than the 30 s for which it is preferred"
    assign(fit)
    answer = ask(fit)
    assert (answer.prefers, answer.unmet) == (wish, None if wish == "a1" else "another got it")


@pytest.mark.parametrize(
    ("strategy", "used", "unmet"),
    [
        ("least_loaded", 1, None),
        ("least_loaded", 8, "its score is over a third below the best"),
        ("best_match", 8, None),
        ("round_robin", 1, "its strategy goes by turns, and looks at no preferences"),
        ("random", 1, "its strategy goes by turns, and looks at no preferences"),
    ],
)
def test_every_strategy_says_what_it_makes_of_a_preference(
    redis_client: redis.Redis, clock: Clock, strategy: str, used: int, unmet: str | None
) -> None:
    pool = Pool.create(redis_client, "p", PoolSettings(strategy=strategy), clock=clock)
    serve(pool)
    for agent in ("a1", "a2"):
        beat(pool, agent, max_concurrent=10)
    submit(pool, make_task("b1", cost=used))
    assign(pool, "b1", "a2")
    submit(pool, make_task("t1", prefer_agent="a2", prefer_for_s=30))
    answer = ask(pool)
    assert (answer.prefers, answer.unmet) == ("a2", unmet)
    if unmet is None or used == 8:
        assert drain(pool) == {"t1": "a1" if unmet else "a2"}


@pytest.mark.parametrize("others", ["none", "busy", "paused", "unskilled"])
def test_task_show_reads_the_same_of_those_it_failed_on(
    fit: Pool, clock: Clock, others: str
) -> None:
    """They may have it again where nobody else could: neither says more than the planner does."""
    beat(fit, "a1", skills={"go": 1})
    submit(fit, make_task("t1", requires={"go": 1}), "b1")
    if others != "none":
        beat(fit, "a2", skills={} if others == "unskilled" else {"go": 1})
    if others == "busy":
        assign(fit, "b1", "a2")
    if others == "paused":
        agent_set(fit, "a2", Verb.PAUSE)
    assign(fit)
    complete(fit, status="failed")
    for _ in range(2):
        answer, shown = ask(fit), tried_of(fit, lane_of(fit, "t1"))
        assert (answer.tried, answer.tried_void) == shown == (("a1",), others != "busy")
        clock.advance(6)
        due(fit)
        serve(fit)
        beat(fit, "a1", skills={"go": 1})
    assert (ask(fit).excluded.get("tried") == 1) == (others == "busy")


# --- explain and planner agree ---


@pytest.mark.parametrize("strategy", ["fit", "best_match", "round_robin"])
@pytest.mark.parametrize("seed", range(6))
def test_about_to_be_placed_are_exactly_those_that_the_next_plan_places(
    redis_client: redis.Redis, clock: Clock, strategy: str, seed: int
) -> None:
    pool = Pool.create(redis_client, "p", PoolSettings(strategy=strategy), clock=clock)
    serve(pool)
    draw = random.Random(seed)
    kinds: list[dict[str, Any]] = [
        {
            "max_concurrent": draw.choice([1, 2, 4]),
            "speed": draw.choice([0.25, 1.0, 4.0]),
            "skills": draw.choice([None, {"go": 2}, {"go": 1, "gpu": 1}]),
        }
        for _ in range(4)
    ]
    agents = {f"a{n}": draw.choice(kinds) for n in draw.sample(range(10), 7)}
    for agent, facts in agents.items():
        beat(pool, agent, **facts)
    submit(
        pool,
        *(
            make_task(
                f"t{n}",
                category=draw.choice(["bug", "docs"]),
                cost=draw.choice([1, 1, 2, 4]),
                priority=draw.choice(["low", "medium", "high"]),
                requires=draw.choice([{}, {}, {"go": 2}, {"gpu": 1}]),
                estimate_s=draw.choice([10.0, 300.0, 9_000.0]),
            )
            for n in range(12)
        ),
    )
    pool.client.hset(pool.keys.role("dev"), "service_us", 20_000_000)
    for _ in range(3):
        for agent in draw.sample(sorted(agents), len(agents)):
            clock.advance(0.01)
            beat(pool, agent, **agents[agent])
        placed = {wish.task: wish.agent for wish in plan(pool)}
        waiting = pool.client.zrange(pool.keys.pending("dev"), 0, -1)
        answers = {task: ask(pool, task) for task in waiting}
        found = {task: one.goes_to for task, one in answers.items() if one.code is Code.PLACING}
        assert found == placed
        for answer in answers.values():
            _holds_together(answer)
        drain(pool)
        clock.advance(draw.choice([1, 400]))
        serve(pool)
        held = pool.client.zrange(pool.keys.leases, 0, -1)
        for task in draw.sample(held, min(2, len(held))):
            complete(pool, task)


def _holds_together(answer: Why) -> None:
    """What must be true whatever the reason."""
    free = [one for one in answer.candidates if one.excluded is None]
    assert bool(free) == (
        answer.code in {Code.PLACING, Code.WAITS_IN_LINE, Code.RESERVED, Code.GUARDED}
    )
    if answer.code is Code.UNPLACEABLE:
        assert not answer.candidates
        assert set(answer.excluded) <= {"skill", "size"}
    if answer.code is Code.GUARDED:
        assert answer.guard is not None
        assert all(one.guarded for one in free)
        assert answer.outlook is not None
        assert answer.outlook.starts_in is not None
        starts_s = answer.guard.better_starts_in_s if answer.guard.is_in_time else answer.due_in_s
        assert answer.outlook.starts_in.low_s == starts_s
    if answer.code is Code.RESERVED:
        assert answer.kept_agent in {one.agent for one in free}
        assert answer.kept_for != answer.id
    if answer.outlook and answer.outlook.starts_in:
        assert answer.outlook.starts_in.low_s <= answer.outlook.starts_in.high_s
        assert answer.outlook.starts_in.high_s <= answer.outlook.ends_in.high_s


# --- bounds ---


def test_what_was_left_out_is_said(
    fit: Pool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("MOST_AGENTS", "MOST_CLASSES", "MOST_LANES"):
        monkeypatch.setattr(read_role, bound, 4)
    for n in range(6):
        beat(fit, f"a{n}", max_concurrent=n + 1)
    submit(fit, *(make_task(f"t{n}", category=f"c{n}", cost=2) for n in range(6)))

    answer = ask(fit, "t5")

    assert answer.examined is not None
    assert answer.examined.model_dump() == {
        "agents": 4,
        "pool_agents": 4,
        "pool_agents_of": 6,
        "classes": 4,
        "classes_of": 6,
        "lanes": 5,
        "lanes_of": 6,
    }
    assert not answer.examined.is_whole
    assert (answer.position, answer.is_position_exact) == (5, False)


def test_agents_beyond_those_looked_at_count_by_their_classes(
    fit: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_role, "MOST_AGENTS", 2)
    for agent in ("a1", "a2"):
        beat(fit, agent)
    beat(fit, "b1", skills={"go": 3}, max_concurrent=2)
    beat(fit, "b2", skills={"go": 3})
    submit(fit, "x1", make_task(requires={"go": 3}))
    # b1 and b2 are heard last, so a page of who lives does not hold them; the index of free ones does.
    assert ask(fit).goes_to in ("b1", "b2")
    submit(fit, "x2", "x3")
    for task, agent in (("x1", "b1"), ("x2", "b1"), ("x3", "b2")):
        assign(fit, task, agent)
    answer = ask(fit)
    assert (answer.code, answer.suitable, answer.suitable_units) == (Code.ALL_BUSY, 2, 3)
    assert answer.excluded == {"skill": 2}


def test_the_place_counts_what_was_not_read(fit: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_role, "MOST_TASKS", 4)
    submit(fit, *(f"b{n}" for n in range(150)), "t1")
    beat(fit)
    answer = ask(fit)
    assert (answer.position, answer.is_position_exact) == (151, True)
    assert answer.outlook is not None
    assert answer.outlook.starts_in is not None
    assert answer.outlook.starts_in.low_s == pytest.approx(150 * 3_600)


def test_it_takes_a_handful_of_round_trips_however_much_there_is(fit: Pool) -> None:
    def trips() -> int:
        steps, count = why.steps(fit, "t1"), 0

        def counted() -> Generator[Any, Any, Any]:
            nonlocal count
            reply: Any = None
            while True:
                try:
                    step = steps.send(reply)
                except StopIteration as done:
                    return done.value
                count += 1
                reply = yield step

        drive(fit.client, counted())
        return count

    submit(fit, make_task(cost=3))
    beat(fit, "a0", max_concurrent=2)
    few = trips()
    for n in range(1, 30):
        beat(fit, f"a{n}", max_concurrent=n % 4 + 1, skills={"go": n % 5 + 1})
    submit(fit, *(make_task(f"b{n}", category=f"c{n % 7}") for n in range(100)))
    drain(fit)
    assert few <= trips() <= 8


def test_a_dead_child_names_the_parents_that_failed_and_what_helps(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool)
    child = make_task("child", depends_on=("t1", "other"))
    submit(virtual_pool, make_task(max_failures=1), "other", child)
    assign(virtual_pool)
    complete(virtual_pool, status="failed")
    release(virtual_pool)

    found = ask(virtual_pool, "child")

    assert found.text == "It is dead (parent_failed: t1 is dead) and will not be tried again."
    assert found.helps == "balancer task retry t1 child"
    cancel(virtual_pool, ["other"])
    assert ask(virtual_pool, "child").helps == "submit it again without other, which is cancelled"
