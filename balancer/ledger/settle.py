"""Settling completions: the typed twin of settle.lua."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from balancer.ledger.backoff import backoff_args
from balancer.ledger.exchange import Exchange, exchange
from balancer.ledger.pool import PoolRef
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
    REQUEUED = "requeued"
    CANCELLED = "cancelled"
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
    """An outcome for each entry, whether a finished parent's children are to be told, and in how many
    seconds the soonest retry of these is due (None without any).
    """

    outcomes: list[Outcome]
    release_due: bool
    retry_in_s: float | None = None


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def stored_result(completion: Completion) -> str:
    """What is kept of a try: JSON with `result` or `error`; "" for nothing. Oversized or broken
    results are marked, not kept. Both bounds count what is stored: 1e9 is longer there than it was.
    """
    out: dict[str, object] = {}
    if completion.error:
        out["error"] = _cut(completion.error)
    if completion.result:
        if len(completion.result.encode()) > MAX_RESULT_BYTES:
            out["dropped"] = "too_large"
        else:
            try:
                out["result"] = json.loads(completion.result, parse_constant=_refuse)
                # What Redis cannot hold: a lone surrogate, a number beyond all bounds.
                if len(_encode(out["result"]).encode()) > MAX_RESULT_BYTES:
                    del out["result"]
                    out["dropped"] = "too_large"
            except (ValueError, RecursionError):
                out.pop("result", None)
                out["dropped"] = "not_json"
    return _encode(out) if out else ""


def _cut(error: str) -> str:
    text = error.encode()[:MAX_ERROR_BYTES].decode(errors="ignore")
    # A control character takes six bytes.
    while len(_encode(text).encode()) > MAX_ERROR_BYTES + 2:
        text = text[: len(text) * 3 // 4]
    return text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


@exchange
def settle(
    pool: PoolRef, entries: Sequence[CompletionEntry], *, draw: int | None = None
) -> Exchange[Settled]:
    """Let completions take effect, each at most once; acknowledge and delete their entries in the
    same call. At most CAP.

    Args:
        pool: the pool.
        entries: of the completion stream.
        draw: which share of its back-off the first failed try waits, of 1,000,000; None: at random.
    """
    if not entries:
        return Settled([], False)
    args = [*backoff_args(pool.settings, draw), int(pool.settings.learning)]
    for entry, done, reason, raw in entries:
        if done is None:
            args += (entry, "bad", reason, raw, "", "", "", "", "")
        else:
            args += (
                entry, "event", done.agent, done.task, done.attempt, done.lease, done.status.value,
                stored_result(done), done.duration_ms,
            )  # fmt: skip
    ((*outcomes, soonest_us, release_due),) = yield [pool.call(SCRIPT, args)]
    retry_in_s = soonest_us / 1e6 if soonest_us else None
    return Settled([Outcome(word) for word in outcomes], bool(release_due), retry_in_s)
