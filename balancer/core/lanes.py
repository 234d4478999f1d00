"""Lanes and classes: immutable definitions named by their content, and whether one may serve the
other.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import NamedTuple

#: Version of both definitions; part of every id.
VERSION = 1


class Lane(NamedTuple):
    """All waiting tasks that are interchangeable for the hard rules.

    Tasks enter as what their producer said. What befell a task since moves it to a lane of its own kind:
    `alone` when it could be a task that takes agents down (it goes to an agent that holds nothing, and
    takes all its units), `avoid` when agents gave it back (until avoid_until_ms others go first).
    """

    role: str
    category: str
    cost: int
    alone: bool = False
    avoid: tuple[str, ...] = ()
    avoid_until_ms: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether only role, category and cost count."""
        return not (self.alone or self.avoid)


class AgentClass(NamedTuple):
    """All agents that are interchangeable for the hard rules, but for their live numbers."""

    role: str
    specializations: tuple[str, ...]
    max_concurrent: int


def _name(definition: str) -> str:
    return f"v{VERSION}{hashlib.sha256(definition.encode()).hexdigest()[:14]}"


@lru_cache(maxsize=20_000)
def lane_definition(lane: Lane) -> tuple[str, str]:
    """(id, canonical JSON) of a lane. The scripts make those of lanes that are not plain (lane.lua):
    the id of the plain one, `+alone`, and `+` with a hash when it avoids agents.
    """
    plain = {"v": VERSION, "role": lane.role, "category": lane.category, "cost": lane.cost}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    id_, body = _name(text), text[:-1]
    if lane.alone:
        id_, body = f"{id_}+alone", f'{body},"alone":true'
    if lane.avoid:
        agents = json.dumps(lane.avoid, separators=(",", ":"))
        avoided = f'"avoid":{agents},"until_ms":{lane.avoid_until_ms}'
        id_, body = f"{id_}+{_spread(avoided):012x}", f"{body},{avoided}"
    return id_, body + "}"


def _spread(text: str) -> int:
    """48 bits that follow from a text, as the scripts compute them."""
    bits = 7
    for byte in text.encode():
        bits = (31 * bits + byte) % 2**48
    return bits


@lru_cache(maxsize=20_000)
def class_definition(cls: AgentClass) -> tuple[str, str]:
    """(id, canonical JSON) of a class. Specializations are compared as a sorted set."""
    cls = cls._replace(specializations=tuple(sorted(set(cls.specializations))))
    text = json.dumps({"v": VERSION, **cls._asdict()}, sort_keys=True, separators=(",", ":"))
    return _name(text), text


def read_lane(text: str) -> Lane:
    """The lane that a stored definition describes."""
    raw = json.loads(text)
    return Lane(
        raw["role"],
        raw["category"],
        raw["cost"],
        raw.get("alone", False),
        tuple(raw.get("avoid", ())),
        raw.get("until_ms", 0),
    )


def read_class(text: str) -> AgentClass:
    """The class that a stored definition describes."""
    raw = json.loads(text)
    return AgentClass(raw["role"], tuple(raw["specializations"]), raw["max_concurrent"])


@lru_cache(maxsize=100_000)
def feasible(lane: Lane, cls: AgentClass) -> bool:
    """Whether an agent of this class, idle and healthy, may take a task of this lane. Live numbers
    are judged apart.
    """
    return lane.role == cls.role and lane.cost <= cls.max_concurrent
