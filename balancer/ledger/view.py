"""Reading what could be decided now: the typed twin of view.lua."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from balancer.core.health import health
from balancer.core.lanes import AgentClass, Lane, read_class, read_lane
from balancer.core.planner import MOST
from balancer.core.view import FreeAgent, FreeClass, Head, LaneView, RoleView, View
from balancer.ledger.beat import Declared
from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("view")
#: Words the script says about an agent.
FACTS = 5


class Viewer:
    """Reads views of one pool. Keeps the definitions it has met: they are immutable, named by their
    content.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lanes: dict[str, Lane] = {}
        self._classes: dict[str, AgentClass] = {}

    def view(self, page: int = 0, units: int = MOST) -> View:
        """A bounded picture: page 0 holds the lanes whose heads come first."""
        return self._read(self._pool.run(SCRIPT, [page, units, "", 1]))

    def locked_view(self, token: str, lock_ms: int) -> View | None:
        """The first page, and the drain lock for so long, in one round trip. The lock is taken only
        where there is something to decide; None: another drainer has it.
        """
        reply = self._pool.run(SCRIPT, [0, MOST, token, lock_ms])
        return None if reply == "busy" else self._read(reply)

    def _read(self, reply: list[Any]) -> View:
        words = iter(reply)
        now_ms, mark_ms, more, roles = int(next(words)), int(next(words)), next(words), next(words)
        found = [_Role.read(words) for _ in range(roles)]
        self._learn(found)
        mark_ms = min(now_ms, mark_ms)
        return View(now_ms, bool(more), [self._role_view(role, mark_ms) for role in found])

    def _learn(self, roles: list[_Role]) -> None:
        """Fetch the definitions not met before. One that is gone by now is left out of this view."""
        keys, client = self._pool.keys, self._pool.client
        lanes = [id_ for role in roles for id_, _, _ in role.lanes if id_ not in self._lanes]
        classes = [id_ for role in roles for id_, _, _ in role.classes if id_ not in self._classes]
        if lanes:
            texts = client.hmget(keys.lanedef, lanes)
            pairs = zip(lanes, texts, strict=True)
            self._lanes |= {id_: read_lane(text) for id_, text in pairs if text}
        if classes:
            texts = client.hmget(keys.classdef, classes)
            pairs = zip(classes, texts, strict=True)
            self._classes |= {id_: read_class(text) for id_, text in pairs if text}

    def _role_view(self, role: _Role, mark_ms: int) -> RoleView:
        return RoleView(
            role.name,
            [
                LaneView(self._lanes[id_], size, heads)
                for id_, size, heads in role.lanes
                if id_ in self._lanes
            ],
            [
                FreeClass(self._classes[id_], size, _agents(self._classes[id_], mark_ms, facts))
                for id_, size, facts in role.classes
                if id_ in self._classes
            ],
            role.units,
        )


class _Role(NamedTuple):
    """One role as the script says it: lanes with their heads, classes with their agents' facts."""

    name: str
    units: int
    lanes: list[tuple[str, int, list[Head]]]
    classes: list[tuple[str, int, list[list[str]]]]

    @classmethod
    def read(cls, words: Iterator[Any]) -> _Role:
        name, units = next(words), next(words)
        lanes = []
        for _ in range(next(words)):
            id_, size, heads = next(words), next(words), next(words)
            lanes.append((id_, size, [_head(next(words), next(words)) for _ in range(heads)]))
        classes = []
        for _ in range(next(words)):
            id_, size, agents = next(words), next(words), next(words)
            classes.append((id_, size, [list(islice(words, FACTS)) for _ in range(agents)]))
        return cls(name, units, lanes, classes)


def _head(task: str, order: str) -> Head:
    return Head(float(order), task)


#: Few declarations are in use at a time, and each is read in every view.
_declared = lru_cache(maxsize=10_000)(Declared.read)


def _agents(cls: AgentClass, mark_ms: int, facts: list[list[str]]) -> list[FreeAgent]:
    most, out = cls.max_concurrent, []
    for id_, used, freed_us, beat_ms, packed in facts:
        ttl_ms, interval_ms, type_ = _declared(packed)
        fitness = health(mark_ms - int(beat_ms), interval_ms, ttl_ms)
        out.append(FreeAgent(id_, type_, most, int(used), fitness, int(freed_us)))
    return out
