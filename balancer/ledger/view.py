"""Reading what could be decided now: the typed twin of view.lua."""

from __future__ import annotations

from typing import Any

from balancer.core.health import health
from balancer.core.lanes import AgentClass, Lane, read_class, read_lane
from balancer.core.planner import MOST
from balancer.core.view import FreeAgent, FreeClass, Head, LaneView, RoleView, View
from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("view")


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
        now_ms, mark_ms, more, roles = self._pool.run(SCRIPT, [page, units])
        self._learn(roles)
        mark = min(int(now_ms), int(mark_ms))
        views = []
        for role, lanes, classes, share in roles:
            views.append(
                RoleView(
                    role,
                    [self._lane(*lane) for lane in lanes if lane[0] in self._lanes],
                    [self._class(mark, *cls) for cls in classes if cls[0] in self._classes],
                    share,
                )
            )
        return View(int(now_ms), bool(more), views)

    def _learn(self, roles: list[Any]) -> None:
        """Fetch the definitions not met before. One that is gone by now is left out of this view."""
        keys, client = self._pool.keys, self._pool.client
        lanes = [lane[0] for role in roles for lane in role[1] if lane[0] not in self._lanes]
        classes = [cls[0] for role in roles for cls in role[2] if cls[0] not in self._classes]
        if lanes:
            texts = client.hmget(keys.lanedef, lanes)
            self._lanes |= {
                lid: read_lane(text) for lid, text in zip(lanes, texts, strict=True) if text
            }
        if classes:
            texts = client.hmget(keys.classdef, classes)
            self._classes |= {
                cid: read_class(text) for cid, text in zip(classes, texts, strict=True) if text
            }

    def _lane(self, lane_id: str, size: int, heads: list[str]) -> LaneView:
        pairs = zip(heads[::2], heads[1::2], strict=True)
        return LaneView(
            self._lanes[lane_id], size, [Head(float(order), task) for task, order in pairs]
        )

    def _class(self, mark_ms: int, class_id: str, size: int, agents: list[list[str]]) -> FreeClass:
        cls = self._classes[class_id]
        return FreeClass(
            cls,
            size,
            [
                FreeAgent(
                    id_,
                    type_,
                    cls.max_concurrent,
                    int(used),
                    health(mark_ms - int(beat), int(interval), int(ttl)),
                    int(freed),
                )
                for used, beat, interval, ttl, freed, type_, id_ in agents
            ],
        )
