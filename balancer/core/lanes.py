"""Lanes and classes: immutable definitions named by their content, and whether one may serve the
other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

#: Version of both definitions; part of every id.
VERSION = 1
#: How fast a specialist is that declares no figure, against its base speed.
SPECIALIST_SPEED = 1.25
#: What one step of a learned speed is worth.
LEARNED_STEP = 1.25


class Gate(StrEnum):
    """Whether agents that fail nearly all that they try are given work; core/pace.py says when."""

    OPEN = ""  # like everybody else
    SHUT = "shut"  # nothing while others could have it
    PROBE = "probe"  # one task, to see whether it goes better


class Lane(NamedTuple):
    """All waiting tasks that are interchangeable for the hard rules.

    Tasks enter as what their producer said. What befell a task since moves it to a lane of its own kind:
    `alone` when it could be a task that takes agents down (it goes to an agent that holds nothing, and
    takes all its units), `avoid` when agents gave it back (until avoid_until_ms others go first), `tried`
    when it failed on agents (none of them gets it again before everyone who could had it).
    """

    role: str
    category: str
    cost: int
    alone: bool = False
    avoid: tuple[str, ...] = ()
    avoid_until_ms: int = 0
    #: (skill, least level), sorted: what an agent must have.
    requires: tuple[tuple[str, int], ...] = ()
    #: In the order in which the definition names them, which is sorted.
    tried: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether only what the producer said counts, so that all agents of a class are alike to it."""
        return not (self.alone or self.avoid or self.tried)


class AgentClass(NamedTuple):
    """All agents that are interchangeable for the hard rules, and equally fast, but for their live numbers."""

    role: str
    specializations: tuple[str, ...]
    max_concurrent: int
    #: (skill, level), sorted.
    skills: tuple[tuple[str, int], ...] = ()
    #: (category, declared speed), sorted; the category "" is the base speed. Only what was declared.
    speeds: tuple[tuple[str, float], ...] = ()
    #: (category, steps of LEARNED_STEP), sorted: by how much it was seen to be faster (slower: negative)
    #: than declared. The category "" stands for all that have no steps of their own.
    learned: tuple[tuple[str, int], ...] = ()
    #: Where it is not open, nothing is learned of their speed.
    gate: Gate = Gate.OPEN

    def speed_of(self, category: str) -> float:
        """How much faster than normal its agents do tasks of a category: what they declared, a modest
        advantage where they only named it as a specialization, and what was learned since.
        """
        declared = dict(self.speeds)
        speed = declared.get(category)
        if speed is None:
            speed = declared.get("", 1.0)
            if category in self.specializations:
                speed *= SPECIALIST_SPEED
        if not self.learned:
            return speed
        learned = dict(self.learned)
        return speed * LEARNED_STEP ** learned.get(category, learned.get("", 0))


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _name(definition: str) -> str:
    return f"v{VERSION}{hashlib.sha256(definition.encode()).hexdigest()[:14]}"


@lru_cache(maxsize=20_000)
def lane_definition(lane: Lane) -> tuple[str, str]:
    """(id, canonical JSON) of a lane. The scripts make those of lanes that are not plain (tries.lua):
    the id of the plain one, `+alone`, `+tried` with how many agents and a hash of who they are, and `+`
    with a hash when it avoids agents.
    """
    plain = {"v": VERSION, "role": lane.role, "category": lane.category, "cost": lane.cost}
    text = _text(plain | ({"requires": dict(lane.requires)} if lane.requires else {}))
    id_, body = _name(text), text[:-1]
    if lane.alone:
        id_, body = f"{id_}+alone", f'{body},"alone":true'
    if lane.tried:
        tried = f'"tried":{_text(lane.tried)}'
        id_, body = f"{id_}+tried{len(lane.tried)}.{_spread(tried):012x}", f"{body},{tried}"
    if lane.avoid:
        agents = _text(lane.avoid)
        avoided = f'"avoid":{agents},"until_ms":{lane.avoid_until_ms}'
        id_, body = f"{id_}+{_spread(avoided):012x}", f"{body},{avoided}"
    return id_, body + "}"


def _spread(text: str) -> int:
    """48 bits that follow from a text, as the scripts compute them (prelude.lua)."""
    high = low = 7
    for byte in text.encode():
        high = (7_368_787 * high + byte) % 16_777_213
        low = (10_495_213 * low + byte) % 16_777_199
    return high << 24 | low


@lru_cache(maxsize=20_000)
def class_definition(cls: AgentClass) -> tuple[str, str]:
    """(id, canonical JSON) of a class. Specializations are compared as a sorted set. The scripts make
    those of classes that were learned (classes.lua): the id of the declared one, and `+s` with a hash, or
    what their gate is.
    """
    said: dict[str, object] = {
        "v": VERSION,
        "role": cls.role,
        "specializations": sorted(set(cls.specializations)),
        "max_concurrent": cls.max_concurrent,
    }
    figures = {"skills": cls.skills, "speeds": cls.speeds}
    text = _text(said | {name: dict(pairs) for name, pairs in figures.items() if pairs})
    if cls.gate:
        return f"{_name(text)}+{cls.gate}", f'{text[:-1]},"gate":"{cls.gate}"}}'
    if not cls.learned:
        return _name(text), text
    learned = f'"learned":{_text(dict(cls.learned))}'
    return f"{_name(text)}+s{_spread(learned):012x}", f"{text[:-1]},{learned}}}"


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
        _pairs(raw, "requires"),
        tuple(raw.get("tried", ())),
    )


def read_class(text: str) -> AgentClass:
    """The class that a stored definition describes."""
    raw = json.loads(text)
    return AgentClass(
        raw["role"],
        tuple(raw["specializations"]),
        raw["max_concurrent"],
        _pairs(raw, "skills"),
        _pairs(raw, "speeds"),
        _pairs(raw, "learned"),
        Gate(raw.get("gate", "")),
    )


def gate_of(class_id: str) -> Gate:
    """The gate of the agents of a class, by its id."""
    gate = class_id.rpartition("+")[2] if "+" in class_id else ""
    return Gate(gate) if gate in (Gate.SHUT, Gate.PROBE) else Gate.OPEN


def _pairs(raw: dict[str, Any], name: str) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(raw[name].items())) if name in raw else ()


def feasible(lane: Lane, cls: AgentClass) -> bool:
    """Whether an agent of this class, idle and healthy, may take a task of this lane. Live numbers
    are judged apart.
    """
    if lane.role != cls.role or lane.cost > cls.max_concurrent:
        return False
    if not lane.requires:
        return True
    levels = dict(cls.skills)
    return all(levels.get(skill, 0) >= level for skill, level in lane.requires)


def is_unplaceable(lane: Lane, classes: Iterable[tuple[AgentClass, int]]) -> bool:
    """Whether there are agents that accept work, each class with the units of all of them, and none of them
    could have a task of this lane.
    """
    known = [cls for cls, _ in classes]
    return bool(known) and not any(feasible(lane, cls) for cls in known)
