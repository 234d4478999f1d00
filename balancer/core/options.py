"""What a producer may ask of a task beyond the ordinary, as it is stored: one packed field, absent
where a task asks for nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

#: Longest dedup key, characters, and longest `max_wait_s`, seconds.
MAX_DEDUP_KEY, MAX_WAIT_S = 256, 365 * 86_400
#: States of work that no agent holds and that has not ended.
WAITING = frozenset({"scheduled", "blocked", "pending", "failed"})
#: Hex digits of a dedup key's hash: with all other options, the packed field stays within 64 bytes.
DEDUP_DIGITS = 30


class ParentPolicy(StrEnum):
    """What becomes of a task when one of its parents dies or is cancelled."""

    FAIL = "fail"
    SKIP = "skip"
    RUN = "run"


class TaskOptions(NamedTuple):
    """The packed field `o`. Zero and empty stand for "not asked for"."""

    policy: str = ParentPolicy.FAIL.value
    expires_us: int = 0
    max_wait_ms: int = 0
    dedup: str = ""

    @classmethod
    def read(cls, text: str | None) -> TaskOptions:
        """Parse a stored field; None is a task without options."""
        if text is None:
            return NO_OPTIONS
        policy, expires_us, max_wait_ms, dedup = text.split("|")
        return cls(policy, int(expires_us), int(max_wait_ms), dedup)

    def packed(self) -> str:
        """As it is stored; empty for a task without options."""
        if self == NO_OPTIONS:
            return ""
        return f"{self.policy}|{self.expires_us}|{self.max_wait_ms}|{self.dedup}"


NO_OPTIONS = TaskOptions()


def check_dedup_key(value: str) -> str:
    """Return a dedup key that may be used.

    Raises:
        ValueError: it holds a control character.
    """
    if re.search(r"[\x00-\x1f\x7f-\x9f]", value):
        raise ValueError("holds a control character")
    return value


def dedup_hash(key: str) -> str:
    """The name that a dedup key has in Redis: what users write never becomes a key."""
    return hashlib.sha256(key.encode()).hexdigest()[:DEDUP_DIGITS]


def expiry_us(fields: Mapping[str, str]) -> int | None:
    """When a task with these stored fields expires if no agent has it by then; None: never, or it does
    not wait.
    """
    if "o" not in fields or fields["state"] not in WAITING:
        return None
    options = TaskOptions.read(fields["o"])
    moments = [options.expires_us] if options.expires_us else []
    if options.max_wait_ms and fields["state"] == "pending" and int(fields.get("attempt", 0)) == 0:
        moments.append(int(fields["ready_us"]) + 1000 * options.max_wait_ms)
    return min(moments, default=None)


def expired_by(fields: Mapping[str, str]) -> str | None:
    """Which limit a task of these stored fields came to: the last one that had passed when it ended; None: it did
    not expire.
    """
    if fields.get("reason") != "expired" or "o" not in fields:
        return None
    options, ended_us = TaskOptions.read(fields["o"]), int(fields["ended_us"])
    most_us = int(fields["ready_us"]) + 1000 * options.max_wait_ms
    waits = options.max_wait_ms > 0 and int(fields.get("attempt", 0)) == 0 and most_us <= ended_us
    return "max_wait_s" if waits and not most_us < options.expires_us <= ended_us else "expires_at"
