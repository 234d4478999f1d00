"""Tables on a terminal: what names a row can always be copied, and nothing is wider than the terminal."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable

import pytest

from balancer.cli import output, queue
from balancer.ledger.read_fleet import RoleQueue

COLUMNS = ("id", "state", "age", "role", "category", "agent", "try", "reason")

Screen = Callable[[Callable[[], None]], list[str]]


class Terminal(io.StringIO):
    """Somebody's screen."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[200, 80, 60])
def room(request: pytest.FixtureRequest) -> int:
    """How many columns wide the terminal is."""
    width: int = request.param
    return width


@pytest.fixture
def screen(room: int, monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Calls what draws, and answers with the lines on the terminal, less their colours."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(room))

    def shown(draw: Callable[[], None]) -> list[str]:
        monkeypatch.setattr(output, "_STYLES", {})
        monkeypatch.setattr(sys, "stdout", terminal := Terminal())
        draw()
        lines = re.sub(r"\x1b\[\d*m", "", terminal.getvalue()).splitlines()
        assert max(map(len, lines)) <= room
        return lines

    return shown


def test_an_id_stays_whole_whatever_stands_beside_it(screen: Screen, room: int) -> None:
    names = ("developer", "infrastructure", "builder-of-production-17")
    row = ("o4cxibkkeoluw", "completed", "2.1 s", *names, 1, "parent_failed")
    head, body = screen(lambda: output.table(COLUMNS, [row], numbers=("try", "age")))
    assert (head.split()[0], body.split()[0]) == ("ID", "o4cxibkkeoluw")
    assert ("builder-of-production-17" in body) == (room == 200)


def test_a_long_name_is_folded(screen: Screen) -> None:
    body = screen(lambda: output.table(("role", "text"), [("r" * 64, "t" * 64)]))[1:]
    assert "".join(line.split()[0] for line in body) == "r" * 64


def test_queues_go_without_spare_columns_where_room_is_short(screen: Screen, room: int) -> None:
    developer = RoleQueue(
        role="developer",
        paused=True,
        pending=3,
        scheduled=0,
        waiting=3,
        max_pending=1_000_000,
        oldest_waiting_s=1.0,
        agents=1,
        capacity=2,
        used=0,
        completed=2,
        dead=0,
    )
    head, body, *below = screen(lambda: queue.show_queues([developer]))
    left_out = {200: 0, 80: 4, 60: 5}[room]
    assert len(head.split()) == len(queue.COLUMNS) - left_out
    assert not set(head.lower().split()) & set(queue.SPARE[:left_out])
    assert body.split()[0] == "developer"
    told = " ".join(line.strip() for line in below)
    hidden = [name.upper() for name in queue.COLUMNS if name in queue.SPARE[:left_out]]
    assert told == (
        f"columns {', '.join(hidden)} hidden; widen the terminal or use --json" if hidden else ""
    )
