"""The doors that people have, and what bad input must leave alone at each: Redis, the log, the shape of the error."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from balancer import log
from balancer.cli import run
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.protocol import TextRedis
from tests.flow.test_cli import Answer
from tests.support.factories import State, dump

Command = Callable[..., Answer]
Unchanged = Callable[[], AbstractContextManager[None]]

#: What no error and no log may show.
SECRET = "hunter2"


@pytest.fixture
def command(
    redis_server: EmbeddedRedis,
    pool: Pool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    """Runs `balancer` in this process on pool `p`; `stdin` is what it may read."""
    monkeypatch.setenv("BALANCER_REDIS_URL", redis_server.url)
    monkeypatch.setenv("BALANCER_POOL", "p")

    def run_it(*arguments: str, stdin: bytes = b"") -> Answer:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        answer = Answer(run(arguments), *capsys.readouterr())
        assert "Traceback" not in answer.out + answer.err
        assert "fault of the program" not in answer.err
        assert SECRET not in answer.out + answer.err
        assert all(line.isprintable() for line in answer.err.splitlines())
        return answer

    return run_it


@pytest.fixture
def unchanged(redis_client: TextRedis) -> Unchanged:
    """A block in which not one field of any key in Redis changes."""

    @contextmanager
    def block() -> Iterator[None]:
        before = dump(redis_client)
        yield
        assert dump(redis_client) == before

    return block


@pytest.fixture
def logged() -> Callable[[], list[dict[str, Any]]]:
    """What was logged so far, a line each, as a process of ours writes it."""
    stream = io.StringIO()
    log.configure(as_json=True, to=stream)

    def lines() -> list[dict[str, Any]]:
        text = stream.getvalue()
        assert SECRET not in text
        assert all(line.isprintable() for line in text.splitlines())
        return [json.loads(line) for line in text.splitlines()]

    return lines


def without(state: State, pool: Pool, *names: str) -> State:
    """A dump without these keys."""
    return {
        key: value
        for key, value in state.items()
        if key not in {pool.keys.prefix + n for n in names}
    }


def told(answer: Answer, *words: str, code: int = 2, kind: str = "invalid_input") -> None:
    """The command ended with an error as JSON that holds these words, and printed nothing else."""
    assert (answer.code, answer.out) == (code, "")
    assert set(answer.error) >= {"code", "message", "hint", "retryable"}
    assert answer.error["code"] == kind
    for word in words:
        assert word in answer.error["message"]
