"""Reading what could be decided now: the typed twin of view.lua."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
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
        words = iter(reply)
        now_ms, mark_ms, more, roles = int(next(words)), int(next(words)), next(words), next(words)
        order = Order(next(words))
        found = [_Role.read(words, FACTS + (order is not Order.LOAD)) for _ in range(roles)]
        self._learn(found)
        at = _Moment(min(now_ms, mark_ms), order, pivot)
        start = pivot if order is Order.DRAW else 0
        return View(now_ms, bool(more), [self._role_view(role, at) for role in found], start)

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


class _Role(NamedTuple):
    """One role as the script says it: lanes with their heads, classes with their agents' facts."""

    name: str
    units: int
    lanes: list[tuple[str, int, list[Head]]]
    classes: list[tuple[str, int, int, list[list[str]]]]

    @classmethod
    def read(cls, words: Iterator[Any], facts: int) -> _Role:
        name, units = next(words), next(words)
        lanes = []
        for _ in range(next(words)):
            id_, size, heads = next(words), next(words), next(words)
            lanes.append((id_, size, [_head(next(words), next(words)) for _ in range(heads)]))
        classes = []
        for _ in range(next(words)):
            id_, size, agents, extra = next(words), next(words), next(words), next(words)
            rows = [list(islice(words, facts)) for _ in range(agents)]
            classes.append((id_, size, extra, rows))
        return cls(name, units, lanes, classes)


def _head(task: str, order: str) -> Head:
    return Head(float(order), task)


#: Few declarations are in use at a time, and each is read in every view.
_declared = lru_cache(maxsize=10_000)(Declared.read)


def _agents(cls: AgentClass, at: _Moment, facts: list[list[str]]) -> list[FreeAgent]:
    most, out = cls.max_concurrent, []
    for id_, used, freed_us, beat_ms, packed, *turn in facts:
        ttl_ms, interval_ms, type_ = _declared(packed)
        fitness = health(at.mark_ms - int(beat_ms), interval_ms, ttl_ms)
        near = _nearness(at, int(turn[0])) if turn else 0.0
        out.append(FreeAgent(id_, type_, most, int(used), fitness, int(freed_us), near))
    return out


def _nearness(at: _Moment, turn: int) -> float:
    return turn / 1e6 if at.order is Order.GRANT else nearness(turn, at.pivot)
