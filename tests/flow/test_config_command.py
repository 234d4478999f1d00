"""`balancer config`: values with their origins, all mistakes at once, a file to begin with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from balancer.cli import run
from balancer.config.example import example


class Answer(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def balancer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command in an empty directory; no Redis is there, and none is asked."""
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments: str, **environment: str) -> Answer:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        answer = Answer(run(arguments), *capsys.readouterr())
        assert "Traceback" not in answer.err
        return answer

    return run_it


def test_show_tells_every_value_and_its_origin(balancer: Command, tmp_path: Path) -> None:
    file = tmp_path / "balancer.toml"
    file.write_text("[pool]\nmax_losses = 7\n[roles.dev]\nspecializations = ['bug']\n")
    arguments = ("config", "show", "--redis-url", "redis://u:secret@h:1/2")
    answer = balancer(*arguments, "--json", BALANCER_POOL="builds")
    shown = json.loads(answer.out)
    values = {row.pop("key"): row for row in shown["values"]}
    assert (answer.code, answer.err, shown["file"]) == (0, "", str(file))
    assert values["redis.url"] == {
        "value": "redis://***@h:1/2",
        "origin": "flag",
        "place": "--redis-url",
    }
    assert values["pool.name"] == {
        "value": "builds",
        "origin": "environment",
        "place": "BALANCER_POOL",
    }
    assert values["pool.max_losses"] == {"value": 7, "origin": "file", "place": str(file)}
    assert values["roles.dev.specializations"]["value"] == ["bug"]
    assert values["pool.min_health"] == {"value": 0.5, "origin": "default", "place": None}
    text = balancer(*arguments)
    assert "secret" not in text.out + answer.out
    assert f"pool.max_losses  7  file {file}" in "\n".join(
        "  ".join(line.split(maxsplit=2)) for line in text.out.splitlines()
    )


def test_check_tells_every_mistake_and_exits_78(balancer: Command, tmp_path: Path) -> None:
    assert balancer("config", "check") == Answer(0, "ok (no file)\n", "")
    file = tmp_path / "balancer.toml"
    file.write_text("[pool]\nmax_losses = 0\nname = 'a b'\n")
    answer = balancer("config", "check")
    assert (answer.code, answer.out) == (78, "")
    assert [line.partition(": ")[0] for line in answer.err.splitlines()] == [
        "error",
        "pool.max_losses",
        "hint",
    ]
    as_json = balancer("config", "check", "--json")
    assert json.loads(as_json.err)["error"]["message"].count("\n") == 1
    file.write_text("")
    assert balancer("config", "check").out == f"ok ({file})\n"


def test_every_command_refuses_a_bad_file(balancer: Command, tmp_path: Path) -> None:
    (tmp_path / "balancer.toml").write_text("x = 1")
    for command in ("serve", "dev", "status", "audit", "task ls", "agent ls", "queue ls"):
        answer = balancer(*command.split())
        assert (answer.code, answer.out) == (78, ""), command
        assert answer.err.startswith("error: x: unknown key"), command


def test_a_variable_that_changes_nothing_is_told(balancer: Command) -> None:
    answer = balancer("config", "check", "--json", BALANCER_PORT="1")
    assert json.loads(answer.out)["unknown_variables"] == ["BALANCER_PORT"]
    assert answer.err == "warning: BALANCER_PORT: there is no such variable; it changes nothing\n"


def test_init_writes_what_check_likes_and_never_overwrites_unasked(
    balancer: Command, tmp_path: Path
) -> None:
    file = tmp_path / "balancer.toml"
    assert balancer("config", "init") == Answer(0, "wrote balancer.toml\n", "")
    assert file.read_text() == example()
    assert balancer("config", "check").code == 0
    file.write_text("# mine\n")
    again = balancer("config", "init")
    assert (again.code, again.out) == (5, "")
    assert file.read_text() == "# mine\n"
    forced = balancer("config", "init", "--force", "--json")
    assert json.loads(forced.out) == {"file": str(file)}
    assert file.read_text() == example()
    assert balancer("config", "init", "no/such/place").code == 2
    assert balancer("config", "init", "a\0b").code == 2
