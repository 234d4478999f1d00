"""The verdict of a run: gathers what the judges say, and says how to repeat it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from balancer.ledger.read_tasks import TaskStatus
from tests.chaos.aof import aof_files, read_transactions
from tests.chaos.history import Historian
from tests.chaos.inputs import Inputs
from tests.chaos.judge import Evidence, Final, Hit, Judgement, judge
from tests.chaos.leaks import Expected, leaked
from tests.chaos.roster import AGENTS, POOL, ROLES, TTL_S
from tests.chaos.schedule import Fault, Kind
from tests.chaos.stage import SETTINGS, Outcome
from tests.chaos.worklog import read_worklogs

#: Sentences of one kind that a verdict holds.
MOST = 15
#: What a killed agent needs until it is back, seconds.
START_S = 4.0
#: From the word that an agent shall go until it is gone and has given back what it held, milliseconds.
REMOVAL_MS = 10_000
#: Answers of submit that mean: the pool has the task.
STORED = {"accepted", "scheduled", "blocked", "duplicate", "dead_parent", "skipped", "expired"}


def make_verdict(
    seed: int, inputs: Inputs, outcome: Outcome, *, is_short: bool, directory: Path, data: Path
) -> dict[str, Any]:
    """The verdict. `ok` decides the exit code, `problems` says in words why it is false.

    Args:
        directory: where the processes left their logs.
        data: where Redis keeps its append-only file.
    """
    said = read_worklogs(directory)
    evidence = Evidence(
        planned=inputs.tasks,
        accepted=_accepted(outcome),
        units={agent.id: agent.units for agent in AGENTS},
        max_losses=SETTINGS.max_losses,
        records=list(Historian(POOL).read(read_transactions(aof_files(data)))),
        said=said,
        finals={id_: _final(status) for id_, status in outcome.statuses.items() if status},
        hits=[hit for fault, at_ms in outcome.fired for hit in _hits(fault, at_ms)],
        poisonings=[
            Hit(line.agent, round(1_000 * line.wall_s), round(1_000 * (line.wall_s + START_S)))
            for line in said
            if line.event == "start"
            and line.task in inputs.tasks
            and inputs.tasks[line.task].is_poison
        ],
        removals=_removals(outcome),
        retried=frozenset(
            task
            for done in outcome.answers
            for task, _, _ in done.answers
            if done.step["do"] == "retry"
        ),
        not_before_ms={
            fields["id"]: 1_000 * (done.began_s + fields["in"]["not_before"])
            for done in outcome.answers
            for fields in done.step.get("tasks", ())
            if "not_before" in fields.get("in", {})
        },
    )
    found = judge(evidence)
    assert outcome.audit is not None
    problems = [
        *([outcome.gave_up] if outcome.gave_up else []),
        *_some(_unexpected(inputs, outcome)),
        *_some(found.lost),
        *_some(found.over_capacity),
        *_some(found.counted_twice),
        *_some(found.wrong_end),
        *_some(found.wrong_lease),
        *_some(f"audit: {violation}" for violation in outcome.audit.violations),
        *([] if outcome.audit.exact else ["the pool did not stand still for the audit"]),
        *_some(_leaks(evidence, outcome)),
        *_some(outcome.alarms),
        *(
            [f"{outcome.unacknowledged} completions were read and never acknowledged"]
            if outcome.unacknowledged
            else []
        ),
    ]
    return {
        "ok": not problems,
        "seed": seed,
        "replay": f"make chaos{'-short' if is_short else ''} SEED={seed}",
        "problems": problems,
        "tasks": len(inputs.tasks),
        "accepted": len(evidence.accepted),
        **_counts(found, outcome),
        "elapsed_s": round(outcome.elapsed_s, 1),
    }


def _counts(found: Judgement, outcome: Outcome) -> dict[str, Any]:
    assert outcome.audit is not None
    faults = Counter(fault.kind.value for fault, _ in outcome.fired)
    signals = sum(fault.is_signal for fault, _ in outcome.fired)
    counters = outcome.audit.totals.counters
    ends = {state: found.figures[state] for state in ("completed", "dead", "cancelled")}
    return {
        **ends,
        "lost": len(found.lost),
        "over_capacity": len(found.over_capacity),
        "counted_twice": len(found.counted_twice),
        "counter_drift": len(outcome.audit.violations),
        "unlucky": found.unlucky,
        "faults": dict(sorted(faults.items())),
        "signals": signals,
        "redis_kills": sum(
            fault.kind is Kind.KILL and fault.victim == "redis" for fault, _ in outcome.fired
        ),
        "replies_cut": outcome.cuts,
        "restarts": outcome.restarts,
        "leases": found.figures["grant"],
        "tries": found.figures["tries"],
        "closed": {
            name.removeprefix("closed_"): count
            for name, count in sorted(found.figures.items())
            if name.startswith("closed_")
        },
        "revoked_unexplained": found.figures["unexplained"],
        "completions_sent": found.figures["reported"],
        "completions_stale": counters.get("completions_stale", 0),
        "completions_duplicate": counters.get("completions_duplicate", 0),
        "poison_dead": found.figures["poison_dead"],
    }


def render(verdict: dict[str, Any]) -> str:
    """The same for people."""
    lines = [
        f"seed {verdict['seed']}: {'CLEAN' if verdict['ok'] else 'NOT CLEAN'} after {verdict['elapsed_s']} s",
        f"  {verdict['accepted']:,} of {verdict['tasks']:,} tasks accepted: {verdict['completed']:,} completed, "
        f"{verdict['dead']:,} dead, {verdict['cancelled']:,} cancelled",
        f"  {verdict['lost']} lost, {verdict['over_capacity']} over capacity, "
        f"{verdict['counted_twice']} counted twice, counters off: {verdict['counter_drift']}",
        f"  faults: {', '.join(f'{kind} {count}' for kind, count in verdict['faults'].items())}",
        f"  {verdict['signals']} signals to agents and balancers, {verdict['redis_kills']} kills of Redis, "
        f"{verdict['replies_cut']} replies cut, {verdict['restarts']} restarts",
        f"  {verdict['leases']:,} leases: {', '.join(f'{count:,} {how}' for how, count in verdict['closed'].items())}; "
        f"{verdict['revoked_unexplained']} of them revoked by no fault of the schedule",
        f"  {verdict['completions_sent']:,} completions: {verdict['completions_stale']} late or wrong, "
        f"{verdict['completions_duplicate']} said twice",
        *(f"  bad luck, not counted: {line}" for line in verdict["unlucky"]),
        *(f"  PROBLEM: {line}" for line in verdict["problems"]),
        f"  again: {verdict['replay']}",
    ]
    return "\n".join(lines)


def _accepted(outcome: Outcome) -> frozenset[str]:
    """What the producer was told is stored."""
    return frozenset(
        by
        for done in outcome.answers
        for _, said, by in done.answers
        if done.step["do"] == "submit" and said in STORED
    )


def _removals(outcome: Outcome) -> list[Hit]:
    """When agents had to give back what they held, which counts as nothing."""
    told = [
        Hit(fault.victim, at_ms, at_ms + REMOVAL_MS)
        for fault, at_ms in outcome.fired
        if fault.kind is Kind.TERM
    ]
    retired = [
        (done.step["agent"], round(1_000 * done.began_s))
        for done in outcome.answers
        if done.step["do"] == "retire_agent"
    ]
    return [*told, *(Hit(agent, at_ms, at_ms + REMOVAL_MS) for agent, at_ms in retired)]


def _final(status: TaskStatus) -> Final:
    result = status.result.get("result")
    lease = result.get("lease", "") if isinstance(result, dict) else ""
    return Final(status.state.value, status.reason, lease)


def _hits(fault: Fault, at_ms: int) -> list[Hit]:
    if fault.kind is Kind.STOP and fault.lasts_s < TTL_S:
        return []
    if fault.kind not in (Kind.KILL, Kind.STOP, Kind.REPLACE):
        return []
    extra_s = START_S if fault.kind is not Kind.STOP else TTL_S
    return [Hit(fault.victim, at_ms, at_ms + round(1_000 * (fault.lasts_s + extra_s)))]


def _unexpected(inputs: Inputs, outcome: Outcome) -> list[str]:
    """Steps that the producer did not do, or that were answered otherwise than they have to be."""
    found = []
    if len(outcome.answers) < len(inputs.steps):
        found.append(f"the producer did {len(outcome.answers)} of {len(inputs.steps)} steps")
    for done in outcome.answers:
        if done.step["do"] != "submit":
            continue
        expected = done.step["expect"]
        for task, said, by in done.answers:
            answer = said if by == task else f"{said} {by}"
            if answer != expected if expected else said not in STORED:
                found.append(f"{task}: submit answered {answer}")
    return found


def _leaks(evidence: Evidence, outcome: Outcome) -> list[str]:
    keyed = sum("dedup_key" in evidence.planned[task].fields for task in evidence.accepted)
    agents = {agent.id for agent in AGENTS}
    waited = {
        task
        for task, final in evidence.finals.items()
        if final.state == "dead" and final.reason in ("parent_failed", "expired")
    }
    expected = Expected(f"wb:{{{POOL}}}:", evidence.accepted, agents, ROLES, keyed, waited)
    return leaked(outcome.keys, expected)


def _some(sentences: Iterable[str]) -> Sequence[str]:
    found = list(sentences)
    more = len(found) - MOST
    return found if more <= 0 else [*found[:MOST], f"... and {more} more like the last"]
