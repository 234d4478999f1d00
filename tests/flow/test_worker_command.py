"""`worker run` with what it cannot run: what it says, and the exit code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from worker.cli import invoke

MODULES = {
    "ours_fine": "from worker import Agent\nagent = Agent('a', role='developer')\nother = 1\n",
    "ours_empty": "",
    "ours_broken": "def read():\n    return {}['KEY']\n\n\nread()\n",
    "ours_missing": "import not_installed_anywhere\n",
    "ours_unfinished": "x = (\n",
}


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "ours_fine"], "not MODULE:ATTRIBUTE"),
        (["run", "no_such_module:agent"], "there is no module"),
        (["run", ".relative:agent"], "not the name of a module"),
        (["run", "ours_fine:nothing"], "does not exist\nhint: its agents: ours_fine:agent"),
        (["run", "ours_fine:other"], "not a worker.Agent\nhint: its agents: ours_fine:agent"),
        (["run", "ours_empty:agent"], "hint: it has no worker.Agent"),
        (["run", "ours_fine:agent", "--id", "two words"], "agent"),
        (["run", "ours_fine:agent", "--pool", "a:b"], "pool"),
        (["run", "ours_fine:agent", "--max-concurrent", "0"], "max-concurrent"),
        (["run", "ours_fine:agent", "--speed", "fast"], "speed: 'fast' is not a decimal number"),
        (["run", "ours_fine:agent", "--speeds", "bug:0"], "speeds.bug: '0.0'"),
        (["run", "ours_fine:agent", "--skills", "go"], "skills: 'go' is not a name and a number"),
        (["run", "--role", "r", "--skills", "go:x", "--", "ls"], "skills.go: 'x' is not a whole"),
        (["run", "ours_fine:agent", "--bogus"], "hint: worker run --help"),
        (["run"], "nothing to run"),
        (["run", "--role", "r", "--"], "no program follows --"),
        (["run", "--", "ls"], "a program needs --role"),
        (["run", "ours_fine:agent", "--", "ls"], "not both"),
        (["run", "ours_fine:agent", "--category", "bug"], "for programs"),
        (["run", "ours_fine:agent", "--kill-after", "1"], "for programs"),
        (["run", "--role", "r", "--", "no-such-program"], "no program 'no-such-program' on PATH"),
        (["run", "--role", "r", "--", "./ours_fine"], "there is no program './ours_fine' here"),
        (
            ["run", "--role", "r", "--", "./ours_fine.py"],
            "may not be executed: chmod +x ./ours_fine.py",
        ),
        (["run", "--role", "r", "--", "./"], "'./' is a directory"),
        (["run", "--role", "a b", "--", "ls"], "role: 'a b'"),
        (["run", "--role", "r", "--category", "a b", "--", "ls"], "'a b'"),
        (["run", "--role", "r", "--id", "a:b", "--", "ls"], "agent: 'a:b'"),
        (["run", "--role", "r", "--kill-after", "61", "--", "ls"], "kill-after"),
        (["run", "--role", "r", "--kill-after", "nan", "--", "ls"], "kill-after"),
    ],
)
def test_what_cannot_be_run_is_a_usage_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert message in said.err


def test_a_bad_address_is_a_matter_of_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "ours_fine:agent", "--redis-url", "redis://u:p@secret@h"]) == 78
    said = capsys.readouterr()
    assert (said.out, said.err.count("secret")) == ("", 0)
    assert said.err.startswith("error: redis_url: there are two @ in it")


@pytest.mark.parametrize(
    ("name", "frames", "reason"),
    [
        ("ours_broken", 2, "KeyError: 'KEY'"),
        ("ours_missing", 1, "ModuleNotFoundError: No module named 'not_installed_anywhere'"),
        ("ours_unfinished", 0, "SyntaxError: '(' was never closed (ours_unfinished.py, line 1)"),
    ],
)
def test_a_module_that_fails_is_shown_by_its_own_lines(
    name: str, frames: int, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["run", f"{name}:agent"]) == 1
    said = capsys.readouterr().err
    assert said.count('  File "') == said.count(f'{name}.py", line') == frames
    assert said.endswith(f"error: the module {name!r} cannot be imported: {reason}\n")


def test_no_arguments_ask_for_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([]) == 2
    assert capsys.readouterr().err.startswith("Usage: worker")
