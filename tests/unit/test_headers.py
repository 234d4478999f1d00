"""Every script opens with its contract, keeps to what the oldest Redis can do, and has a typed twin that agrees."""

from __future__ import annotations

import importlib
import re
from enum import StrEnum
from pathlib import Path

import pytest

from balancer.ledger.script import Script, part, source

ROOT = Path(__file__).parents[2]
LEDGER = ROOT / "balancer/ledger"
SCRIPTS = sorted(path.stem for path in LEDGER.glob("*.lua"))
#: Not scripts but what scripts are made of.
PARTS = {path.stem for path in LEDGER.glob("parts/*.lua")}
FILES = sorted({*SCRIPTS, *PARTS})
TWINS = {
    script: path.stem
    for path in LEDGER.glob("*.py")
    for script in re.findall(r'\bScript\("(\w+)"', path.read_text(encoding="utf-8"))
}
MOST_LINES = 120


def text_of(name: str) -> str:
    """The text of a script or a part."""
    return part(name) if name in PARTS else source(name)


def header(name: str) -> list[str]:
    """The comment lines that the file opens with, without their dashes."""
    lines = text_of(name).splitlines()
    end = next(at for at, line in enumerate(lines) if not line.startswith("--"))
    return [line.removeprefix("--").removeprefix(" ") for line in lines[:end]]


def body(name: str) -> list[str]:
    """The lines of code, without comments."""
    lines = (re.sub(r"(^|\s)--.*$", "", line) for line in text_of(name).splitlines())
    return [line for line in lines if line.strip()]


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_opens_with_its_contract(name: str) -> None:
    lines = header(name)
    words = [line.split(" ")[0] for line in lines if not line.startswith(" ")]

    assert re.fullmatch(rf"{name}: \S.*\.", lines[0])
    expected = ["KEYS", "ARGV", "Returns", "Outcomes", "Keeps"]
    assert words[1:6] == expected
    assert words[6:] in ([], ["Uses"])
    assert lines[1] == "KEYS 1 meta"
    assert lines[2].startswith(
        "ARGV 1 genesis" if name == "init" else "ARGV 1-3 genesis, schema, now_us"
    )


@pytest.mark.parametrize("name", sorted(PARTS))
def test_part_opens_with_what_it_is_for(name: str) -> None:
    assert re.fullmatch(r"[A-Z].+\.", header(name)[0])


@pytest.mark.parametrize("name", SCRIPTS)
def test_outcomes_of_the_header_are_those_of_the_twin(name: str) -> None:
    twin = importlib.import_module(f"balancer.ledger.{TWINS[name]}")
    outcome = getattr(twin, "Outcome", None)
    if outcome is None:
        return
    assert issubclass(outcome, StrEnum)
    assert list(Script(name).outcomes) == [word.value for word in outcome]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_outcome_is_answered_somewhere(name: str) -> None:
    script = Script(name, alone=name == "init")
    code = "\n".join(line for line in script.text.splitlines() if not line.startswith("--"))

    missing = [
        word for word in script.outcomes if f"'{word}'" not in code and f" {word} " not in code
    ]

    assert not missing


def test_no_part_has_the_name_of_a_script() -> None:
    assert len(FILES) == len(SCRIPTS) + len(PARTS)


def test_every_script_has_a_twin_and_every_twin_its_script() -> None:
    assert set(TWINS) == set(SCRIPTS)


def test_every_part_is_used() -> None:
    used = {
        part.strip()
        for name in SCRIPTS
        for line in header(name)
        if line.startswith("Uses ")
        for part in line[5:].split(",")
    }

    assert used | {"prelude"} == PARTS


def test_every_script_is_in_the_documents_table() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.split("\n## Scripts")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if re.match(r"\| [a-z]", line)]
    names = {name.strip() for cell in cells for name in cell.split(",")} - {"script"}

    assert names == set(SCRIPTS)


@pytest.mark.parametrize("name", FILES)
def test_script_is_short(name: str) -> None:
    assert len(body(name)) <= MOST_LINES


@pytest.mark.parametrize("name", FILES)
def test_script_runs_on_every_redis_from_6_2(name: str) -> None:
    code = "\n".join(body(name))

    assert not text_of(name).startswith("#!")
    assert not re.findall(r"call\('(KEYS|SCAN|SELECT|FLUSH\w*|EVAL\w*|LREM)'", code)
    assert not re.findall(r"\b(cmsgpack|bit|struct|cjson)\.", code)
    assert not re.findall(
        r"redis\.(setresp|replicate_commands|log|breakpoint|register_function)", code
    )


@pytest.mark.parametrize("name", FILES)
def test_script_makes_no_globals(name: str) -> None:
    """Every name that is assigned or defined is a local, a field or an argument."""
    code = "\n".join(body(name))

    assert not re.findall(r"^\s*function\s", code, re.MULTILINE)
    local = set(re.findall(r"\blocal function (\w+)", part("prelude") + code))
    for names in re.findall(
        r"\b(?:local|for)\s+(?!function)([\w\s,]+?)\s*(?:=|\bin\b|$)",
        "\n".join(body("prelude")) + "\n" + code,
        re.MULTILINE,
    ):
        local |= {part.strip() for part in names.split(",")}
    for uses in PARTS - {"prelude"}:
        local |= set(re.findall(r"^local ([A-Z_]+)", part(uses), re.MULTILINE))
    for arguments in re.findall(r"\bfunction \w*\(([\w\s,]*)\)", code):
        local |= {part.strip() for part in arguments.split(",")}
    assigned = {
        part.strip()
        for left in re.findall(
            r"^\s*([A-Za-z_]\w*(?:\s*,\s*[A-Za-z_]\w*)*)\s*=[^=]", code, re.MULTILINE
        )
        for part in left.split(",")
    }
    fields_of_tables = set(re.findall(r"[{,]\s*(\w+) = ", code))

    assert assigned - local - fields_of_tables == set()


@pytest.mark.parametrize("name", FILES)
def test_names_are_put_in_order_by_bytes(name: str) -> None:
    """What Lua compares by itself depends on the server's locale."""
    code = "\n".join(body(name))

    assert not re.findall(r"table\.sort\(\w+\)", code)
    assert not re.findall(r"\.id\s*<", code)
