"""What agents hold, where a large task waits for one of them to have room: for plans that choose whom to keep free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from balancer.core.invariants import Lease
from balancer.core.lanes import Lane, feasible
from balancer.core.plan.reserve import overruns
from balancer.core.view import EXACT, FreeAgent, FreeClass, Held, LaneView
from balancer.ledger.commit import Grant
from balancer.ledger.pool import Pool

#: Most agents of whom it is read: half are those with most units free, half those where a unit came free last.
MOST_AGENTS = 16
#: So many of the lanes of large tasks are looked at.
MOST_LANES = 8
#: Most leases that are read for one view.
MOST_LEASES = 256
#: How long what was read is good, while its agent holds as many units.
FRESH_MS = 5_000
#: Most agents of whom it is remembered, in all roles: those that were read last.
MOST_KNOWN = 8 * MOST_AGENTS


class Holdings(NamedTuple):
    """By agent what it holds; and by size how many times as long as estimated tasks run, by all that was read of the
    role lately: one look shows few agents, and often those that were given something last.
    """

    held: Mapping[str, Sequence[Held]] = MappingProxyType({})
    longer: Mapping[int, float] = EXACT


class _Known(NamedTuple):
    at_ms: int
    role: str
    held: tuple[Held, ...]


#: Where nobody waits for anybody.
_NOTHING = Holdings()


class HeldReader:
    """Reads of one pool. Nothing is read where tasks cost one unit, or some free agent has room for each."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: dict[str, _Known] = {}

    def read(
        self, lanes: Iterable[LaneView], classes: Sequence[FreeClass], now_ms: int
    ) -> Holdings:
        """Of those that are nearest to having room for the first task in line that none has room for; of others
        nothing.
        """
        waiting = _first_without_room([view.lane for view in lanes if view.heads], classes)
        if waiting is None:
            return _NOTHING
        agents, role = _nearest(waiting, classes), waiting.role
        self._learn([agent for agent in agents if not self._is_known(agent, now_ms)], role, now_ms)
        return Holdings(
            {agent.id: self._known[agent.id].held for agent in agents if agent.id in self._known},
            overruns(
                (one.estimate_s, (known.at_ms - one.granted_ms) / 1_000)
                for known in self._known.values()
                if known.role == role
                for one in known.held
            ),
        )

    def _is_known(self, agent: FreeAgent, now_ms: int) -> bool:
        known = self._known.get(agent.id)
        if known is None or now_ms - known.at_ms > FRESH_MS:
            return False
        return sum(one.units for one in known.held) == agent.used

    def _learn(self, agents: Sequence[FreeAgent], role: str, now_ms: int) -> None:
        asked, left = [], MOST_LEASES
        for agent in agents:
            self._known.pop(agent.id, None)  # what was read last stands last
            if agent.used <= left:  # it has no more leases than units
                left -= agent.used
                asked.append(agent.id)
        if not asked:
            return
        for oldest in [*self._known][: max(0, len(self._known) + len(asked) - MOST_KNOWN)]:
            del self._known[oldest]
        keys, pipe = self._pool.keys, self._pool.client.pipeline(transaction=False)
        for id_ in asked:
            pipe.hvals(keys.held(id_))
        leases = [[Lease.read(record) for record in records] for records in pipe.execute()]
        pipe = self._pool.client.pipeline(transaction=False)
        for lease in (lease for own in leases for lease in own):
            pipe.hget(keys.task(lease.task), "grant")
        grants = iter(pipe.execute())
        for id_, own in zip(asked, leases, strict=True):
            pairs = [(lease, next(grants)) for lease in own]
            held = tuple(_held(lease, packed) for lease, packed in pairs if packed)
            self._known[id_] = _Known(now_ms, role, held)


def _held(lease: Lease, packed: str) -> Held:
    grant = Grant.read(packed)
    return Held(lease.cost, grant.granted_us // 1_000, grant.estimate_ms / 1_000)


def _first_without_room(lanes: Iterable[Lane], classes: Sequence[FreeClass]) -> Lane | None:
    """The first lane that agents could serve of whom none has room now."""
    large = [lane for lane in lanes if lane.cost > 1 or lane.alone][:MOST_LANES]
    if not large:
        return None
    most = [max((a.max_concurrent - a.used for a in fc.agents), default=0) for fc in classes]
    idle = [any(not agent.used for agent in fc.agents) for fc in classes]
    for lane in large:
        able = [at for at, fc in enumerate(classes) if feasible(lane, fc.cls)]
        rooms = [idle[at] if lane.alone else most[at] >= lane.cost for at in able]
        if rooms and not any(rooms):
            return lane
    return None


def _nearest(lane: Lane, classes: Sequence[FreeClass]) -> list[FreeAgent]:
    """Those to choose from, each once."""
    able = [agent for fc in classes if feasible(lane, fc.cls) for agent in fc.agents]
    able.sort(key=lambda a: (a.used if lane.alone else a.used - a.max_concurrent, a.freed_us))
    nearest = able[: MOST_AGENTS // 2]
    others = sorted(able[MOST_AGENTS // 2 :], key=lambda agent: -agent.freed_us)
    return nearest + others[: MOST_AGENTS // 2]
