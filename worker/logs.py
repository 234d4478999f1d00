"""How an agent logs. Only `run()` and `worker run` configure logging; a log that cannot be written ends nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

#: Fields that would show what producers sent, or what became of it.
CARRIED = ("payload", "description", "body", "result")


def say(method: Callable[..., object], event: str, **fields: object) -> None:
    """Log, with a method of a logger. Whatever the log does (disk full, stream closed), the caller's thread goes on."""
    with suppress(Exception):
        method(event, **fields)


def configure() -> None:
    """One line an event on stderr: for people on a terminal, else JSON. Tracebacks come without locals."""
    stream = _Stream(sys.stderr)
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if stream.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _leave_out,
            *last,
        ],
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, stream)),
    )


def configure_unless_configured() -> None:
    """The program's own logging stays as it is."""
    if not structlog.is_configured():
        configure()


def _leave_out(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    event.update({name: "(left out)" for name in CARRIED if name in event})
    return event


class _Stream:
    """A stream that drops what it cannot write. `None` is a process without stderr."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def isatty(self) -> bool:
        with suppress(OSError, ValueError):
            return self._stream is not None and bool(self._stream.isatty())
        return False

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()
