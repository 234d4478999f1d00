"""Where Redis and the pool are, when producers and agents do not say: the environment, checked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from balancer import Balancer, Misconfigured
from balancer.protocol.place import pool_name, redis_url
from worker import Agent
from worker.cli import invoke


def secret(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_what_is_given_wins_over_the_environment_that_over_the_default(tmp_path: Path) -> None:
    file = secret(tmp_path / "url", "redis://:pw@file/0\n")
    assert redis_url(None, {}) == "redis://127.0.0.1:6379/0"
    assert redis_url(None, {"BALANCER_REDIS_URL": "redis://env/0"}) == "redis://env/0"
    assert redis_url(None, {"BALANCER_REDIS_URL_FILE": file}) == "redis://:pw@file/0"
    assert redis_url("redis://given/0", {"BALANCER_REDIS_URL": ""}) == "redis://given/0"
    assert pool_name(None, {}) == "default"
    assert pool_name(None, {"BALANCER_POOL": "env"}) == "env"
    assert pool_name("given", {"BALANCER_POOL": ""}) == "given"


def test_what_the_environment_says_wrongly_names_the_variable(tmp_path: Path) -> None:
    file = secret(tmp_path / "url", "redis://h/0", 0o644)
    for environment, said in (
        ({"BALANCER_REDIS_URL": " "}, "BALANCER_REDIS_URL: is set but empty"),
        ({"BALANCER_REDIS_URL_FILE": ""}, "BALANCER_REDIS_URL_FILE: is set but empty"),
        ({"BALANCER_REDIS_URL_FILE": "/nowhere"}, "BALANCER_REDIS_URL_FILE: cannot read"),
        ({"BALANCER_REDIS_URL_FILE": file}, "every user of this machine can read"),
        ({"BALANCER_REDIS_URL": "redis://h", "BALANCER_REDIS_URL_FILE": file}, "both are set"),
    ):
        with pytest.raises(Misconfigured, match=said):
            redis_url(None, environment)
    with pytest.raises(Misconfigured, match="BALANCER_POOL: is set but empty"):
        pool_name(None, {"BALANCER_POOL": ""})


AGENT = 'from worker import Agent\nagent = Agent("a", role="r")\n'


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("BALANCER_REDIS_URL", "", "BALANCER_REDIS_URL: is set but empty"),
        ("BALANCER_POOL", "", "BALANCER_POOL: is set but empty"),
        ("BALANCER_REDIS_URL", "http://u:secret@h", "redis_url: the scheme"),
        ("BALANCER_LOG_LEVEL", "loud", "BALANCER_LOG_LEVEL: 'loud' is none of"),
    ],
)
@pytest.mark.parametrize("what", [["agent_of_place:agent"], ["--role", "r", "--", "cat"]])
def test_worker_run_says_so_in_one_line(
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    what: list[str],
    variable: str,
    value: str,
    said: str,
) -> None:
    (tmp_path / "agent_of_place.py").write_text(AGENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    monkeypatch.syspath_prepend(os.getcwd())
    assert invoke(["run", *what]) == 78
    err = capsys.readouterr().err
    assert err.startswith(f"error: {said}")
    assert "Traceback" not in err
    assert "secret" not in err
    assert err.count("\n") == 2


def test_producers_and_agents_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALANCER_REDIS_URL", "")
    with pytest.raises(Misconfigured, match="BALANCER_REDIS_URL"):
        Balancer()
    with pytest.raises(ValueError, match="BALANCER_REDIS_URL"):
        Agent("a", role="r")
