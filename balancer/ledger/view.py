"""Reading what could be decided now: the typed twin of view.lua."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from balancer.core.fleet import Fleet
from balancer.core.health import health
from balancer.core.lanes import AgentClass, Lane, read_class, read_lane
from balancer.core.model import Priority
from balancer.core.planner import MOST
from balancer.core.turns import Order, any_pivot, nearness
from balancer.core.view import (
    FreeAgent,
    FreeClass,
    Head,
    LaneView,
    Named,
    Preference,
    RoleView,
    View,
)
from balancer.ledger.beat import Declared
from balancer.ledger.exchange import Exchange
from balancer.ledger.pool import Pool
from balancer.ledger.read_held import HeldReader
from balancer.ledger.script import Script

SCRIPT = Script("view")
#: Most lanes of a role on one page.
LANES_A_PAGE = 64
#: Words the script says about an agent, and one more in pools whose strategy goes by turns.
FACTS = 5
#: What is expected of a task whose facts are not there.
UNKNOWN_S = 3_600.0
#: Most lanes, and classes, whose definitions are remembered. Lanes come and go with every agent that fails a task.
MOST_KNOWN = 20_000
#: Most classes of a role that agents are compared with; those of the most units. And most that are known at all: of
#: the others it is known whether they could have a task that failed.
COMPARED, MOST_CLASSES = 1_000, 10_000


class Viewer:
    """Reads views of one pool. Keeps the definitions it has met: they are immutable, named by their
    content.
    """

    def __init__(self, pool: Pool, pivot: Callable[[], int] = any_pivot) -> None:
        """`pivot` draws where a view starts with what it reads in turn."""
        self._pool, self._pivot, self._holdings = pool, pivot, HeldReader(pool)
        self._lanes: dict[str, Lane] = {}
        self._classes: dict[str, AgentClass] = {}
        #: By role: which version of it was read, and who accepted work then.
        self._fleets: dict[str, tuple[str, Fleet]] = {}

    def view(self, page: int = 0, units: int = MOST, pivot: int | None = None) -> View:
        """A bounded picture: page 0 holds the lanes whose heads come first. `pivot`: where it starts with what it
        reads in turn, instead of a place that is drawn.
        """
        return self._pool.say(self.looked(page, units, pivot))

    def looked(self, page: int = 0, units: int = MOST, pivot: int | None = None) -> Exchange[View]:
        """The same as an exchange, which may share its round trip with others."""
        pivot = self._pivot() if pivot is None else pivot
        (reply,) = yield [self._pool.call(SCRIPT, [page, units, "", 1, pivot])]
        return self._read(reply, pivot)

    def locked_view(self, token: str, lock_ms: int) -> View | None:
        """The first page, and the drain lock for so long, in one round trip. The lock is taken only
        where there is something to decide; None: another drainer has it.
        """
        pivot = self._pivot()
        reply = self._pool.run(SCRIPT, [0, MOST, token, lock_ms, pivot])
        return None if reply == "busy" else self._read(reply, pivot)

    def _read(self, reply: list[Any], pivot: int) -> View:
        words = _Words(reply)
        now_ms, mark_ms, more, roles, order_, ver = words.some(6)
        order = Order(order_)
        found = [_Role.read(words, FACTS + (order is not Order.LOAD)) for _ in range(roles)]
        self._learn(found)
        at = _Moment(int(now_ms), min(int(now_ms), int(mark_ms)), order, pivot)
        start = pivot if order is Order.DRAW else 0
        return View(
            int(now_ms), bool(more), [self._role_view(role, at) for role in found], start, int(ver)
        )

    def _learn(self, roles: list[_Role]) -> None:
        """Fetch the definitions not met before. One that is gone by now is left out of this view."""
        keys, client = self._pool.keys, self._pool.client
        for remembered in (self._lanes, self._classes):
            if len(remembered) > MOST_KNOWN:
                remembered.clear()
        lanes = [id_ for role in roles for id_, _, _ in role.lanes if id_ not in self._lanes]
        if lanes:
            texts = client.hmget(keys.lanedef, lanes)
            pairs = zip(lanes, texts, strict=True)
            self._lanes |= {id_: read_lane(text) for id_, text in pairs if text}
        moved = [role for role in roles if self._fleets.get(role.name, _NONE)[0] != role.fleet_ver]
        compared = self._read_capacities([role.name for role in moved])
        named = [[cid for cid, _ in role.named] for role in roles]
        self._learn_classes(
            [*(id_ for role in roles for id_, *_ in role.classes), *chain(*named, *compared)]
        )
        for role, units in zip(moved, compared, strict=True):
            known = [(self._classes[id_], n) for id_, n in units.items() if id_ in self._classes]
            _, earlier = self._fleets.get(role.name, _NONE)
            fleet = Fleet(known[:COMPARED], earlier, rest=known[COMPARED:])
            self._fleets[role.name] = (role.fleet_ver, fleet)

    def _read_capacities(self, roles: list[str]) -> list[dict[str, int]]:
        """The units of those who accept work, by class; in one round trip for all roles."""
        if not roles:
            return []
        pipe = self._pool.client.pipeline(transaction=False)
        for role in roles:
            pipe.zrevrange(self._pool.keys.capacity(role), 0, MOST_CLASSES - 1, withscores=True)
        return [{id_: int(units) for id_, units in found} for found in pipe.execute()]

    def _learn_classes(self, ids: Iterable[str]) -> None:
        new = [id_ for id_ in dict.fromkeys(ids) if id_ not in self._classes]
        if new:
            texts = self._pool.client.hmget(self._pool.keys.classdef, new)
            pairs = zip(new, texts, strict=True)
            self._classes |= {id_: read_class(text) for id_, text in pairs if text}

    def _role_view(self, role: _Role, at: _Moment) -> RoleView:
        named = {}
        for id_, facts in role.named:
            if cls := self._classes.get(id_):
                (agent,) = _agents(cls, at, facts)
                named[agent.id] = Named(cls, agent)
        classes = [
            FreeClass(self._classes[id_], size, _agents(self._classes[id_], at, facts), extra)
            for id_, size, extra, facts in role.classes
            if id_ in self._classes
        ]
        if named:
            classes = [_with_named(fc, named.values()) for fc in classes]
        lanes = [
            LaneView(self._lanes[id_], size, heads, id_)
            for id_, size, heads in role.lanes
            if id_ in self._lanes
        ]
        return RoleView(
            role.name,
            lanes,
            classes,
            role.units,
            self._fleets[role.name][1],
            role.service_s,
            named,
            *self._holdings.read(lanes, classes, at.now_ms),
        )


def _with_named(fc: FreeClass, named: Iterable[Named]) -> FreeClass:
    """A class with those of its free agents that were named, wherever they stand in it."""
    shown = {agent.id for agent in fc.agents}
    more = [
        agent
        for cls, agent in named
        if cls is fc.cls and agent.id not in shown and agent.used < agent.max_concurrent
    ]
    return fc._replace(agents=fc.agents + more, extra=fc.extra + len(more))


#: A version that no role has.
_NONE = ("none", Fleet(()))


class _Moment(NamedTuple):
    """What an agent's health and turn are judged against."""

    now_ms: int
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
    list a fact, and the agents that were named, each with its class.
    """

    name: str
    units: int
    service_s: float
    fleet_ver: str
    lanes: list[tuple[str, int, list[Head]]]
    classes: list[tuple[str, int, int, list[list[str]]]]
    named: list[tuple[str, list[list[str]]]]

    @classmethod
    def read(cls, words: _Words, facts: int) -> _Role:
        name, units, service_us, fleet_ver, count = words.some(5)
        lanes = []
        for _ in range(count):
            id_, size, shown = words.some(3)
            lanes.append((id_, size, read_heads(words.some(4 * shown))))
        (count,) = words.some(1)
        classes = []
        for _ in range(count):
            id_, size, shown, extra = words.some(4)
            row = words.some(shown * facts)
            classes.append((id_, size, extra, [row[at::facts] for at in range(facts)]))
        (count,) = words.some(1)
        rows = [words.some(1 + facts) for _ in range(count)]
        named = [(row[0], [[word] for word in row[1:]]) for row in rows]
        service_s = float(service_us or 0) / 1_000_000
        return cls(name, units, service_s, fleet_ver, lanes, classes, named)


#: By the first letter.
_PRIORITIES = {priority.value[0]: priority for priority in Priority}


def read_head(pool: Pool, task_id: str) -> Head:
    """One task as the head of a lane, wherever it stands in it."""
    order, effort, d, p = pool.client.hmget(pool.keys.task(task_id), "order_us", "e", "d", "p")
    (head,) = read_heads([task_id, order or "0", effort or "", (d or "")[:1] + (p or "")])
    return head


def read_heads(row: list[str]) -> list[Head]:
    """Tasks, four words each: id, place in line, e, first letter of the priority with p behind it."""
    out = []
    for task, order, effort, how in zip(row[::4], row[1::4], row[2::4], row[3::4], strict=True):
        preference = None
        if len(how) > 1:
            agent, _, for_ms = how[1:].partition("|")
            preference = Preference(agent, int(for_ms))
        estimate_s = int(effort[: effort.index("|")]) / 1_000 if effort else UNKNOWN_S
        priority = _PRIORITIES.get(how[:1], Priority.MEDIUM)
        out.append(Head(float(order), task, estimate_s, priority, preference))
    return out


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
