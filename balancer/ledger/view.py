"""Reading what could be decided now: the typed twin of view.lua."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from balancer.core.health import health
from balancer.core.lanes import AgentClass, Lane, read_class, read_lane
from balancer.core.planner import MOST
from balancer.core.turns import Order, any_pivot, nearness
from balancer.core.view import FreeAgent, FreeClass, Head, LaneView, RoleView, View
from balancer.ledger.beat import Declared
from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("view")
#: Words the script says about an agent, and one more in pools whose strategy goes by turns.
FACTS = 5


class Viewer:
    """Reads views of one pool. Keeps the definitions it has met: they are immutable, named by their
    content.
    """

    def __init__(self, pool: Pool, pivot: Callable[[], int] = any_pivot) -> None:
        """`pivot` draws where a view starts, in pools whose order is drawn."""
        self._pool, self._pivot = pool, pivot
        self._lanes: dict[str, Lane] = {}
        self._classes: dict[str, AgentClass] = {}

    def view(self, page: int = 0, units: int = MOST) -> View:
        """A bounded picture: page 0 holds the lanes whose heads come first."""
        pivot = self._pivot()
        return self._read(self._pool.run(SCRIPT, [page, units, "", 1, pivot]), pivot)

    def locked_view(self, token: str, lock_ms: int) -> View | None:
        """The first page, and the drain lock for so long, in one round trip. The lock is taken only
        where there is something to decide; None: another drainer has it.
        """
        pivot = self._pivot()
        reply = self._pool.run(SCRIPT, [0, MOST, token, lock_ms, pivot])
        return None if reply == "busy" else self._read(reply, pivot)

    def _read(self, reply: list[Any], pivot: int) -> View:
        words = _Words(reply)
        now_ms, mark_ms, more, roles, order_ = words.some(5)
        order = Order(order_)
        found = [_Role.read(words, FACTS + (order is not Order.LOAD)) for _ in range(roles)]
        self._learn(found)
        at = _Moment(min(int(now_ms), int(mark_ms)), order, pivot)
        start = pivot if order is Order.DRAW else 0
        return View(int(now_ms), bool(more), [self._role_view(role, at) for role in found], start)

    def _learn(self, roles: list[_Role]) -> None:
        """Fetch the definitions not met before. One that is gone by now is left out of this view."""
        keys, client = self._pool.keys, self._pool.client
        lanes = [id_ for role in roles for id_, _, _ in role.lanes if id_ not in self._lanes]
        classes = [id_ for role in roles for id_, *_ in role.classes if id_ not in self._classes]
        if lanes:
            texts = client.hmget(keys.lanedef, lanes)
            pairs = zip(lanes, texts, strict=True)
            self._lanes |= {id_: read_lane(text) for id_, text in pairs if text}
        if classes:
            texts = client.hmget(keys.classdef, classes)
            pairs = zip(classes, texts, strict=True)
            self._classes |= {id_: read_class(text) for id_, text in pairs if text}

    def _role_view(self, role: _Role, at: _Moment) -> RoleView:
        return RoleView(
            role.name,
            [
                LaneView(self._lanes[id_], size, heads)
                for id_, size, heads in role.lanes
                if id_ in self._lanes
            ],
            [
                FreeClass(self._classes[id_], size, _agents(self._classes[id_], at, facts), extra)
                for id_, size, extra, facts in role.classes
                if id_ in self._classes
            ],
            role.units,
        )


class _Moment(NamedTuple):
    """What an agent's health and turn are judged against."""

    mark_ms: int
    order: Order
    pivot: int


class _Words:
    """The words of a reply, one after another. Slices of a list cost less than a call a word."""

    __slots__ = ("_at", "_words")

    def __init__(self, words: list[Any]) -> None:
        self._words, self._at = words, 0

    def some(self, count: int) -> list[Any]:
        """The next words."""
        start = self._at
        self._at += count
        return self._words[start : self._at]


class _Role(NamedTuple):
    """One role as the script says it: lanes with their heads, classes with their agents' facts, one
    list a fact.
    """

    name: str
    units: int
    lanes: list[tuple[str, int, list[Head]]]
    classes: list[tuple[str, int, int, list[list[str]]]]

    @classmethod
    def read(cls, words: _Words, facts: int) -> _Role:
        name, units, count = words.some(3)
        lanes = []
        for _ in range(count):
            id_, size, shown = words.some(3)
            row = words.some(2 * shown)
            heads = [
                Head(float(order), task) for task, order in zip(row[::2], row[1::2], strict=True)
            ]
            lanes.append((id_, size, heads))
        (count,) = words.some(1)
        classes = []
        for _ in range(count):
            id_, size, shown, extra = words.some(4)
            row = words.some(shown * facts)
            classes.append((id_, size, extra, [row[at::facts] for at in range(facts)]))
        return cls(name, units, lanes, classes)


#: Few declarations are in use at a time, and each is read in every view.
_declared = lru_cache(maxsize=10_000)(Declared.read)


def _agents(cls: AgentClass, at: _Moment, facts: list[list[str]]) -> list[FreeAgent]:
    most, mark_ms, out = cls.max_concurrent, at.mark_ms, []
    for id_, used, freed_us, beat_ms, packed, *turn in zip(*facts, strict=True):
        ttl_ms, interval_ms, type_ = _declared(packed)
        fitness = health(mark_ms - int(beat_ms), interval_ms, ttl_ms)
        near = _nearness(at, int(turn[0])) if turn else 0.0
        out.append(FreeAgent(id_, type_, most, int(used), fitness, int(freed_us), near))
    return out


def _nearness(at: _Moment, turn: int) -> float:
    return turn / 1e6 if at.order is Order.GRANT else nearness(turn, at.pivot)
