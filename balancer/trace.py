"""Reads a trace: one row a task, gzipped or plain CSV. Every value is checked.

A trace has the columns in `COLUMNS`, in any order; `description` and `features` may be missing, other
columns are ignored. Names that break the rule for names are replaced by valid ones, the same way each time.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from balancer.core.errors import InvalidInput
from balancer.core.model import Priority
from balancer.core.names import is_name

#: The trace that comes with the package; ATTRIBUTION.md beside it says whose it is.
SHIPPED = Path(__file__).parent / "demo" / "data" / "copilot_agent_2025.csv.gz"

COLUMNS = (
    "task_id",
    "arrival_s",
    "duration_s",
    "role",
    "category",
    "priority",
    "depends_on",
    "group",
    "outcome",
)

#: Largest arrival and duration, seconds (127 years), and most roles: what a pool can take.
MOST_S, MOST_ROLES = 4_000_000_000, 256

_PRIORITIES = {priority.value: priority for priority in Priority}
_GZIP_MAGIC = b"\x1f\x8b"
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One task of a trace. Times are in seconds; `arrival_s` counts from the start of the trace."""

    id: str
    arrival_s: float
    #: How long the work takes an agent of speed 1: for the simulation, not for the scheduler.
    duration_s: float
    role: str
    category: str
    priority: Priority
    description: str
    #: The parents: ids of rows that stand before this one.
    depends_on: tuple[str, ...]
    group: str
    #: How the work ended in the real world. Never an input of a decision.
    outcome: str
    #: What else is known at submission, such as `sp=3` or `cpu_milli=4000 gpu=1`.
    features: str = ""
    #: Where the row starts in its file.
    line: int = field(default=0, compare=False)


def read(path: str | Path, limit: int | None = None) -> list[Row]:
    """The first `limit` rows of the file (None: all), by arrival, parents before their children.

    A parent that arrives after its child is moved up to stand before it; both keep their arrival.
    Parents that stand in the file but not among the rows read are dropped.

    Raises:
        InvalidInput: the file is no trace, a value breaks its rule, an id stands twice, a parent is
            in no row, or tasks wait for each other in a circle.
        OSError: the file cannot be read.
    """
    path = Path(path)
    rows: dict[str, Row] = {}
    roles: set[str] = set()
    records = _records(path)
    for line, fields in islice(records, limit):
        row = _row(path, line, fields)
        if row.id in rows:
            raise _broken(path, line, "task_id", row.id, "the only one")
        roles.add(row.role)
        if len(roles) > MOST_ROLES:
            raise _broken(path, line, "role", row.role, f"one of at most {MOST_ROLES} roles")
        rows[row.id] = row
    _check_parents(path, rows, records)
    by_arrival = sorted(_named(rows), key=lambda row: row.arrival_s)
    return _parents_first(path, by_arrival)


def _check_parents(
    path: Path, rows: Mapping[str, Row], rest: Iterable[tuple[int, Mapping[str, str]]]
) -> None:
    """Refuse a parent that no row of the file has; `rest`: those that are not read otherwise."""
    missing = {
        parent: row.line for row in rows.values() for parent in row.depends_on if parent not in rows
    }
    while missing and (record := next(iter(rest), None)):
        missing.pop(record[1]["task_id"], None)
    for parent, line in missing.items():
        raise _broken(path, line, "depends_on", parent, "a task_id of this file")


def _records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each record with the number of the line on which it starts."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        lacking = [column for column in COLUMNS if column not in header]
        if lacking:
            raise InvalidInput(f"{path}, line 1: the header lacks {', '.join(lacking)}")
        twice = next((column for column in COLUMNS if header.count(column) > 1), None)
        if twice:
            raise InvalidInput(f"{path}, line 1: the header names {twice} twice")
        read_to = reader.line_num
        for cells in reader:
            line, read_to = read_to + 1, reader.line_num
            if not cells:  # an empty line
                continue
            if len(cells) != len(header):
                raise _broken(path, line, "row", f"{len(cells)} fields", f"{len(header)} fields")
            yield line, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InvalidInput(f"{path}, line {reader.line_num}: not CSV: {error}") from error


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        if data.startswith(_GZIP_MAGIC):
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidInput(f"{path}: not a whole gzip file: {error}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: not UTF-8: {error}") from error


def _row(path: Path, line: int, fields: Mapping[str, str]) -> Row:
    def text(field: str) -> str:
        if not fields[field]:
            raise _broken(path, line, field, "", "not empty")
        return fields[field]

    def seconds(field: str) -> float:
        rule = f"a number of seconds from 0 to {MOST_S:,}"
        try:
            value = float(fields[field])
        except ValueError:
            raise _broken(path, line, field, fields[field], rule) from None
        if not 0 <= value <= MOST_S:  # nor is "nan"
            raise _broken(path, line, field, fields[field], rule)
        return value

    priority = fields["priority"] or Priority.MEDIUM.value
    if priority not in _PRIORITIES:
        rule = f"one of {', '.join(_PRIORITIES)}, or empty"
        raise _broken(path, line, "priority", priority, rule)
    return Row(
        id=text("task_id"),
        arrival_s=seconds("arrival_s"),
        duration_s=seconds("duration_s"),
        role=text("role"),
        category=text("category"),
        priority=_PRIORITIES[priority],
        description=fields.get("description", ""),
        depends_on=tuple(dict.fromkeys(filter(None, fields["depends_on"].split(";")))),
        group=fields["group"],
        outcome=fields["outcome"],
        features=fields.get("features", ""),
        line=line,
    )


def _named(rows: Mapping[str, Row]) -> list[Row]:
    """The rows under valid names, and without the parents that are not among them."""
    ids = _valid_names(rows)
    roles = _valid_names(row.role for row in rows.values())
    categories = _valid_names(row.category for row in rows.values())
    return [
        replace(
            row,
            id=ids[row.id],
            role=roles[row.role],
            category=categories[row.category],
            depends_on=tuple(ids[parent] for parent in row.depends_on if parent in ids),
        )
        for row in rows.values()
    ]


def _valid_names(given: Iterable[str]) -> dict[str, str]:
    """A valid name for each given one, no two alike: itself, or one made from it."""
    given = list(dict.fromkeys(given))
    taken = {name for name in given if is_name(name)}
    names: dict[str, str] = {}
    for name in given:
        names[name] = name if is_name(name) else _stand_in(name, taken)
        taken.add(names[name])
    return names


def _stand_in(name: str, taken: set[str]) -> str:
    """What is valid in `name`, then a piece of its hash: long enough not to be taken."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-")
    digest = hashlib.sha256(name.encode()).hexdigest()
    candidates = (
        f"{stem[: _LONGEST_NAME - digits - 1]}-{digest[:digits]}".lstrip("-")
        for digits in range(8, _LONGEST_NAME)
    )
    return next(candidate for candidate in candidates if candidate not in taken)


def _parents_first(path: Path, rows: list[Row]) -> list[Row]:
    """The rows in their order, except that parents a row still lacks are put before it."""
    by_id = {row.id: row for row in rows}
    place = {row.id: index for index, row in enumerate(rows)}
    ordered: dict[str, Row] = {}
    for row in rows:
        # Depth first, without recursion: `way` leads from the row to the parent at hand.
        way: dict[str, Iterator[str]] = {}
        current: str | None = row.id if row.id not in ordered else None
        while current is not None:
            if current not in way:
                way[current] = iter(sorted(by_id[current].depends_on, key=place.__getitem__))
            lacking = next((parent for parent in way[current] if parent not in ordered), None)
            if lacking in way:
                circle = [*way, lacking][list(way).index(lacking) :]
                raise InvalidInput(f"{path}: tasks wait for each other: {' -> '.join(circle)}")
            if lacking is None:
                ordered[current] = by_id[current]
                del way[current]
            current = lacking or next(reversed(way), None)
    return list(ordered.values())


def _broken(path: Path, line: int, field: str, value: str, rule: str) -> InvalidInput:
    return InvalidInput(f"{path}, line {line}: {field} is {value[:80]!r}, must be: {rule}")
