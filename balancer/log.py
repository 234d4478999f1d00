"""How every process logs, and how text is made safe to show. Only `serve`, `dev`, `worker run` and `Agent.run()`
configure logging; a program that has configured structlog itself keeps what it has.

Events are in the past tense and never hold an id; ids and numbers are fields beside them. One event is one line: JSON,
or aligned text on a terminal. What a task carries is left out, passwords are struck out, long values are cut, and
control characters are escaped, so that no task can write into somebody's terminal or forge a line.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, TextIO

#: Longest value of a field, in characters, and longest traceback.
LONGEST, LONGEST_TRACE = 256, 8_192
#: Most items of a list or a mapping that are shown, and how deep.
MOST_ITEMS, DEEPEST = 20, 3

#: Fields that hold what a task carries.
_CARRIED = {"payload", "description", "body", "result"}
_SECRET = re.compile(
    r"passw|passphrase|(^|_)pass($|_)|secret|token|credential|(^|_)auth($|_|orization)|(api|private)_?key|(^|_)dsn($|_)",
    re.IGNORECASE,
)
#: What stands between `://` and the last `@` of a word may hold a password.
_USERINFO = re.compile(r"://\S*@")
_QUERY = re.compile(
    r"((?:^|[?&\s,;])\w*(?:password|passwd|username|secret|token)=)[^&\s,;]*", re.IGNORECASE
)

#: Variables that say how to log, and what they may say.
FORMAT_VARIABLE, LEVEL_VARIABLE = "BALANCER_LOG_FORMAT", "BALANCER_LOG_LEVEL"
FORMATS: dict[str, bool | None] = {"auto": None, "json": True, "text": False}
LEVELS = ("debug", "info", "warning", "error")


def say(method: Callable[..., object], event: str, **fields: object) -> None:
    """Log, with a method of a logger. Whatever the log does (disk full, stream closed), the caller goes on."""
    with suppress(Exception):
        method(event, **fields)


def configure(
    *, as_json: bool | None = None, level: str = "info", to: TextIO | None = None
) -> None:
    """Send the library's events to a stream.

    Args:
        as_json: one JSON object a line; default: unless the stream is a terminal.
        level: the least that is logged: debug (events of every pass, too), info, warning or error.
        to: the stream; default: stderr.
    """
    import structlog

    stream = to or sys.stderr
    writer = LineWriter(stream)
    is_terminal = _is_terminal(stream)
    if as_json is None:
        as_json = not is_terminal
    last: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False, allow_nan=True)
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=is_terminal, exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            cleaned,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=lambda *_: writer,
    )


def configure_by_environment() -> None:
    """The same, as $BALANCER_LOG_FORMAT and $BALANCER_LOG_LEVEL say.

    Raises:
        ValueError: names the variable, the value and the rule.
    """
    configure(
        as_json=FORMATS[_said(FORMAT_VARIABLE, tuple(FORMATS), "auto")],
        level=_said(LEVEL_VARIABLE, LEVELS, "info"),
    )


def _said(variable: str, words: Sequence[str], usual: str) -> str:
    value = os.environ.get(variable, usual)
    if value not in words:
        raise ValueError(f"{variable}: {printable(repr(value), 80)} is none of {', '.join(words)}")
    return value


def _is_terminal(stream: TextIO | None) -> bool:
    """A process may have no stderr, and a stream may be closed."""
    with suppress(OSError, ValueError):
        return stream is not None and stream.isatty()
    return False


class LineWriter:
    """Writes lines to a stream, and swallows what the stream raises: nobody may be there to read, the disk may be
    full, and neither may end a loop.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def msg(self, line: str) -> None:
        """Write one line."""
        if self._stream is None:
            return
        with self._lock, suppress(OSError, ValueError):  # ValueError: closed
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except BrokenPipeError:
                # What is buffered is written once more when the interpreter ends, and would make its exit code 120.
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def cleaned(logger: object, method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - structlog's signature
    """Every field safe to show."""
    return {str(name): _field(str(name), value) for name, value in event.items()}


def _field(name: str, value: Any) -> Any:
    if name in _CARRIED:
        return "(left out)"
    if _SECRET.search(name):
        return "***"
    if name == "exception":  # a traceback: its lines are ours, its last one may quote anybody
        lines = without_secrets(str(value))[-LONGEST_TRACE:].splitlines()
        return "\n".join(printable(line) for line in lines)
    return _value(value, DEEPEST)


def _value(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth and isinstance(value, dict):
        items = list(value.items())[:MOST_ITEMS]
        return {str(key)[:LONGEST]: _field_in(str(key), item, depth) for key, item in items}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_value(item, depth - 1) for item in list(value)[:MOST_ITEMS]]
    return printable(without_secrets(str(value)), LONGEST)


def _field_in(name: str, value: Any, depth: int) -> Any:
    return (
        _field(name, None) if name in _CARRIED or _SECRET.search(name) else _value(value, depth - 1)
    )


def without_secrets(text: str) -> str:
    """The text with user names and passwords of addresses struck out."""
    return _QUERY.sub(r"\1***", _USERINFO.sub("://***@", text))


def printable(text: str, longest: int | None = None) -> str:
    """The text on one line, cut at `longest` characters; control characters, and what hides or turns text, escaped."""
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable()
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )
