"""The script `commit`: proposals become assignments."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from threading import Barrier
from typing import Any

import pytest
import redis

from balancer.core.lanes import AgentClass, Lane, class_definition, lane_definition
from balancer.core.names import new_id
from balancer.ledger import Pool
from balancer.ledger import commit as commits
from balancer.ledger import reclaim as reclaims
from balancer.ledger.read_tasks import task_statuses
from balancer.protocol import read_inbox_task
from tests.support.factories import (
    GONE,
    NOW_MS,
    NOW_US,
    Clock,
    assert_bad_argument,
    assert_guarded,
    assign,
    beat,
    boot_of,
    changes,
    commit,
    complete,
    drain,
    dump,
    entries,
    fields,
    make_task,
    nonce,
    plan,
    populate,
    proposal,
    submit,
)

LANE, _ = lane_definition(Lane("dev", "general", 1))


def class_of(max_concurrent: int) -> str:
    return class_definition(AgentClass("dev", (), max_concurrent))[0]


def args_of(*tasks: str) -> list[str | int]:
    wishes = ((task, "a1", nonce(task), "60000|best_match", "|load=1", "") for task in tasks)
    return ["", *(arg for wish in wishes for arg in wish)]


def test_commit_assigns_task_to_agent(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool, max_concurrent=2)
    submit(virtual_pool, make_task(payload=7, run_timeout_s=5), "t2")
    clock.advance(1)

    with changes(virtual_pool) as seen:
        assert commit(virtual_pool, proposal(lease="L")) == ["assigned"]

    ((entry, content),) = entries(virtual_pool, virtual_pool.keys.inbox("a1"))
    at = str(NOW_US + 1_000_000)
    assert seen.state == {
        **fields("task:t1", state="assigned", attempt="1", nonce=nonce("L"), agent="a1"),
        "task:t1 grant": f"{at}|{NOW_US}|60000|best_match",
        "task:t1 why": "|load=1",
        "pending:dev t1": GONE,
        f"lane:{LANE} t1": GONE,
        f"lanes:dev {LANE}": NOW_US + 1 - 60_000_000,
        "leases t1": NOW_US + 6_000_000,
        **fields("agent:a1", used="1", n="1"),
        f"held:a1 {nonce('L')}": f"t1 1 1 {entry}",
        f"inbox:a1 {entry}": content,
        "inbox:a1 groups": {},
        f"free:{class_of(2)} a1": 500 * 2**42 + NOW_MS,
        f"fc:dev {class_of(2)}": 1,
        **fields("role:dev", used="1", running="1", assigned="1"),
        **fields("pool", used="1", running="1", assigned="1"),
    }
    assert seen.events == [("assigned", "t1", "a1", "1")]
    assert read_inbox_task(content).model_dump() == {
        "kind": "task", "task": "t1", "attempt": 1, "lease": nonce("L"), "boot": boot_of("a1"), "role": "dev",
        "category": "general", "priority": "medium", "cost": 1, "timeout_ms": 5_000, "estimate_ms": 60_000,
        "description": "", "payload": 7,
    }  # fmt: skip


def test_hashes_of_a_task_in_hand_keep_their_compact_form(pool: Pool) -> None:
    """No value above 64 bytes: a hash that has one takes three times the memory."""
    beat(pool, max_concurrent=1_000, type="validation-agent", specializations=("testing",))
    names = [new_id() for _ in range(100)]
    submit(pool, *(make_task(name, category="testing") for name in names))

    assert len(drain(pool)) == 100

    keys, client = pool.keys, pool.client
    hashes = [keys.task(names[0]), keys.held("a1"), keys.agent("a1")]
    assert {client.object("encoding", key) for key in hashes} <= {"ziplist", "listpack"}


def test_commit_takes_a_full_agent_out_of_the_free_index(virtual_pool: Pool) -> None:
    beat(virtual_pool)
    submit(virtual_pool, "t1")
    assign(virtual_pool, "t1")

    keys, client = virtual_pool.keys, virtual_pool.client
    assert not client.exists(keys.free(class_of(1)), keys.free_units("dev"), keys.lanes("dev"))


def test_commit_again_answers_already_and_changes_nothing(virtual_pool: Pool) -> None:
    """The reply was lost: the second send learns of its own success."""
    beat(virtual_pool, max_concurrent=2)
    submit(virtual_pool, "t1")
    commits.commit(virtual_pool, [proposal(lease="L")])

    with changes(virtual_pool) as seen:
        assert commits.commit(virtual_pool, [proposal(lease="L")]) == [("already", 1)]

    assert seen.nothing


@pytest.mark.parametrize("end", ["completed", "failed", "revoked"])
def test_commit_again_after_the_lease_ended_answers_already(virtual_pool: Pool, end: str) -> None:
    """A nonce is never granted twice, or a late duplicate would run a finished task again."""
    beat(virtual_pool)
    submit(virtual_pool, "t1")
    assign(virtual_pool, lease="L")
    if end == "revoked":
        beat(virtual_pool, mode="stopped")
        assert reclaims.reclaim(virtual_pool, "a1").requeued == 1
        beat(virtual_pool, mode="running")
    else:
        complete(virtual_pool, status=end)

    with changes(virtual_pool) as seen:
        assert commit(virtual_pool, proposal(lease="L")) == ["already"]

    assert seen.nothing


@pytest.mark.parametrize(
    "task", ["assigned", "failed", "completed", "dead", "cancelled", "blocked", "nobody"]
)
def test_commit_of_a_task_that_does_not_wait_is_refused(virtual_pool: Pool, task: str) -> None:
    populate(virtual_pool)

    with changes(virtual_pool) as seen:
        assert commit(virtual_pool, proposal(task, "a1")) == ["not_pending"]

    assert seen.nothing


@pytest.mark.parametrize("why", ["stopping", "stopped", "lost"])
def test_commit_to_an_agent_that_takes_nothing_is_refused(
    virtual_pool: Pool, clock: Clock, why: str
) -> None:
    submit(virtual_pool, "t1")
    beat(virtual_pool)
    if why == "lost":
        clock.advance(60)
        beat(virtual_pool, "a2")
        assert reclaims.reclaim(virtual_pool, "a1").outcome == "lost"
    else:
        beat(virtual_pool, mode=why)

    with changes(virtual_pool) as seen:
        assert commit(virtual_pool, proposal()) == ["not_accepting"]

    assert seen.nothing


def test_commit_to_an_agent_that_nobody_knows_is_refused(virtual_pool: Pool) -> None:
    """The agent went between view and commit: the task stays where it is."""
    submit(virtual_pool, "t1")

    with changes(virtual_pool) as seen:
        assert commit(virtual_pool, proposal()) == ["no_agent"]

    assert seen.nothing


def test_commit_to_an_agent_of_another_role_is_refused(virtual_pool: Pool) -> None:
    """It changed its role between view and commit, or whoever wished for it did not look."""
    submit(virtual_pool, "t1")
    beat(virtual_pool)
    wishes = plan(virtual_pool)
    beat(virtual_pool, role="ops")

    with changes(virtual_pool) as seen:
        assert commit(virtual_pool, *wishes) == ["wrong_role"]

    assert seen.nothing


def test_a_named_task_goes_to_a_named_agent_under_the_same_checks(virtual_pool: Pool) -> None:
    """No planner has to have wished for it: not the first in line, not the best agent."""
    beat(virtual_pool, "a1", max_concurrent=5)
    beat(virtual_pool, "a2", max_concurrent=2)
    submit(virtual_pool, "first", "named", make_task("large", cost=3))
    by_hand = proposal("named", "a2", strategy="by_hand", scores={})

    assert commit(virtual_pool, by_hand) == ["assigned"]

    (status,) = task_statuses(virtual_pool, ["named"])
    assert status
    assert status.assignment
    assert (status.assignment.agent_id, status.assignment.reason) == ("a2", "By hand: a2")
    assert commit(virtual_pool, by_hand) == ["already"]
    assert commit(virtual_pool, proposal("large", "a2")) == ["full"]
    assert commit(virtual_pool, proposal("named", "a1")) == ["not_pending"]


def test_commit_of_more_than_is_left_is_full(virtual_pool: Pool) -> None:
    beat(virtual_pool, max_concurrent=4)
    submit(virtual_pool, make_task("t1", cost=3), make_task("t2", cost=2), make_task("t3", cost=1))
    wishes = [proposal(name) for name in ("t1", "t2", "t3")]

    assert commit(virtual_pool, *wishes) == ["assigned", "full", "assigned"]

    with changes(virtual_pool) as seen:
        assert commit(virtual_pool, *wishes) == ["already", "full", "already"]
    assert seen.nothing


def test_cost_is_summed_apart_from_the_number_of_leases(virtual_pool: Pool) -> None:
    """`used` is the sum of costs, `n` the number of leases: neither can be told from the other."""
    beat(virtual_pool, max_concurrent=5)
    submit(virtual_pool, make_task("t1", cost=3), make_task("t2", cost=2), "t3")
    assert commit(virtual_pool, *(proposal(f"t{n}") for n in (1, 2, 3))) == ["assigned"] * 2 + [
        "full"
    ]

    def counters() -> Any:
        return virtual_pool.client.hmget(virtual_pool.keys.agent("a1"), ["used", "n"])

    assert counters() == ["5", "2"]
    assert virtual_pool.client.hget(virtual_pool.keys.pool, "running") == "2"
    complete(virtual_pool, "t1")
    assert counters() == ["2", "1"]
    assert complete(virtual_pool, "t1") == "duplicate"
    assert counters() == ["2", "1"]


def test_commit_of_one_task_to_two_agents_grants_the_first(virtual_pool: Pool) -> None:
    beat(virtual_pool, "a1")
    beat(virtual_pool, "a2")
    submit(virtual_pool, "t1")

    answers = commits.commit(virtual_pool, [proposal("t1", "a1"), proposal("t1", "a2")])

    assert answers == [("assigned", 1), ("not_pending", 1)]


def test_commit_of_the_same_proposal_twice_in_one_call_grants_it_once(virtual_pool: Pool) -> None:
    beat(virtual_pool, max_concurrent=2)
    submit(virtual_pool, "t1")
    wish = proposal()

    assert commits.commit(virtual_pool, [wish, wish]) == [("assigned", 1), ("already", 1)]


def test_commit_counts_attempts_over_all_grants(virtual_pool: Pool) -> None:
    beat(virtual_pool)
    submit(virtual_pool, "t1")
    for attempt in (1, 2):
        assert commits.commit(virtual_pool, [proposal()]) == [("assigned", attempt)]
        beat(virtual_pool, mode="stopped")
        reclaims.reclaim(virtual_pool, "a1")
        beat(virtual_pool, mode="running")


def test_commit_at_the_cap_writes_all_128(virtual_pool: Pool) -> None:
    for n in range(16):
        beat(virtual_pool, f"a{n}", max_concurrent=8)
    names = [f"t{n}" for n in range(128)]
    submit(virtual_pool, *names)

    outcomes = commit(virtual_pool, *(proposal(name, f"a{n % 16}") for n, name in enumerate(names)))

    assert outcomes == ["assigned"] * 128
    assert virtual_pool.client.zcard(virtual_pool.keys.leases) == 128
    assert virtual_pool.client.hget(virtual_pool.keys.pool, "used") == "128"
    assert not virtual_pool.client.exists(virtual_pool.keys.pending("dev"))


def test_plan_over_all_free_units_is_committed_whole(virtual_pool: Pool) -> None:
    for n in range(5):
        beat(virtual_pool, f"a{n}", max_concurrent=n + 1)
    submit(virtual_pool, *(make_task(f"t{n:02}", cost=1 + n % 3) for n in range(20)))

    wishes = plan(virtual_pool)

    assert commit(virtual_pool, *wishes) == ["assigned"] * len(wishes)
    assert drain(virtual_pool) == {}
    assert virtual_pool.client.hget(virtual_pool.keys.pool, "used") == "13", "2 are kept for a 3"


def test_two_drainers_one_slot_one_grant(pool: Pool) -> None:
    """Both have seen the same free unit; only what commit checks again counts."""
    rounds = 40
    submit(pool, *(f"t{n}" for n in range(2 * rounds)))
    start = Barrier(2)

    def grant(task: str) -> str:
        start.wait()
        return commit(pool, proposal(task))[0]

    with ThreadPoolExecutor(2) as threads:
        for n in range(rounds):
            beat(pool, "a1", mode="running")
            outcomes = list(threads.map(grant, (f"t{2 * n}", f"t{2 * n + 1}")))
            assert sorted(outcomes) == ["assigned", "full"]
            assert pool.client.hmget(pool.keys.agent("a1"), ["used", "n"]) == ["1", "1"]
            complete(pool, f"t{2 * n + outcomes.index('assigned')}")


def test_two_drainers_one_task_one_grant(pool: Pool) -> None:
    rounds = 40
    submit(pool, *(f"t{n}" for n in range(rounds)))
    beat(pool, "a1", max_concurrent=rounds)
    beat(pool, "a2", max_concurrent=rounds)
    start = Barrier(2)

    def grant(wish: tuple[str, str]) -> str:
        start.wait()
        return commit(pool, proposal(*wish))[0]

    with ThreadPoolExecutor(2) as threads:
        for n in range(rounds):
            outcomes = threads.map(grant, ((f"t{n}", "a1"), (f"t{n}", "a2")))
            assert sorted(outcomes) == ["assigned", "not_pending"]

    held = [pool.client.hlen(pool.keys.held(agent)) for agent in ("a1", "a2")]
    assert sum(held) == rounds


def test_agent_gone_between_view_and_commit_leaves_the_task_whole(virtual_pool: Pool) -> None:
    beat(virtual_pool, "a1")
    submit(virtual_pool, "t1")
    wishes = plan(virtual_pool)
    beat(virtual_pool, "a1", mode="stopped")

    with changes(virtual_pool) as seen:
        assert commit(virtual_pool, *wishes) == ["not_accepting"]

    assert seen.nothing
    beat(virtual_pool, "a2")
    assert drain(virtual_pool) == {"t1": "a2"}


def test_commit_is_refused_whole_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    beat(pool)
    submit(pool, "t1")
    before = dump(pool.client)

    with out_of_memory(), pytest.raises(redis.ResponseError, match="maxmemory"):
        commit(pool, proposal())

    assert dump(pool.client) == before


def test_commit_of_nothing_calls_nothing(virtual_pool: Pool) -> None:
    assert commits.commit(virtual_pool, []) == []


@pytest.mark.parametrize("scores", [{"health": 0.8, "load": -0.05}, {}])
def test_scores_are_read_as_they_were_packed(scores: dict[str, float]) -> None:
    assert commits.read_scores(commits.pack_scores(scores)) == scores


@pytest.mark.parametrize(
    ("lock", "released"), [("mine", True), ("another's", False), (None, False)]
)
def test_commit_of_all_gives_the_callers_lock_back(
    virtual_pool: Pool, lock: str | None, released: bool
) -> None:
    beat(virtual_pool, max_concurrent=2)
    submit(virtual_pool, "t1")
    key = virtual_pool.keys.drain_lock
    if lock:
        virtual_pool.client.set(key, lock)

    assert commits.commit(virtual_pool, [proposal()], "mine") == [("assigned", 1)]

    assert virtual_pool.client.get(key) == (None if released else lock)


def test_commit_of_less_than_all_keeps_the_lock(virtual_pool: Pool) -> None:
    """Whoever plans the rest again does so under it."""
    beat(virtual_pool, max_concurrent=2)
    submit(virtual_pool, "t1")
    virtual_pool.client.set(virtual_pool.keys.drain_lock, "mine")

    answers = commits.commit(virtual_pool, [proposal(), proposal("ghost")], "mine")

    assert [answer.outcome for answer in answers] == ["assigned", "not_pending"]
    assert virtual_pool.client.get(virtual_pool.keys.drain_lock) == "mine"


def test_commit_to_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    assert_guarded(virtual_pool, commits.SCRIPT, args_of("pending"))


def test_commit_to_a_real_pool_with_a_time_of_the_callers_writes_nothing(pool: Pool) -> None:
    populate(pool)
    assert_guarded(pool, commits.SCRIPT, args_of("pending"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda args: [],
        lambda args: args[:-1],
        lambda args: [*args, "x"],
        lambda args: [*args[:10], "nan|best_match", *args[11:]],
        lambda args: [*args[:10], "0x10|best_match", *args[11:]],
        lambda args: [*args[:10], "-1|best_match", *args[11:]],
        lambda args: [*args[:10], "1.5|best_match", *args[11:]],
        lambda args: [*args[:10], f"{2**53}|best_match", *args[11:]],
        lambda args: [*args[:10], "60000", *args[11:]],
        lambda args: [*args[:1], *args[1:7] * 129],
    ],
    ids=[
        "none",
        "half",
        "one more",
        "nan",
        "hex",
        "negative",
        "fraction",
        "beyond 2^53",
        "bare",
        "129",
    ],
)
def test_commit_with_a_bad_argument_writes_nothing(
    virtual_pool: Pool, spoil: Callable[[list[str | int]], list[object]]
) -> None:
    beat(virtual_pool, max_concurrent=2)
    submit(virtual_pool, "t1", "t2")

    assert_bad_argument(virtual_pool, commits.SCRIPT, spoil(args_of("t1", "t2")))
