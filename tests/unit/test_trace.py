from __future__ import annotations

import csv
import gzip
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.errors import InvalidInput
from balancer.core.model import Priority
from balancer.core.names import is_name
from balancer.trace import COLUMNS, SHIPPED, Row, read

DEFAULTS = {
    "arrival_s": "0",
    "duration_s": "1.5",
    "role": "developer",
    "category": "fix",
    "priority": "high",
    "depends_on": "",
    "group": "repo",
    "outcome": "done",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.csv"


def write(path: Path, *rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({**DEFAULTS, **row} for row in rows)
    return path


def ids(rows: list[Row]) -> list[str]:
    return [row.id for row in rows]


def test_read_gives_every_field_of_a_row(path: Path) -> None:
    columns = (*COLUMNS, "description", "features", "unknown")
    write(
        path,
        {
            "task_id": "a",
            "arrival_s": "0.5",
            "description": "line 1\nline 2",
            "features": "sp=3",
            "unknown": "x",
        },
        {"task_id": "b", "arrival_s": "1", "depends_on": "a", "priority": "", "outcome": ""},
        columns=columns,
    )

    rows = read(path)

    assert [row.line for row in rows] == [2, 4]
    assert rows == [
        Row(
            id="a",
            arrival_s=0.5,
            duration_s=1.5,
            role="developer",
            category="fix",
            priority=Priority.HIGH,
            description="line 1\nline 2",
            depends_on=(),
            group="repo",
            outcome="done",
            features="sp=3",
        ),
        Row(
            id="b",
            arrival_s=1.0,
            duration_s=1.5,
            role="developer",
            category="fix",
            priority=Priority.MEDIUM,
            description="",
            depends_on=("a",),
            group="repo",
            outcome="",
            features="",
        ),
    ]


def test_read_gzipped_equals_plain(path: Path) -> None:
    write(path, {"task_id": "a"}, {"task_id": "b", "arrival_s": "2"})
    packed = path.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))

    assert read(packed) == read(path)


def test_read_sorts_by_arrival_and_keeps_ties_in_file_order(path: Path) -> None:
    write(
        path,
        {"task_id": "late", "arrival_s": "9"},
        {"task_id": "b", "arrival_s": "1"},
        {"task_id": "a", "arrival_s": "1"},
    )

    assert ids(read(path)) == ["b", "a", "late"]


def test_read_puts_late_parents_right_before_their_child(path: Path) -> None:
    write(
        path,
        {"task_id": "other", "arrival_s": "0"},
        {"task_id": "child", "arrival_s": "1", "depends_on": "parent2;parent1;other"},
        {"task_id": "parent1", "arrival_s": "5", "depends_on": "grandparent"},
        {"task_id": "parent2", "arrival_s": "6"},
        {"task_id": "grandparent", "arrival_s": "7"},
    )

    rows = read(path)

    assert ids(rows) == ["other", "grandparent", "parent1", "parent2", "child"]
    assert [row.arrival_s for row in rows] == [0, 7, 5, 6, 1]


def test_read_of_a_long_chain_needs_no_recursion(path: Path) -> None:
    length = 5_000
    chain = ({"task_id": f"t{n}", "depends_on": f"t{n + 1}"} for n in range(length))
    write(path, *chain, {"task_id": f"t{length}"})

    assert ids(read(path)) == [f"t{n}" for n in range(length, -1, -1)]


@given(seed=st.integers(0, 2**32))
def test_read_puts_parents_first_whatever_the_order_of_the_file(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    count = rng.randint(1, 12)
    rows = [
        {
            "task_id": f"t{n}",
            "arrival_s": str(rng.randint(0, 5)),
            "depends_on": ";".join(f"t{p}" for p in range(n) if rng.random() < 0.3),
        }
        for n in range(count)
    ]
    rng.shuffle(rows)
    path = tmp_path_factory.getbasetemp() / "any-order.csv"

    read_rows = read(write(path, *rows))

    assert sorted(ids(read_rows)) == sorted(row["task_id"] for row in rows)
    for place, row in enumerate(read_rows):
        assert set(row.depends_on) <= set(ids(read_rows[:place]))


def test_limit_takes_the_first_rows_and_drops_the_parents_outside(path: Path) -> None:
    write(
        path,
        {"task_id": "a"},
        {"task_id": "b", "depends_on": "a;c;a"},
        {"task_id": "c", "priority": "not even looked at"},
    )

    rows = read(path, limit=2)

    assert ids(rows) == ["a", "b"]
    assert rows[1].depends_on == ("a",)
    assert read(path, limit=0) == []


@pytest.mark.parametrize("limit", [None, 2, 3])
def test_a_parent_that_is_in_no_row_is_told(path: Path, limit: int | None) -> None:
    write(
        path,
        {"task_id": "a"},
        {"task_id": "b", "depends_on": "a;c;nowhere"},
        {"task_id": "c"},
    )

    with pytest.raises(InvalidInput) as caught:
        read(path, limit)

    assert str(caught.value) == (
        f"{path}, line 3: depends_on is 'nowhere', must be: a task_id of this file"
    )
    assert ids(read(path, 1)) == ["a"]


def test_names_that_break_the_rule_get_a_valid_one_everywhere(path: Path) -> None:
    write(
        path,
        {"task_id": "w0:step 1", "role": "développeur", "category": "日本"},
        {"task_id": "w0-step 1", "depends_on": "w0:step 1", "role": "développeur"},
        {"task_id": "x" * 65},
        {"task_id": "x" * 66},
        {"task_id": "fine.Name_1-2", "category": "fix\n"},
    )

    rows = read(path)

    assert all(is_name(name) for row in rows for name in (row.id, row.role, row.category))
    assert rows[0].id.startswith("w0-step-1-")
    assert rows[1].depends_on == (rows[0].id,)
    assert rows[0].role == rows[1].role != "developer"
    assert rows[4].id == "fine.Name_1-2"
    assert rows[4].category not in {"fix", rows[1].category}
    assert len({row.id for row in rows}) == len(rows)
    assert read(path) == rows
    assert read(path, limit=1)[0].id == rows[0].id


def test_name_that_is_made_never_takes_one_that_is_there(path: Path) -> None:
    made = read(write(path, {"task_id": "a b"}))[0].id

    rows = read(write(path, {"task_id": "a b"}, {"task_id": made, "depends_on": "a b"}))

    assert rows[1].id == made
    assert rows[0].id != made
    assert rows[1].depends_on == (rows[0].id,)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("arrival_s", "soon", "a number of seconds"),
        ("arrival_s", "-1", "a number of seconds from 0"),
        ("arrival_s", "", "a number of seconds"),
        ("duration_s", "nan", "a number of seconds from 0 to 4,000,000,000"),
        ("duration_s", "inf", "a number of seconds"),
        ("duration_s", "1e308", "a number of seconds from 0 to 4,000,000,000"),
        ("arrival_s", "4000000001", "a number of seconds from 0 to 4,000,000,000"),
        ("priority", "urgent", "one of critical, high, medium, low"),
        ("task_id", "", "not empty"),
        ("role", "", "not empty"),
        ("category", "", "not empty"),
    ],
)
def test_value_that_breaks_its_rule_is_named_with_its_place(
    path: Path, field: str, value: str, rule: str
) -> None:
    # The description takes up lines 2 and 3: what is wrong stands on line 4.
    columns = (*COLUMNS, "description")
    write(
        path,
        {"task_id": "a", "description": "two\nlines"},
        {"task_id": "b", field: value},
        columns=columns,
    )

    with pytest.raises(InvalidInput) as caught:
        read(path)

    assert str(caught.value).startswith(f"{path}, line 4: {field} is {value!r}, must be: ")
    assert rule in str(caught.value)


def test_more_roles_than_a_pool_takes_are_refused(path: Path) -> None:
    write(path, *({"task_id": f"t{n}", "role": f"r{n % 257}"} for n in range(300)))

    assert len(read(path, limit=256)) == 256
    with pytest.raises(InvalidInput) as caught:
        read(path)

    rule = "line 258: role is 'r256', must be: one of at most 256 roles"
    assert str(caught.value) == f"{path}, {rule}"


def test_id_that_stands_twice_is_an_error(path: Path) -> None:
    write(path, {"task_id": "a"}, {"task_id": "a"})

    with pytest.raises(InvalidInput, match="line 3: task_id is 'a', must be: the only one"):
        read(path)


@pytest.mark.parametrize("start", ["a", "b"])
def test_tasks_that_wait_for_each_other_are_named(path: Path, start: str) -> None:
    write(
        path,
        {"task_id": "leads-there", "depends_on": start},
        {"task_id": "a", "depends_on": "c"},
        {"task_id": "b", "depends_on": "a"},
        {"task_id": "c", "depends_on": "b"},
    )
    circle = {"a": "a -> c -> b -> a", "b": "b -> a -> c -> b"}[start]

    with pytest.raises(InvalidInput, match=f"wait for each other: {circle}$"):
        read(path)


def test_task_that_waits_for_itself_is_named(path: Path) -> None:
    write(path, {"task_id": "a", "depends_on": "a"})

    with pytest.raises(InvalidInput, match=r"wait for each other: a -> a$"):
        read(path)


HEADER = ",".join(COLUMNS)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", f"line 1: the header lacks {', '.join(COLUMNS)}"),
        (
            HEADER.replace("duration_s,", "").replace("outcome", "end").encode(),
            "line 1: the header lacks duration_s, outcome",
        ),
        (f"{HEADER},role\n".encode(), "line 1: the header names role twice"),
        (f"{HEADER}\na,1\n".encode(), "line 2: row is '2 fields', must be: 9 fields"),
        (f'{HEADER}\n"a"b,1\n'.encode(), "line 2: not CSV"),
        (b"\xff\xfe", "not UTF-8"),
        (gzip.compress(HEADER.encode())[:-9], "not a whole gzip file"),
        (b"\x1f\x8b" + bytes(30), "not a whole gzip file"),
    ],
    ids=["empty", "missing", "twice", "short", "quotes", "encoding", "cut", "garbage"],
)
def test_file_that_is_no_trace_is_refused(path: Path, content: bytes, says: str) -> None:
    path.write_bytes(content)

    with pytest.raises(InvalidInput) as caught:
        read(path)

    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_empty_lines_and_a_byte_order_mark_are_forgiven(path: Path) -> None:
    write(path, {"task_id": "a"}, {"task_id": "b"})
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\ufeff" + "\n\n".join(lines) + "\n\n", encoding="utf-8")

    assert ids(read(path)) == ["a", "b"]


def test_shipped_trace_is_whole_and_holds_no_text() -> None:
    rows = read(SHIPPED)

    assert len(rows) == 1917
    assert {row.description for row in rows} == {""}
    assert {row.role for row in rows} == {"developer", "tester", "writer", "devops"}
    assert sum(bool(row.depends_on) for row in rows) == 992
    assert rows == sorted(rows, key=lambda row: row.arrival_s)
    assert (SHIPPED.parent / "ATTRIBUTION.md").is_file()
