"""From the transactions of the append-only file: what became of each lease and each task, in the order it happened.

Only what is public is read: the streams of the agent protocol, and the sets of tasks that have ended. An inbox holds
exactly the open leases of its agent, so an entry that is added is a grant, and one that is deleted a closing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from tests.chaos.aof import Transaction, stream_entry

#: Sets of tasks that have ended, by the state that they stand for.
FINAL = ("completed", "dead", "cancelled")
GRANT_KIND = "task"


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease was opened."""

    agent: str
    task: str
    attempt: int
    lease: str
    cost: int
    boot: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Closing:
    """A lease was closed. `how`: by a completion (its status), or revoked."""

    agent: str
    task: str
    attempt: int
    lease: str
    how: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Reported:
    """An agent sent a completion. Whether it counts is the balancer's to say."""

    agent: str
    task: str
    attempt: int
    lease: str
    status: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A task came to the end of its life."""

    task: str
    state: str


@dataclass(frozen=True, slots=True)
class Revived:
    """A task that had ended waits again."""

    task: str
    state: str


@dataclass(frozen=True, slots=True)
class Odd:
    """Something that must not be in such a file."""

    text: str


Record: TypeAlias = Grant | Closing | Reported | Ended | Revived | Odd


class Historian:
    """Reads the transactions of one pool."""

    def __init__(self, pool: str) -> None:
        self._prefix = f"wb:{{{pool}}}:"
        self._open: dict[tuple[str, str], Grant] = {}
        self._completions: dict[str, Reported] = {}
        self._now_ms = 0

    def read(self, transactions: Iterable[Transaction]) -> Iterator[Record]:
        """What happened, in order; within a transaction, closings come before ends and grants."""
        for transaction in transactions:
            yield from self._read_one(transaction)

    def _read_one(self, transaction: Transaction) -> Iterator[Record]:
        # What settles a completion takes its entry out of the stream in the same transaction.
        settled = self._settled(transaction)
        self._now_ms = max([self._now_ms, *_times_ms(transaction)])
        later: list[Record] = []
        for command in transaction:
            name, key = command[0].upper(), command[1] if len(command) > 1 else ""
            if name in ("DEL", "UNLINK"):
                yield from self._removed(command[1:])
            if not key.startswith(self._prefix):
                continue
            kind, _, rest = key[len(self._prefix) :].partition(":")
            if kind == "inbox" and name in ("XADD", "XDEL"):
                if name == "XADD":
                    later += self._granted(rest, command)
                else:
                    yield from self._closed(rest, command[2:], settled)
            elif kind == "completions" and name == "XADD":
                yield self._reported(command)
            elif kind in FINAL and not rest:
                later += self._moved(kind, name, command)
        yield from later

    def _settled(self, transaction: Transaction) -> dict[tuple[str, str, int, str], str]:
        """By all that names a try: how it was reported to have ended."""
        stream = f"{self._prefix}completions"
        settled: dict[tuple[str, str, int, str], str] = {}
        for command in transaction:
            if command[0].upper() == "XDEL" and command[1] == stream:
                for entry in command[2:]:
                    if done := self._completions.pop(entry, None):
                        settled.setdefault(
                            (done.agent, done.task, done.attempt, done.lease), done.status
                        )
        return settled

    def _granted(self, agent: str, command: list[str]) -> Iterator[Record]:
        entry, fields = stream_entry(command)
        if fields.get("kind", GRANT_KIND) != GRANT_KIND:
            return
        grant = Grant(
            agent,
            fields["task"],
            int(fields["attempt"]),
            fields["lease"],
            int(fields["cost"]),
            fields["boot"],
            at_ms=int(entry.split("-")[0]),
        )
        self._open[agent, entry] = grant
        yield grant

    def _closed(
        self, agent: str, entries: list[str], settled: dict[tuple[str, str, int, str], str]
    ) -> Iterator[Record]:
        for entry in entries:
            if grant := self._open.pop((agent, entry), None):
                name = (agent, grant.task, grant.attempt, grant.lease)
                yield Closing(*name, how=settled.get(name, "revoked"), at_ms=self._now_ms)

    def _removed(self, keys: list[str]) -> Iterator[Record]:
        for key in keys:
            agent = key.removeprefix(f"{self._prefix}inbox:")
            for of, entry in [open_ for open_ in self._open if open_[0] == agent]:
                yield Odd(
                    f"inbox {of} was deleted with the open lease of {self._open[of, entry].task}"
                )

    def _reported(self, command: list[str]) -> Reported:
        entry, fields = stream_entry(command)
        done = Reported(
            fields["agent"],
            fields["task"],
            int(fields["attempt"]),
            fields["lease"],
            fields["status"],
        )
        self._completions[entry] = done
        return done

    def _moved(self, state: str, name: str, command: list[str]) -> Iterator[Record]:
        if name == "ZADD":
            members = [
                part for part in command[2:] if part.upper() not in ("NX", "XX", "GT", "LT", "CH")
            ]
            yield from (Ended(task, state) for task in members[1::2])
        elif name == "ZREM":
            yield from (Revived(task, state) for task in command[2:])


def _times_ms(transaction: Transaction) -> Iterator[int]:
    """Redis' clock, as far as the transaction tells it."""
    for command in transaction:
        if command[0].upper() == "XADD":
            yield int(stream_entry(command)[0].split("-")[0])
