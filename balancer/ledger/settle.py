"""Settling completions: the typed twin of settle.lua."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from balancer.ledger.exchange import Arg
from balancer.ledger.pool import Pool
from balancer.ledger.script import Script
from balancer.protocol.events import MAX_ERROR_BYTES, MAX_RESULT_BYTES, Completion

SCRIPT = Script("settle")
#: Completions a call.
CAP = 100


class Outcome(StrEnum):
    """What a completion did."""

    OK = "ok"
    RETRY = "retry"
    DEAD = "dead"
    DUPLICATE = "duplicate"
    STALE = "stale"
    UNKNOWN = "unknown"
    BAD = "bad"


class CompletionEntry(NamedTuple):
    """One entry of the completion stream: a completion, or why it is none with what stood there."""

    entry: str
    completion: Completion | None
    reason: str = ""
    raw: str = ""


class Settled(NamedTuple):
    """An outcome for each entry, and whether a finished parent's children are to be told."""

    outcomes: list[Outcome]
    release_due: bool


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def stored_result(completion: Completion) -> str:
    """What is kept of a try: JSON with `result` or `error`; "" for nothing. Oversized or broken
    results are marked, not kept.
    """
    out: dict[str, object] = {}
    if completion.error:
        out["error"] = completion.error.encode()[:MAX_ERROR_BYTES].decode(errors="ignore")
    if completion.result:
        if len(completion.result.encode()) > MAX_RESULT_BYTES:
            out["dropped"] = "too_large"
        else:
            try:
                out["result"] = json.loads(completion.result, parse_constant=_refuse)
                # What Redis cannot hold: a lone surrogate, a number beyond all bounds.
                _encode(out).encode()
            except (ValueError, RecursionError):
                out.pop("result", None)
                out["dropped"] = "not_json"
    return _encode(out) if out else ""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def settle(pool: Pool, entries: Sequence[CompletionEntry]) -> Settled:
    """Let completions take effect, each at most once; acknowledge and delete their entries in the
    same call. At most CAP.
    """
    if not entries:
        return Settled([], False)
    args: list[Arg] = [round(pool.settings.retry_delay_s * 1_000_000)]
    for entry, done, reason, raw in entries:
        if done is None:
            args += (entry, "bad", reason, raw, "", "", "", "", "")
        else:
            args += (
                entry, "event", done.agent, done.task, done.attempt, done.lease, done.status.value,
                stored_result(done), done.duration_ms,
            )  # fmt: skip
    *outcomes, release_due = pool.run(SCRIPT, args)
    return Settled([Outcome(word) for word in outcomes], bool(release_due))
