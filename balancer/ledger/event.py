"""The live tail of transitions: how an entry of the events stream reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Event(NamedTuple):
    """One transition. What it has no value for is empty."""

    name: str
    task: str
    agent: str
    detail: str

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> Event:
        """Parse a stream entry: its one field is the name, the value "task agent detail"."""
        ((name, said),) = fields.items()
        task, agent, detail = ("" if part == "-" else part for part in said.split(" ", 2))
        return cls(name, task, agent, detail)
