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
    """All waiting tasks that are interchangeable for the hard rules."""

    role: str
    category: str
    cost: int


class AgentClass(NamedTuple):
    """All agents that are interchangeable for the hard rules, but for their live numbers."""

    role: str
    specializations: tuple[str, ...]
    max_concurrent: int


def _name(definition: str) -> str:
    return f"v{VERSION}{hashlib.sha256(definition.encode()).hexdigest()[:14]}"


@lru_cache(maxsize=20_000)
def lane_definition(lane: Lane) -> tuple[str, str]:
    """(id, canonical JSON) of a lane."""
    text = json.dumps({"v": VERSION, **lane._asdict()}, sort_keys=True, separators=(",", ":"))
    return _name(text), text


@lru_cache(maxsize=20_000)
def class_definition(cls: AgentClass) -> tuple[str, str]:
    """(id, canonical JSON) of a class. Specializations are compared as a sorted set."""
    cls = cls._replace(specializations=tuple(sorted(set(cls.specializations))))
    text = json.dumps({"v": VERSION, **cls._asdict()}, sort_keys=True, separators=(",", ":"))
    return _name(text), text


def read_lane(text: str) -> Lane:
    """The lane that a stored definition describes."""
    raw = json.loads(text)
    return Lane(raw["role"], raw["category"], raw["cost"])


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
