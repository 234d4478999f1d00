"""Holds a history against what was promised. Pure, and knows nothing of how the balancer keeps its books."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.chaos.history import Closing, Ended, Grant, Odd, Record, Reported, Revived
from tests.chaos.inputs import CANCELLED, COMPLETED, DEAD, Planned
from tests.chaos.worklog import Said

#: What the clocks of two processes on one machine may differ by, and rounding, milliseconds.
CLOCK_MS = 2


class Final(NamedTuple):
    """A task as Redis has it when all is over."""

    state: str
    reason: str
    #: The lease that its result names; empty without a result.
    result_of: str


class Hit(NamedTuple):
    """A random fault that can cost an agent its leases, and from when to when it lasted, by Redis' clock."""

    agent: str
    from_ms: int
    to_ms: int


@dataclass(frozen=True)
class Evidence:
    """All that is known of a run."""

    planned: Mapping[str, Planned]
    #: Ids that the producer was told are stored.
    accepted: frozenset[str]
    #: Units of each agent.
    units: Mapping[str, int]
    max_losses: int
    records: Sequence[Record]
    said: Sequence[Said]
    finals: Mapping[str, Final]
    hits: Sequence[Hit]
    #: When a task that kills its agent did so; and when agents were retired, or told to end.
    poisonings: Sequence[Hit] = ()
    removals: Sequence[Hit] = ()
    #: Tasks that the producer asked to try again after their death.
    retried: frozenset[str] = frozenset()
    #: Tasks that may not be granted before a moment, by Redis' clock, milliseconds.
    not_before_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Judgement:
    """What was found: sentences by the promise that they break, and figures."""

    lost: list[str] = field(default_factory=list)
    over_capacity: list[str] = field(default_factory=list)
    counted_twice: list[str] = field(default_factory=list)
    wrong_end: list[str] = field(default_factory=list)
    wrong_lease: list[str] = field(default_factory=list)
    #: Innocents that died because random faults took their agents away too often. No fault of the balancer.
    unlucky: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)

    @property
    def problems(self) -> list[str]:
        """Everything that breaks a promise."""
        return [
            *self.lost, *self.over_capacity, *self.counted_twice, *self.wrong_end, *self.wrong_lease,
        ]  # fmt: skip


def judge(evidence: Evidence) -> Judgement:
    """Follow every lease and every task from the beginning to the end."""
    found = Judgement()
    course = _Course(evidence, found)
    for record in evidence.records:
        course.take(record)
    course.close()
    _judge_ends(evidence, course, found)
    _judge_work(evidence, course, found)
    return found


class _Course:
    """The state of all leases and tasks after each record."""

    def __init__(self, evidence: Evidence, found: Judgement) -> None:
        self._evidence, self._found = evidence, found
        self.grants: dict[str, Grant] = {}
        self.closings: dict[str, Closing] = {}
        self.of_task: dict[str, list[Grant]] = defaultdict(list)
        self.ended: dict[str, str] = {}
        #: Died or were cancelled at some time; somebody may have tried them again since.
        self.once_unsuccessful: set[str] = set()
        self.failures: Counter[str] = Counter()
        self._completed: Counter[str] = Counter()
        self._open: dict[str, dict[str, Grant]] = defaultdict(dict)
        self._holder: dict[str, Grant] = {}
        self._boot: dict[str, str] = {}
        self._replaced: set[str] = set()

    def take(self, record: Record) -> None:
        """The next record."""
        self._found.figures[type(record).__name__.lower()] += 1
        match record:
            case Grant():
                self._grant(record)
            case Closing():
                self._close(record)
            case Ended():
                self._end(record)
            case Revived(task, state):
                if self.ended.pop(task, None) is None or task not in self._evidence.retried:
                    self._found.counted_twice.append(f"{task}: was {state}, and lives again")
            case Reported():
                pass
            case Odd(text):
                self._found.wrong_lease.append(text)

    def close(self) -> None:
        """Nothing more will come."""
        for grant in self._holder.values():
            self._found.lost.append(
                f"{grant.task}: its lease {grant.lease} on {grant.agent} was never closed"
            )

    def _grant(self, grant: Grant) -> None:
        found, earlier = self._found, self.of_task[grant.task]
        what = f"{grant.task}: attempt {grant.attempt} on {grant.agent}"
        if grant.lease in self.grants:
            found.counted_twice.append(f"{what}: lease {grant.lease} was granted before")
        if grant.task in self._holder:
            held = self._holder[grant.task]
            found.counted_twice.append(f"{what}: {held.agent} holds attempt {held.attempt}")
        if grant.task in self.ended:
            found.counted_twice.append(f"{what}: it had ended ({self.ended[grant.task]})")
        if grant.attempt != len(earlier) + 1:
            found.wrong_lease.append(f"{what}: grant number {len(earlier) + 1}")
        if grant.task not in self._evidence.planned:
            found.wrong_lease.append(f"{what}: nobody planned this task")
        if grant.at_ms < self._evidence.not_before_ms.get(grant.task, 0) - CLOCK_MS:
            found.wrong_lease.append(f"{what}: before its time")
        units = self._evidence.units.get(grant.agent, 0)
        used = sum(other.cost for other in self._open[grant.agent].values())
        if used + grant.cost > units:
            found.over_capacity.append(f"{what}: {used} + {grant.cost} of {units} units")
        if grant.boot != self._boot.get(grant.agent):
            self._replaced.add(self._boot.get(grant.agent, ""))
            self._boot[grant.agent] = grant.boot
        if grant.boot in self._replaced:
            found.wrong_lease.append(f"{what}: to boot {grant.boot}, which was replaced before")
        earlier.append(grant)
        self.grants[grant.lease] = self._holder[grant.task] = grant
        self._open[grant.agent][grant.lease] = grant

    def _close(self, closing: Closing) -> None:
        grant = self._open[closing.agent].pop(closing.lease, None)
        if grant is None:
            self._found.counted_twice.append(
                f"{closing.task}: lease {closing.lease} on {closing.agent} was closed, and was not open"
            )
            return
        self._found.figures[f"closed_{closing.how}"] += 1
        self.closings[closing.lease] = closing
        self.failures[closing.task] += closing.how == "failed"
        if self._holder.get(closing.task) is grant:
            del self._holder[closing.task]

    def _end(self, ended: Ended) -> None:
        task, state = ended.task, ended.state
        if task in self.ended:
            self._found.counted_twice.append(f"{task}: {state}, and was {self.ended[task]} already")
        if task in self._holder:
            self._found.wrong_lease.append(f"{task}: {state} with an open lease")
        self.ended[task] = state
        if state != COMPLETED:
            self.once_unsuccessful.add(task)
        else:
            self._completed[task] += 1
            if self._completed[task] > 1:
                self._found.counted_twice.append(f"{task}: completed {self._completed[task]} times")
            last = self.last_closing(task)
            if last is None or last.how != COMPLETED:
                how = f"its last lease was {last.how}" if last else "it never had a lease"
                self._found.counted_twice.append(f"{task}: completed, but {how}")

    def story(self, task: str) -> str:
        """Who had the task from when to when, seconds after the first grant of all."""
        start_ms = min(grant.at_ms for grant in self.grants.values())
        parts = []
        for grant in self.of_task[task]:
            closing = self.closings.get(grant.lease)
            end = f"{(closing.at_ms - start_ms) / 1_000:.1f} s, {closing.how}" if closing else "now"
            parts.append(f"{grant.agent} from {(grant.at_ms - start_ms) / 1_000:.1f} to {end}")
        return "; ".join(parts)

    def last_closing(self, task: str) -> Closing | None:
        """How the task's last lease ended, when it has."""
        grants = self.of_task.get(task)
        return self.closings.get(grants[-1].lease) if grants else None


def _judge_ends(evidence: Evidence, course: _Course, found: Judgement) -> None:
    """Every accepted task has ended once, in a way that its plan allows."""
    for task in evidence.accepted:
        state, final = course.ended.get(task), evidence.finals.get(task)
        if final is None:
            found.lost.append(f"{task}: accepted, and Redis does not know it")
        elif state is None:
            found.lost.append(f"{task}: accepted, and never ended (it is {final.state})")
        elif state != final.state:
            found.lost.append(f"{task}: it had ended {state}, and is {final.state}")
        else:
            found.figures[state] += 1
            _judge_end(evidence, course, found, evidence.planned[task], final)
    for task in course.ended.keys() - evidence.accepted:
        found.wrong_end.append(f"{task}: ended, and the producer was never told that it is stored")


def _judge_end(
    evidence: Evidence, course: _Course, found: Judgement, planned: Planned, final: Final
) -> None:
    task, said = planned.id, f"{planned.id}: {final.state} ({final.reason})"
    if final.state == DEAD and final.reason == "lost":
        _judge_loss(evidence, course, found, planned)
    elif final.reason == "parent_failed":
        parents = planned.fields.get("depends_on", ())
        policy = planned.fields.get("on_parent_failure", "fail")
        if not course.once_unsuccessful.intersection(parents):
            found.wrong_end.append(f"{said}: all its parents completed")
        if final.state != {"fail": DEAD, "skip": CANCELLED}.get(policy):
            found.wrong_end.append(f"{said}: its policy is {policy}")
    elif final.state not in planned.may_end:
        found.wrong_end.append(f"{said}: it may only be {' or '.join(sorted(planned.may_end))}")
    elif final.state == DEAD and final.reason == "failed":
        most = int(planned.fields.get("max_failures", 3))
        if task not in evidence.retried and course.failures[task] != most:
            found.wrong_end.append(f"{said}: after {course.failures[task]} failures of {most}")
    elif final.state == DEAD and final.reason == "expired":
        found.figures["expired"] += 1
        if course.of_task[task] and "in" not in planned.fields:
            found.wrong_end.append(f"{said}: an agent had it")
    elif final.state == COMPLETED:
        lease = course.of_task[task][-1].lease if course.of_task[task] else ""
        if final.result_of != lease:
            found.counted_twice.append(
                f"{task}: its result is of lease {final.result_of}, not {lease}"
            )


def _judge_loss(evidence: Evidence, course: _Course, found: Judgement, planned: Planned) -> None:
    """A task that killed its agents had to die; any other only if random faults took them away."""
    if planned.is_poison:
        found.figures["poison_dead"] += 1
        return
    grants = course.of_task[planned.id]
    hits = sum(_hits(evidence.hits, course, grant) for grant in grants)
    beside = sum(_hits(evidence.poisonings, course, grant) for grant in grants)
    text = f"{planned.id}: dead (lost), {hits} random faults hit it"
    text += f" and it was beside {beside} crashes of poison" if beside else ""
    text += f": {course.story(planned.id)}"
    # Its last life it had alone: only a random fault can have ended that.
    is_unlucky = hits + beside >= evidence.max_losses and _hits(evidence.hits, course, grants[-1])
    (found.unlucky if is_unlucky else found.wrong_end).append(text)


def _hits(hits: Sequence[Hit], course: _Course, grant: Grant) -> int:
    """How often one of these struck the agent while it held this lease."""
    closing = course.closings.get(grant.lease)
    until_ms = closing.at_ms if closing else grant.at_ms
    return sum(
        hit.agent == grant.agent and hit.from_ms <= until_ms and grant.at_ms <= hit.to_ms
        for hit in hits
    )


def _judge_work(evidence: Evidence, course: _Course, found: Judgement) -> None:
    """The agents' own logs: they ran what they were granted, and completed what counts as completed."""
    starts: Counter[str] = Counter()
    did: set[tuple[str, str]] = set()
    for said in evidence.said:
        grant = course.grants.get(said.lease)
        if grant is None or (grant.agent, grant.task, grant.attempt) != (
            said.agent,
            said.task,
            said.attempt,
        ):
            found.wrong_lease.append(
                f"{said.task}: {said.agent} ran attempt {said.attempt} under a lease it was never granted"
            )
        starts[said.task] += said.event == "start"
        did.add((said.lease, said.event))
    for lease, closing in course.closings.items():
        if closing.how in (COMPLETED, "failed") and (lease, closing.how) not in did:
            found.wrong_lease.append(
                f"{closing.task}: {closing.how} by {closing.agent}, whose log says nothing of it"
            )
    causes = [*evidence.hits, *evidence.poisonings, *evidence.removals]
    found.figures["unexplained"] = sum(
        closing.how == "revoked" and not _hits(causes, course, course.grants[lease])
        for lease, closing in course.closings.items()
    )
    for planned in evidence.planned.values():
        if planned.is_poison:
            _judge_poison(evidence, course, found, planned)
    found.figures["tries"] = sum(starts.values())


def _judge_poison(evidence: Evidence, course: _Course, found: Judgement, planned: Planned) -> None:
    """It may take so many leases with it, and those that random faults or operators took from it."""
    grants = course.of_task[planned.id]
    hits = sum(_hits([*evidence.hits, *evidence.removals], course, grant) for grant in grants)
    if len(grants) > evidence.max_losses + hits:
        found.wrong_end.append(
            f"{planned.id}: poison, was granted {len(grants)} times: {course.story(planned.id)}"
        )
