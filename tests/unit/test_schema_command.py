"""`balancer schema`: what it prints is the schema, whole."""

from __future__ import annotations

import json

import pytest

from balancer.cli.root import run
from balancer.protocol.schema import NAMES, schema


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("name", NAMES)
def test_it_prints_the_schema_of_that_name(
    name: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["schema", name, *options]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == schema(name)
    assert said.err == ""


def test_without_a_name_it_prints_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == {name: schema(name) for name in NAMES}


def test_another_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "task\x1b[1m"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: schema: 'task\\x1b[1m' is none of heartbeat, completion")
