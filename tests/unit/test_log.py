"""What reaches a log: no secrets, no payloads, nothing that a terminal obeys, nothing endless."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from balancer import log


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    yield io.StringIO()
    structlog.reset_defaults()


def logged(stream: io.StringIO, **fields: Any) -> dict[str, Any]:
    log.configure(to=stream)
    structlog.get_logger("balancer").info("seen", **fields)
    entry: dict[str, Any] = json.loads(stream.getvalue())
    return entry


def test_an_event_is_one_json_line(stream: io.StringIO) -> None:
    entry = logged(stream, task_id="t", attempt=2, share=0.5, ok=True, none=None)
    assert {"event": "seen", "level": "info", "task_id": "t", "attempt": 2}.items() <= entry.items()
    assert (entry["share"], entry["ok"], entry["none"]) == (0.5, True, None)
    assert entry["timestamp"].endswith("Z")
    assert stream.getvalue().count("\n") == 1


def test_what_a_task_carries_and_secrets_are_left_out(stream: io.StringIO) -> None:
    entry = logged(
        stream,
        payload={"a": 1},
        result="x",
        api_key="k",
        pass_="p",
        redis_password="p",
        passes=3,
        author="me",
        context={"password": "p", "body": "b", "n": 1},
    )
    assert (entry["pass_"], entry["redis_password"]) == ("***", "***")
    assert (entry["passes"], entry["author"]) == (3, "me")
    assert (entry["payload"], entry["result"], entry["api_key"]) == (
        "(left out)",
        "(left out)",
        "***",
    )
    assert entry["context"] == {"password": "***", "body": "(left out)", "n": 1}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://u:p@h:1/0", "redis://***@h:1/0"),
        ("to rediss://:p@ss/w@h failed", "to rediss://***@h failed"),
        ("unix:///s?password=p&db=0", "unix:///s?password=***&db=0"),
        ("redis://h?db=1&sentinel_password=p", "redis://h?db=1&sentinel_password=***"),
        ("redis://h:1/0", "redis://h:1/0"),
        ("AUTH failed, password=p@ss, again", "AUTH failed, password=***, again"),
    ],
)
def test_passwords_of_addresses_are_struck_out(text: str, shown: str) -> None:
    assert log.without_secrets(text) == shown


def test_values_are_cut_and_escaped(stream: io.StringIO) -> None:
    entry = logged(
        stream, text="x" * 1_000, many=list(range(100)), evil="a\x1b[2J\n\u202eb", odd=object
    )
    assert (len(entry["text"]), len(entry["many"])) == (log.LONGEST, log.MOST_ITEMS)
    assert entry["evil"] == "a\\x1b[2J\\n\\u202eb"
    assert entry["odd"] == "<class 'object'>"


def test_deep_values_end_somewhere(stream: io.StringIO) -> None:
    deep: Any = 1
    for _ in range(10):
        deep = [deep]
    assert logged(stream, deep=deep)["deep"] == [[["[[[[[[[1]]]]]]]"]]]


def test_a_traceback_keeps_its_lines_and_no_password(stream: io.StringIO) -> None:
    log.configure(to=stream)
    try:
        raise ValueError("redis://u:p@h \x1b[31m")
    except ValueError:
        structlog.get_logger("balancer").exception("failed")
    trace = json.loads(stream.getvalue())["exception"]
    assert trace.startswith("Traceback")
    assert trace.endswith("ValueError: redis://***@h \\x1b[31m")


def test_on_a_terminal_it_is_text_and_only_verbose_shows_every_pass() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for verbose in (False, True):
        terminal = Terminal()
        log.configure(to=terminal, level="debug" if verbose else "info")
        structlog.get_logger("balancer").debug("drained", assigned=1)
        structlog.get_logger("balancer").info("swept", due=3)
        structlog.reset_defaults()
        assert "swept" in terminal.getvalue()
        assert not terminal.getvalue().startswith("{")
        assert ("drained" in terminal.getvalue()) is verbose


@pytest.mark.parametrize("error", [OSError(28, "full"), BrokenPipeError(), ValueError("closed")])
@pytest.mark.parametrize("fails", ["write", "flush"])
def test_a_stream_that_fails_ends_nothing(
    stream: io.StringIO, error: Exception, fails: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    failing = type("Failing", (io.StringIO,), {fails: fail})()
    log.configure(to=failing)
    structlog.get_logger("balancer").error("seen")
    structlog.get_logger("balancer").exception("seen")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("BALANCER_LOG_FORMAT", "xml", "'xml' is none of auto, json, text"),
        ("BALANCER_LOG_LEVEL", "", "'' is none of debug, info, warning, error"),
    ],
)
def test_a_variable_that_says_how_to_log_is_checked(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"^{variable}: {said}"):
        log.configure_by_environment()


def test_variables_say_how_to_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BALANCER_LOG_FORMAT", "text")
    monkeypatch.setenv("BALANCER_LOG_LEVEL", "warning")
    log.configure_by_environment()
    structlog.get_logger("worker").info("unseen")
    log.say(structlog.get_logger("worker").warning, "seen", n=1)
    err = capsys.readouterr().err
    assert "unseen" not in err
    assert "seen" in err
    assert not err.startswith("{")


def test_a_process_without_stderr_logs_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    log.configure()
    structlog.get_logger("worker").error("seen")


def test_a_logger_that_fails_ends_nothing() -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "full")

    log.say(fails, "seen")
