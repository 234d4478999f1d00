"""What a task may ask for beyond the ordinary: a dedup key, a time to start, a time to end waiting, what becomes of it
when a parent fails.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from balancer.core.effort import Cell, estimate, log_ratio
from balancer.core.lanes import Lane, lane_definition
from balancer.core.model import Task
from balancer.core.options import dedup_hash
from balancer.ledger import Pool
from balancer.ledger import submit as submits
from balancer.ledger.audit import audit
from balancer.ledger.exchange import Arg
from balancer.ledger.read_tasks import task_statuses
from balancer.ledger.submit import Outcome, Submitted
from tests.support.factories import (
    GONE,
    NOW_US,
    Clock,
    assert_bad_argument,
    assign,
    beat,
    changes,
    complete,
    fields,
    later,
    make_task,
    populate,
    submit,
)

LANE, DEFINITION = lane_definition(Lane("dev", "general", 1))
MEDIUM_US = 60_000_000
HASH = dedup_hash("order 17")


#: The estimate of a category of which the settings say nothing.
HOUR = "3600000|3600000|0|3600000"


def stored(state: str, accepted: int = NOW_US, /, **more: Any) -> dict[str, Any]:
    """What one accepted task leaves in an empty pool, but for its packed facts and its place."""
    times = {"accepted_us": str(accepted), "ready_us": str(accepted)}
    return {
        **fields("task:t1", state=state, role="dev", category="general", cost="1", lane=LANE),
        **fields("task:t1", **times, order_us=str(accepted - MEDIUM_US), e=HOUR, **more),
        "roles dev": True,
        "meta clock_us": str(accepted),
    }


def open_lane(refs: int = 1) -> dict[str, Any]:
    return {f"lanedef {LANE}": DEFINITION, f"laneref {LANE}": str(refs)}


def counted(**counts: int) -> dict[str, Any]:
    texts = {name: str(number) for name, number in counts.items()}
    return {**fields("role:dev", **texts), **fields("pool", **texts)}


def sound(pool: Pool) -> None:
    assert audit(pool).violations == []


# --- dedup_key


def test_dedup_key_names_the_first_task_that_came_with_it(virtual_pool: Pool) -> None:
    with changes(virtual_pool) as seen:
        assert submit(virtual_pool, make_task(dedup_key="order 17")) == ["accepted"]

    assert seen.state.pop("task:t1 d")
    assert seen.state == stored("pending", o=f"fail|0|0|{HASH}") | open_lane() | {
        f"dedup:{HASH}": "t1",
        "pending:dev t1": NOW_US,
        f"lane:{LANE} t1": NOW_US - MEDIUM_US,
        f"lanes:dev {LANE}": NOW_US - MEDIUM_US,
        "wake": ["1"],
        **counted(accepted=1),
    }
    sound(virtual_pool)


@pytest.mark.parametrize(
    "again", [{}, {"payload": 5}, {"role": "ops"}, {"depends_on": ("nobody",)}]
)
def test_repeat_of_a_dedup_key_answers_with_the_task_that_has_it(
    virtual_pool: Pool, again: dict[str, Any]
) -> None:
    submit(virtual_pool, make_task(dedup_key="order 17"))
    repeat = make_task("t2", dedup_key="order 17", **{"role": "dev", **again})

    for _ in range(2):
        with changes(virtual_pool) as seen:
            answer = submits.submit(virtual_pool, [repeat])
        assert answer == [Submitted("t1", Outcome.DUPLICATE, "pending")]
        assert seen.nothing


def test_dedup_key_is_held_after_its_task_has_ended(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task(dedup_key="k"))
    beat(virtual_pool)
    assign(virtual_pool)
    complete(virtual_pool)

    answer = submits.submit(virtual_pool, [make_task("t2", dedup_key="k")])

    assert answer == [("t1", "duplicate", "completed")]
    sound(virtual_pool)


def test_dedup_key_holds_within_one_call(virtual_pool: Pool) -> None:
    tasks = [make_task(f"t{n}", dedup_key="k") for n in range(3)]

    answers = submits.submit(virtual_pool, [*tasks, make_task("u", dedup_key="other")])

    assert [answer.outcome for answer in answers] == [
        "accepted",
        "duplicate",
        "duplicate",
        "accepted",
    ]
    assert [answer.task_id for answer in answers] == ["t0", "t0", "t0", "u"]
    sound(virtual_pool)


def test_dedup_key_of_a_refused_task_stays_free(virtual_pool: Pool) -> None:
    refused = make_task(dedup_key="k", depends_on=("nobody",))

    with changes(virtual_pool) as seen:
        assert submit(virtual_pool, refused) == ["unknown_parent"]

    assert seen.nothing
    assert submit(virtual_pool, make_task("t2", dedup_key="k")) == ["accepted"]


def test_dedup_key_of_a_forgotten_task_is_free_again(virtual_pool: Pool) -> None:
    virtual_pool.client.set(virtual_pool.keys.dedup(HASH), "long gone")

    assert submit(virtual_pool, make_task(dedup_key="order 17")) == ["accepted"]
    assert virtual_pool.client.get(virtual_pool.keys.dedup(HASH)) == "t1"


def test_known_id_is_judged_before_its_dedup_key(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task("t1", dedup_key="k"), make_task("t2"))

    answers = submits.submit(
        virtual_pool, [make_task("t2", dedup_key="k"), make_task("t2", dedup_key="k", cost=2)]
    )

    assert answers == [("t2", "duplicate", "pending"), ("t2", "conflict", "pending")]


def test_id_is_the_same_task_whatever_its_dedup_key(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task(dedup_key="k"))

    assert submit(virtual_pool, make_task(), make_task(dedup_key="l")) == ["duplicate"] * 2
    assert not virtual_pool.client.exists(virtual_pool.keys.dedup(dedup_hash("l")))


@pytest.mark.parametrize("key", ["}:{evil", "ключ", "a" * 256, "dedup:x", " ", "'; DROP"])
def test_dedup_key_never_becomes_part_of_a_key_of_redis(virtual_pool: Pool, key: str) -> None:
    submit(virtual_pool, make_task(dedup_key=key))

    names = virtual_pool.client.keys("*dedup*")
    assert names == [virtual_pool.keys.dedup(dedup_hash(key))]
    assert len(names[0]) == len("wb:{p}:dedup:") + 30


# --- not_before


def test_task_of_the_future_is_scheduled(virtual_pool: Pool) -> None:
    due = NOW_US + 5_000_000

    with changes(virtual_pool) as seen:
        assert submit(virtual_pool, make_task(not_before=later(5))) == ["scheduled"]

    assert seen.state.pop("task:t1 d")
    assert seen.state == stored("scheduled", not_before_us=str(due)) | open_lane() | {
        "scheduled t1": due,
        **counted(accepted=1, scheduled=1),
    }
    assert seen.events == [("submitted", "t1", "", "scheduled")]
    sound(virtual_pool)
    with changes(virtual_pool) as again:
        answer = submits.submit(virtual_pool, [make_task(not_before=later(5))])
    assert answer == [("t1", "duplicate", "scheduled")]
    assert again.nothing


@pytest.mark.parametrize("seconds", [0, -0.000_001, -1e9, -3e9])
def test_time_that_has_passed_is_no_time_to_wait_for(virtual_pool: Pool, seconds: float) -> None:
    assert submit(virtual_pool, make_task(not_before=later(seconds))) == ["accepted"]

    task = virtual_pool.client.hgetall(virtual_pool.keys.task("t1"))
    assert (task["ready_us"], task.get("not_before_us"), task.get("o")) == (str(NOW_US), None, None)
    assert not virtual_pool.client.exists(virtual_pool.keys.scheduled)


def test_time_in_another_zone_is_the_same_task(virtual_pool: Pool) -> None:
    there = later(5).astimezone(timezone(timedelta(hours=9)))

    assert submit(virtual_pool, make_task(not_before=later(5))) == ["scheduled"]
    assert submit(virtual_pool, make_task(not_before=there)) == ["duplicate"]


def test_blocked_task_keeps_its_time_for_later(virtual_pool: Pool) -> None:
    submit(virtual_pool, "p1")

    assert submit(virtual_pool, make_task(not_before=later(5), depends_on=("p1",))) == ["blocked"]

    task = virtual_pool.client.hgetall(virtual_pool.keys.task("t1"))
    assert (task["state"], task["not_before_us"]) == ("blocked", str(NOW_US + 5_000_000))
    assert not virtual_pool.client.exists(virtual_pool.keys.scheduled)
    sound(virtual_pool)


def test_times_keep_every_microsecond(virtual_pool: Pool) -> None:
    far = datetime(2199, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)

    submit(virtual_pool, make_task(not_before=far - timedelta(microseconds=1), expires_at=far))

    assert virtual_pool.client.zscore(virtual_pool.keys.scheduled, "t1") == 7_258_118_399_999_998
    assert virtual_pool.client.zscore(virtual_pool.keys.expiry, "t1") == 7_258_118_399_999_999
    (status,) = task_statuses(virtual_pool, ["t1"])
    assert status is not None
    assert status.expires_at == pytest.approx(7_258_118_400, abs=1e-5)


# --- expires_at, max_wait_s


def test_task_that_may_expire_is_listed_with_its_moment(virtual_pool: Pool) -> None:
    expires = NOW_US + 9_000_000

    with changes(virtual_pool) as seen:
        assert submit(virtual_pool, make_task(expires_at=later(9))) == ["accepted"]

    assert seen.state["task:t1 o"] == f"fail|{expires}|0|"
    assert seen.state["expiry t1"] == expires
    sound(virtual_pool)


@pytest.mark.parametrize(
    ("asks", "moment_s"),
    [
        ({"max_wait_s": 7.0}, 7.0),
        ({"max_wait_s": 7.0, "expires_at": later(8)}, 7.0),
        ({"max_wait_s": 7.0, "expires_at": later(6)}, 6.0),
        ({"max_wait_s": 0.001}, 0.001),
    ],
)
def test_pending_task_expires_at_the_first_of_its_moments(
    virtual_pool: Pool, asks: dict[str, Any], moment_s: float
) -> None:
    assert submit(virtual_pool, make_task(**asks)) == ["accepted"]

    due = NOW_US + round(moment_s * 1_000_000)
    assert virtual_pool.client.zscore(virtual_pool.keys.expiry, "t1") == due
    sound(virtual_pool)


@pytest.mark.parametrize("asks", [{"not_before": later(5)}, {"depends_on": ("p1",)}])
def test_longest_wait_counts_from_when_a_task_is_ready(
    virtual_pool: Pool, asks: dict[str, Any]
) -> None:
    submit(virtual_pool, "p1", make_task(max_wait_s=7, **asks))
    submit(virtual_pool, make_task("t2", max_wait_s=7, expires_at=later(90), **asks))

    keys, client = virtual_pool.keys, virtual_pool.client
    assert client.zrange(keys.expiry, 0, -1) == ["t2"]
    assert client.zscore(keys.expiry, "t2") == NOW_US + 90_000_000
    sound(virtual_pool)


def test_task_that_has_expired_already_is_stored_as_dead(virtual_pool: Pool) -> None:
    task = make_task(expires_at=later(-1))

    with changes(virtual_pool) as seen:
        assert submits.submit(virtual_pool, [task]) == [("t1", "expired", "")]

    assert seen.state.pop("task:t1 d")
    ended: dict[str, Any] = {"ended_us": str(NOW_US), "reason": "expired", "took_ms": "0"}
    assert seen.state == stored("dead", o=f"fail|{NOW_US - 1_000_000}|0|", **ended) | {
        "dead t1": NOW_US,
        **counted(accepted=1, dead=1, dropped=1),
    }
    assert seen.events == [("submitted", "t1", "", "expired")]
    sound(virtual_pool)
    with changes(virtual_pool) as again:
        assert submits.submit(virtual_pool, [task]) == [("t1", "duplicate", "dead")]
    assert again.nothing


@pytest.mark.parametrize(("after_us", "outcome"), [(0, "expired"), (1, "accepted")])
def test_moment_itself_is_too_late(virtual_pool: Pool, after_us: int, outcome: str) -> None:
    assert submit(virtual_pool, make_task(expires_at=later(after_us / 1e6))) == [outcome]


# --- on_parent_failure


@pytest.mark.parametrize("parent", ["dead", "cancelled"])
def test_skip_cancels_a_child_whose_parent_has_failed(virtual_pool: Pool, parent: str) -> None:
    populate(virtual_pool)
    task = make_task(on_parent_failure="skip", depends_on=("pending", parent))

    with changes(virtual_pool) as seen:
        assert submits.submit(virtual_pool, [task]) == [("t1", "skipped", parent)]

    accepted = NOW_US + 7
    assert seen.state.pop("task:t1 d")
    ended: dict[str, Any] = {"ended_us": str(NOW_US), "reason": "parent_failed", "took_ms": "0"}
    # One task of the kind has completed, in a second and a half.
    taught = [Cell(1, log_ratio(1500, 3_600_000))] * 3
    e = estimate(3_600_000, taught, 0).packed()
    expected = stored("cancelled", accepted, o="skip|0|0|", **ended) | {"task:t1 e": e}
    assert seen.state == {name: it for name, it in expected.items() if name != "roles dev"} | {
        "cancelled t1": NOW_US,
        **counted(accepted=8, cancelled=2, dropped=2),
    }
    sound(virtual_pool)
    with changes(virtual_pool) as again:
        assert submits.submit(virtual_pool, [task]) == [("t1", "duplicate", "cancelled")]
    assert again.nothing


def test_run_counts_a_failed_parent_as_done(virtual_pool: Pool) -> None:
    populate(virtual_pool)

    assert submit(
        virtual_pool,
        make_task("t1", on_parent_failure="run", depends_on=("dead", "cancelled")),
        make_task("t2", on_parent_failure="run", depends_on=("dead", "pending")),
        make_task("t3", on_parent_failure="run", depends_on=("dead",), not_before=later(5)),
    ) == ["accepted", "blocked", "scheduled"]

    assert virtual_pool.client.smembers(virtual_pool.keys.parents("t2")) == {"pending"}
    sound(virtual_pool)


def test_unknown_parent_is_refused_whatever_the_policy(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    task = make_task(on_parent_failure="run", depends_on=("dead", "nobody"))

    with changes(virtual_pool) as seen:
        assert submits.submit(virtual_pool, [task]) == [("t1", "unknown_parent", "nobody")]
    assert seen.nothing


# --- together


def test_every_option_defines_the_task_but_the_dedup_key(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task(not_before=later(5)))

    others: list[Task] = [
        make_task(),
        make_task(not_before=later(6)),
        make_task(not_before=later(5), expires_at=later(9)),
        make_task(not_before=later(5), max_wait_s=1),
        make_task(not_before=later(5), on_parent_failure="run"),
    ]
    assert submit(virtual_pool, *others) == ["conflict"] * 5
    assert submit(virtual_pool, make_task(not_before=later(5), dedup_key="k")) == ["duplicate"]


def test_all_options_at_once_stay_in_the_compact_form_of_a_hash(virtual_pool: Pool) -> None:
    last = datetime(2199, 12, 31, tzinfo=UTC)
    most = make_task(
        dedup_key="k" * 256,
        not_before=later(5),
        expires_at=last,
        max_wait_s=365 * 86_400,
        on_parent_failure="fail",
    )
    submit(virtual_pool, most)

    key = virtual_pool.keys.task("t1")
    assert len(virtual_pool.client.hget(key, "o") or "") == 64
    assert virtual_pool.client.object("encoding", key) in {"listpack", "ziplist"}


def test_status_says_what_was_asked_for(virtual_pool: Pool, clock: Clock) -> None:
    submit(
        virtual_pool,
        make_task(
            "all",
            not_before=later(5),
            expires_at=later(9),
            max_wait_s=2.5,
            on_parent_failure="skip",
        ),
        make_task("none"),
    )

    found = [status for status in task_statuses(virtual_pool, ["all", "none"]) if status]

    said = [(s.not_before, s.expires_at, s.max_wait_s, s.on_parent_failure) for s in found]
    assert said == [
        (clock.now_us / 1e6 + 5, clock.now_us / 1e6 + 9, 2.5, "skip"),
        (None, None, None, "fail"),
    ]


OPTIONS: dict[str, str] = {
    "no time": "fail|0|0|",
    "a time with a sign": "fail|0|0||-5",
    "a time in hex": "fail|0|0||0x10",
    "a time beyond 2^53": f"fail|0|0||{2**53}",
    "half of the options": "fail|0|5",
    "another hash": "fail|0|0|xyz|0",
    "an expiry that is none": "fail|nan|0||0",
    "no policy": "|0|0||0",
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_bad_options_write_nothing(virtual_pool: Pool, options: str) -> None:
    args: list[Arg] = submits._call([submits._pack(make_task(), virtual_pool.settings)])
    place: Callable[[list[Arg]], list[Arg]] = lambda args: [*args[:11], options, *args[12:]]  # noqa: E731
    assert args[11] == ""

    assert_bad_argument(virtual_pool, submits.SCRIPT, place(args))


def test_grant_takes_a_task_off_the_list_of_those_that_expire(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task(expires_at=later(9)))
    beat(virtual_pool)

    with changes(virtual_pool) as seen:
        assign(virtual_pool)

    assert seen.state["expiry t1"] == GONE
    sound(virtual_pool)
