"""What the agents themselves say they did, and what can be told from that alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from balancer.demo.child import whole_lines


class Event(NamedTuple):
    """One line of an agent's log. `event` is start, or how the try ended: completed, failed, cancelled."""

    agent: str
    event: str
    task: str
    attempt: int
    cost: int
    #: Units that the agent has.
    units: int
    pid: int


def read_worklogs(logs: Iterable[tuple[str, Path]]) -> dict[str, list[Event]]:
    """The events of every agent, by its id, in the order in which they happened."""
    return {agent: [_event(agent, line) for line in whole_lines(path)] for agent, path in logs}


def _event(agent: str, line: str) -> Event:
    said = json.loads(line)
    return Event(agent, *(said[name] for name in Event._fields[1:]))


def overcommits(events: Sequence[Event]) -> int:
    """How often one agent began a try that made its running cost exceed its units. Its tries end with its process."""
    pid, running, count = 0, 0, 0
    for event in events:
        if event.pid != pid:
            pid, running = event.pid, 0
        if event.event == "start":
            running += event.cost
            count += running > event.units
        else:
            running -= event.cost
    return count


def completions(worklogs: dict[str, list[Event]]) -> set[tuple[str, str, int]]:
    """(agent, task, attempt) of every try that an agent says it completed."""
    return {
        (event.agent, event.task, event.attempt)
        for events in worklogs.values()
        for event in events
        if event.event == "completed"
    }
