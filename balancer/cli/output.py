"""What goes to the terminal: data to stdout, messages to stderr; tables with colours for eyes, plain text for pipes."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, TextIO

from balancer.core import wording
from balancer.log import printable

NOTHING, seconds, count = wording.NOTHING, wording.seconds, wording.count
span, factor, is_vague = wording.span, wording.factor, wording.is_vague
#: Columns between two columns of a table.
GAP = 2
_STYLES = {
    "completed": "green",
    "assigned": "cyan",
    "live": "green",
    "failed": "yellow",
    "dead": "red",
    "lost": "red",
    "critical": "red",
    "high": "yellow",
}


class _Closed(io.TextIOBase):
    """Stands for a stdout that was closed before we began: writing fails, as it should."""

    encoding = "utf-8"

    def write(self, _text: str) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def prepare() -> None:
    """Make the standard streams fit for use: closed ones are stood in for, what a terminal cannot show is escaped."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # or a socket of ours would take its place
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the life of the process
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def write(text: str) -> None:
    """A line of data."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """A line for whoever sits there; nobody may."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")


def flush() -> None:
    """Let go of what is buffered."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        abandon(sys.stderr)
    sys.stdout.flush()


def abandon(stream: TextIO | None = None) -> None:
    """Nobody reads any more: what is buffered goes nowhere, also when the interpreter flushes at its end.

    Args:
        stream: default: stdout.
    """
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())


def write_json(value: Any) -> None:
    """One JSON document on one line."""
    write(json_text(value))


def json_text(value: Any, to: TextIO | None = None) -> str:
    """Compact JSON that the stream's encoding can carry; stdout's, if none is given."""
    stream = to or sys.stdout
    unicode = (stream.encoding or "ascii").lower().replace("-", "").startswith("utf")
    return json.dumps(value, ensure_ascii=not unicode, separators=(", ", ": "))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    numbers: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> None:
    """Rows under their columns; those named in `numbers` stand to the right.

    Args:
        spare: columns that a terminal goes without when it is too narrow, the first ones first; a line below
            names them.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if is_for_eyes(sys.stdout):
        _draw(columns, cells, numbers, spare)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in ([name.upper() for name in columns], *cells):
        line = (
            cell.rjust(width) if name in numbers else cell.ljust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        )
        write("  ".join(line).rstrip())


def aside(text: str) -> None:
    """A line below a table that explains it."""
    if not is_for_eyes(sys.stdout):
        write(text)
        return
    from rich.console import Console
    from rich.text import Text

    Console(file=sys.stdout, highlight=False).print(Text(text, style="dim"))


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """One fact a line, names in a column."""
    rows = [(name, _cell(value)) for name, value in pairs]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        write(f"{name.ljust(width)}  {value}")


def is_for_eyes(stream: TextIO) -> bool:
    """Whether somebody looks at a terminal that may have colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _cell(value: object) -> str:
    return printable(NOTHING if value is None or value == "" else str(value))


def _draw(
    columns: Sequence[str], rows: list[list[str]], numbers: Sequence[str], spare: Sequence[str]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    shown = [list(column) for column in zip(columns, *rows, strict=True)]
    hidden: list[str] = []
    for name in spare:
        if sum(_widths(shown)) <= console.width:
            break
        shown = [column for column in shown if column[0] != name]
        hidden.append(name)
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for at, (column, width) in enumerate(
        zip(shown, _fitted(_widths(shown), console.width), strict=True)
    ):
        drawn.add_column(
            column[0].upper(),
            justify="right" if column[0] in numbers else "left",
            width=width - (GAP if at < len(shown) - 1 else 0),
            no_wrap=at > 0,
            # The first column names the row: it is folded rather than cut, so that it can be copied.
            overflow="ellipsis" if at else "fold",
        )
    for row in list(zip(*shown, strict=True))[1:]:
        drawn.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console.print(drawn)
    if hidden:
        names = ", ".join(name.upper() for name in columns if name in hidden)
        what = "column" if len(hidden) == 1 else "columns"
        aside(f"{what} {names} hidden; widen the terminal or use --json")


def _widths(columns: Sequence[Sequence[str]]) -> list[int]:
    """What each column takes, with the gap behind it."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) + GAP for column in columns]
    return [*widths[:-1], widths[-1] - GAP]


def _fitted(widths: list[int], room: int) -> list[int]:
    """As many columns of a terminal in all: the first one gives what it has beyond 20, then the widest one does."""
    first, *others = widths
    first -= max(0, min(sum(widths) - room, first - 20 - GAP))
    while first + sum(others) > room and max(others, default=0) > 1 + GAP:
        others[others.index(max(others))] -= 1
    return [first, *others]
