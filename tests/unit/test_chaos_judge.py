"""The checker of histories is worth what it rejects: each of these histories is bad in one way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.history import Closing, Ended, Grant, Odd, Record, Revived
from tests.chaos.inputs import Planned
from tests.chaos.judge import Evidence, Final, Hit, judge
from tests.chaos.worklog import Said

A, B = "agent-1", "agent-2"


def grant(
    task: str = "t1",
    attempt: int = 1,
    agent: str = A,
    *,
    cost: int = 1,
    boot: str = "boot",
    at_ms: int = 0,
) -> Grant:
    return Grant(agent, task, attempt, f"{task}.{attempt}", cost, f"{agent} {boot}", at_ms)


def closing(how: str = "completed", of: Grant | None = None, at_ms: int = 9) -> Closing:
    of = of or grant()
    return Closing(of.agent, of.task, of.attempt, of.lease, how, at_ms)


def said(event: str, of: Grant | None = None, **fields: Any) -> Said:
    of = of or grant()
    return Said(of.agent, event, of.task, of.attempt, of.lease, 1, 0.0, 0.0)._replace(**fields)


def planned(id_: str = "t1", may_end: set[str] | None = None, **fields: Any) -> Planned:
    is_poison = fields.pop("is_poison", False)
    return Planned({"id": id_, **fields}, may_end or {"completed"}, is_poison)


#: One task: granted, completed, ended.
RECORDS: list[Record] = [grant(), closing(), Ended("t1", "completed")]
GOOD = Evidence(
    planned={"t1": planned()},
    accepted=frozenset({"t1"}),
    units={A: 2, B: 2},
    max_losses=3,
    records=RECORDS,
    said=[said("start"), said("completed")],
    finals={"t1": Final("completed", "", "t1.1")},
    hits=[],
)
#: The same after a first try that its agent did not survive.
SECOND = grant(attempt=2, agent=B, at_ms=20)
LOST_ONCE = replace(
    GOOD,
    records=[
        grant(),
        closing("revoked"),
        SECOND,
        closing(of=SECOND),
        Ended("t1", "completed"),
    ],
    said=[said("start"), said("start", SECOND), said("completed", SECOND)],
    finals={"t1": Final("completed", "", "t1.2")},
)


@pytest.mark.parametrize("evidence", [GOOD, LOST_ONCE])
def test_a_good_history_has_no_problems(evidence: Evidence) -> None:
    found = judge(evidence)
    assert (found.problems, found.unlucky) == ([], [])


def with_records(*records: Record) -> Evidence:
    return replace(GOOD, records=records)


def beside(number: int, cost: int = 1) -> Grant:
    return grant(f"t{number}", cost=cost)


def with_child(child: str, parent: str, policy: str) -> Evidence:
    """A task that ended because of its parent, which ended so."""
    return replace(
        GOOD,
        planned={
            "t1": planned(may_end={parent}),
            "t2": planned("t2", depends_on=("t1",), on_parent_failure=policy),
        },
        accepted=frozenset({"t1", "t2"}),
        records=[*RECORDS[:2], Ended("t1", parent), Ended("t2", child)],
        finals={
            "t1": Final(parent, "", "t1.1" if parent == "completed" else ""),
            "t2": Final(child, "parent_failed", ""),
        },
    )


def poison(lives: int, *hits: Hit) -> Evidence:
    """A task that took so many agents with it."""
    grants = [grant(attempt=number, at_ms=100 * number) for number in range(1, lives + 1)]
    return replace(
        GOOD,
        planned={"t1": planned(may_end={"dead"}, is_poison=True)},
        records=[
            *(record for one in grants for record in (one, closing("revoked", one, one.at_ms + 9))),
            Ended("t1", "dead"),
        ],
        said=[said("start", one) for one in grants],
        finals={"t1": Final("dead", "lost", "")},
        removals=hits,
    )


def test_poison_may_be_granted_as_often_as_it_may_be_lost_and_taken_away() -> None:
    assert judge(poison(3)).problems == []
    assert judge(poison(4, Hit(A, 205, 206))).problems == []


@pytest.mark.parametrize(("child", "policy"), [("dead", "fail"), ("cancelled", "skip")])
def test_a_child_may_end_with_its_parent(child: str, policy: str) -> None:
    assert judge(with_child(child, "dead", policy)).problems == []


BAD: dict[str, tuple[str, Evidence]] = {
    "accepted and unknown": ("lost", replace(GOOD, finals={}, records=[], said=[])),
    "accepted and never ended": (
        "lost",
        replace(GOOD, records=[], said=[], finals={"t1": Final("pending", "", "")}),
    ),
    "ended and forgotten": ("lost", replace(GOOD, finals={"t1": Final("pending", "", "")})),
    "a lease that was never closed": ("lost", with_records(grant())),
    "one unit too many": (
        "over_capacity",
        replace(
            GOOD,
            planned={f"t{n}": planned(f"t{n}") for n in (1, 2, 3)},
            records=[beside(2, 2), *RECORDS, closing(of=beside(2))],
            accepted=frozenset({"t1"}),
        ),
    ),
    "work for an agent that nobody knows": ("over_capacity", replace(GOOD, units={B: 2})),
    "granted under an old lease": ("counted_twice", with_records(grant(), *RECORDS)),
    "two holders": (
        "counted_twice",
        replace(LOST_ONCE, records=[grant(), SECOND, *LOST_ONCE.records[3:], closing("revoked")]),
    ),
    "granted after its end": (
        "counted_twice",
        with_records(*RECORDS, SECOND, closing("revoked", SECOND)),
    ),
    "closed twice": ("counted_twice", with_records(grant(), closing(), *RECORDS[1:])),
    "ended twice": ("counted_twice", with_records(*RECORDS, Ended("t1", "completed"))),
    "ended in two ways": (
        "counted_twice",
        with_records(*RECORDS[:2], Ended("t1", "dead"), RECORDS[2]),
    ),
    "back to life": (
        "counted_twice",
        with_records(*RECORDS, Revived("t1", "completed"), Ended("t1", "completed")),
    ),
    "completed twice in two lives": (
        "counted_twice",
        replace(
            LOST_ONCE,
            retried=frozenset({"t1"}),
            records=[*RECORDS, Revived("t1", "completed"), *LOST_ONCE.records[2:]],
        ),
    ),
    "a grant that nobody asked for": (
        "wrong_lease",
        replace(GOOD, planned={}, accepted=frozenset()),
    ),
    "completed by a lease that was revoked": (
        "counted_twice",
        with_records(grant(), closing("revoked"), Ended("t1", "completed")),
    ),
    "completed by nobody": ("counted_twice", with_records(Ended("t1", "completed"))),
    "the result of an earlier try": (
        "counted_twice",
        replace(LOST_ONCE, finals={"t1": Final("completed", "", "t1.1")}),
    ),
    "a result of nobody": (
        "counted_twice",
        replace(GOOD, finals={"t1": Final("completed", "", "")}),
    ),
    "an attempt left out": (
        "wrong_lease",
        replace(LOST_ONCE, records=[SECOND, *LOST_ONCE.records[3:]], said=LOST_ONCE.said[1:]),
    ),
    "ended while somebody holds it": ("wrong_lease", with_records(grant(), RECORDS[2], closing())),
    "an inbox deleted with what was in it": ("wrong_lease", with_records(*RECORDS, Odd("inbox"))),
    "run without a grant": ("wrong_lease", replace(GOOD, said=[*GOOD.said, said("start", SECOND)])),
    "run by another agent": (
        "wrong_lease",
        replace(GOOD, said=[*GOOD.said, said("start", agent=B)]),
    ),
    "completed, and its agent knows nothing of it": (
        "wrong_lease",
        replace(GOOD, said=[said("start"), said("failed")]),
    ),
    "an end that its plan does not allow": (
        "wrong_end",
        replace(
            GOOD,
            records=[Ended("t1", "cancelled")],
            said=[],
            finals={"t1": Final("cancelled", "", "")},
        ),
    ),
    "a task that nobody submitted": ("wrong_end", replace(GOOD, accepted=frozenset())),
    "one failure too many": (
        "wrong_end",
        replace(
            GOOD,
            planned={"t1": planned(may_end={"dead"}, max_failures=1)},
            records=[
                grant(),
                closing("failed"),
                SECOND,
                closing("failed", SECOND),
                Ended("t1", "dead"),
            ],
            said=[said("failed"), said("failed", SECOND)],
            finals={"t1": Final("dead", "failed", "")},
        ),
    ),
    "dead of a parent that completed": ("wrong_end", with_child("dead", "completed", "fail")),
    "skipped though it shall fail": ("wrong_end", with_child("cancelled", "dead", "fail")),
    "dead though it shall be skipped": ("wrong_end", with_child("dead", "dead", "skip")),
    "dead though it shall run": ("wrong_end", with_child("dead", "dead", "run")),
    "expired though an agent had it": (
        "wrong_end",
        replace(
            GOOD,
            planned={"t1": planned(may_end={"dead"})},
            records=[grant(), closing("revoked"), Ended("t1", "dead")],
            finals={"t1": Final("dead", "expired", "")},
        ),
    ),
    "granted to a boot that was replaced": (
        "wrong_lease",
        replace(
            GOOD,
            planned={f"t{n}": planned(f"t{n}") for n in (1, 2, 3)},
            records=[
                record
                for one in (
                    grant(),
                    grant("t2", boot="second"),
                    grant("t3"),
                )
                for record in (one, closing(of=one), Ended(one.task, "completed"))
            ],
        ),
    ),
    "granted before its time": ("wrong_lease", replace(GOOD, not_before_ms={"t1": 5.0})),
    "poison that is granted once too often": ("wrong_end", poison(4)),
}


#: What is bad in more than one way is told in these words, too.
WORDS = {
    "a lease that was never closed": "was never closed",
    "granted under an old lease": "was granted before",
    "granted after its end": "it had ended",
    "back to life": "lives again",
    "completed twice in two lives": "completed 2 times",
    "a grant that nobody asked for": "nobody planned",
    "granted to a boot that was replaced": "was replaced before",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_rejected(name: str) -> None:
    kind, evidence = BAD[name]
    found = judge(evidence)
    assert any(WORDS.get(name, "") in sentence for sentence in getattr(found, kind)), found


def lost_for_good(hits: list[Hit], poisonings: list[Hit]) -> Evidence:
    """An innocent whose three agents were lost."""
    grants = [grant(attempt=number, at_ms=100 * number) for number in (1, 2, 3)]
    records = [
        record for one in grants for record in (one, closing("revoked", one, one.at_ms + 50))
    ]
    return replace(
        GOOD,
        records=[*records, Ended("t1", "dead")],
        said=[said("start", one) for one in grants],
        finals={"t1": Final("dead", "lost", "")},
        hits=hits,
        poisonings=poisonings,
    )


FIRST, SECOND_HIT, LAST = Hit(A, 110, 120), Hit(A, 190, 210), Hit(A, 340, 400)


@pytest.mark.parametrize(
    ("hits", "poisonings"),
    [([FIRST, SECOND_HIT, LAST], []), ([FIRST, LAST], [SECOND_HIT]), ([LAST], [FIRST, SECOND_HIT])],
)
def test_an_innocent_may_die_when_a_random_fault_ended_its_last_life(
    hits: list[Hit], poisonings: list[Hit]
) -> None:
    found = judge(lost_for_good(hits, poisonings))
    assert (found.problems, len(found.unlucky)) == ([], 1)


@pytest.mark.parametrize(
    ("hits", "poisonings"),
    [
        ([FIRST, SECOND_HIT], [LAST]),
        ([FIRST, SECOND_HIT], []),
        ([FIRST, LAST], []),
        ([FIRST, SECOND_HIT, Hit(B, 340, 400)], []),
        ([FIRST, SECOND_HIT, Hit(A, 160, 170)], []),
        ([FIRST, SECOND_HIT, Hit(A, 351, 400)], []),
    ],
)
def test_any_other_loss_is_no_excuse(hits: list[Hit], poisonings: list[Hit]) -> None:
    found = judge(lost_for_good(hits, poisonings))
    assert found.wrong_end
    assert not found.unlucky
