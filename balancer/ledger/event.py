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
    def read(cls, fields: Mapping[str, str]) -> list[Event]:
        """The transitions of one entry, which is one call: by name a line "task agent detail" each."""
        out = []
        for name, lines in fields.items():
            for line in lines.split("\n"):
                task, agent, detail = ("" if part == "-" else part for part in line.split(" ", 2))
                out.append(cls(name, task, agent, detail))
        return out
