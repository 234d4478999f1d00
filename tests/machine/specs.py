"""What the machine draws: small recipes that are filled in from what there is when their turn comes."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from balancer.core.model import Mode, Priority
from balancer.protocol import Status

ROLES, CATEGORIES = ("dev", "ops"), ("bug", "docs")
#: A place in a list, from its end, modulo its length.
PICK = st.integers(0, 15)
PICKS = st.lists(PICK, min_size=1, max_size=4)
SOMETIMES = st.sampled_from([False, False, True])


class TaskSpec(NamedTuple):
    known: str  # "new", or what to do with a known id: "same", "other"
    pick: int
    role: str
    category: str
    priority: Priority
    cost: int
    max_failures: int
    run_timeout_s: float
    requires: dict[str, int]
    parents: list[int]
    ghost: bool
    asks: tuple[str, ...]  # for a dedup key, a time to start, ...


class BeatSpec(NamedTuple):
    agent: int
    does: str
    role: str
    max: int | None
    specs: tuple[str, ...] | None
    skills: dict[str, int] | None
    mode: Mode
    ttl_ms: int
    holds: int  # bits: which of its leases it names; 16: and one that was never granted


class DoneSpec(NamedTuple):
    pick: int
    of: str  # "open": of an open lease, "any": of any that ever was; else: with this part wrong
    status: Status
    result: str
    error: str


#: What a task asks for beyond the ordinary.
ASKS: list[tuple[str, ...]] = [
    ("later",), ("later",), ("later", "expires"), ("later", "max_wait"), ("expires",), ("expires",), ("expired",),
    ("max_wait",), ("max_wait", "dedup"), ("dedup",), ("skip",), ("skip", "later"), ("run",),
    ("run", "expires"), ("earlier",),
]  # fmt: skip
TASKS = st.builds(
    TaskSpec,
    known=st.sampled_from(["new"] * 4 + ["same", "other"]),
    pick=PICK,
    role=st.sampled_from(["dev", "dev", "ops"]),
    category=st.sampled_from(CATEGORIES),
    priority=st.sampled_from(Priority),
    cost=st.sampled_from([1, 1, 1, 2, 2, 3, 4]),
    max_failures=st.sampled_from([2, 3, 1]),
    run_timeout_s=st.sampled_from([3600.0, 10.0]),
    requires=st.sampled_from([{}] * 5 + [{"go": 2}, {"go": 5}]),
    parents=st.one_of(st.just([]), st.lists(PICK, max_size=3)),
    ghost=st.sampled_from([False] * 9 + [True]),
    asks=st.sampled_from([()] * 6 + ASKS),
)
BEATS = st.builds(
    BeatSpec,
    agent=st.integers(0, 3),
    does=st.sampled_from(["repeat", "declare", "restart"]),
    role=st.sampled_from(["dev", "dev", "ops"]),
    max=st.sampled_from([3, 4, 2, 1, 0, None]),
    specs=st.sampled_from([None, (), ("bug",)]),
    skills=st.sampled_from([None, {"go": 5}, {"go": 2, "ui": 1}]),
    mode=st.sampled_from([Mode.RUNNING] * 5 + [Mode.STOPPING, Mode.STOPPED]),
    ttl_ms=st.sampled_from([15_000, 6_000]),
    holds=st.integers(0, 31),
)
DONES = st.builds(
    DoneSpec,
    pick=PICK,
    of=st.sampled_from(["open"] * 8 + ["any", "ghost", "agent", "attempt", "attempt", "nonce"]),
    status=st.sampled_from([Status.FAILED, Status.COMPLETED, *Status]),
    result=st.sampled_from(["", '{"ok":1}', "not json"]),
    error=st.sampled_from(["", "it broke"]),
)
