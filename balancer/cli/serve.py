"""`balancer serve`: one balancer process beside a Redis that is there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from balancer import log
from balancer.cli import INTERRUPTED, options
from balancer.cli.strict import parse, read_text
from balancer.core.errors import InvalidInput

if TYPE_CHECKING:
    from balancer.core.settings import PoolSettings

Strategy = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="best_match or least_loaded; only for a new pool."),
]
SettingsFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Settings in .json or .toml; only for a new pool."),
]


def serve(
    *,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    strategy: Strategy = None,
    settings: SettingsFile = None,
    verbose: options.Verbose = False,
    as_json: options.Json = False,
) -> None:
    """Serve a pool until SIGTERM or Ctrl-C; a new one is created.

    Examples:
      balancer serve
      balancer serve --redis-url redis://redis.internal:6379/0 --pool builds
      balancer serve --pool builds --settings builds.toml

    Any number of these may serve one pool: each can be killed at any moment. A pool
    keeps the settings that it was created with; differing ones are told, not taken.
    Logs go to stderr, as JSON unless it is a terminal.
    """
    options.check_name("--pool", pool)
    chosen = read_settings(settings, strategy)
    log.configure(as_json=as_json or None, verbose=verbose)
    with ending_at_once(), options.pointing_at(redis_url):
        _tell_if_away(redis_url)
        from balancer.service import Service

        Service(redis_url, pool, chosen).run()


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Until the service takes the signals over, they end the process: there is nothing to clean up, and an exception
    may get lost in what it interrupts.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        os._exit(INTERRUPTED if number == signal.SIGINT else 0)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_on_sigterm() -> None:
    """Until the service takes the signals over, SIGTERM ends the command with what it started."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)


def read_settings(path: str | None, strategy: str | None) -> PoolSettings | None:
    """What a new pool is to be created with; None when nothing was said.

    Raises:
        InvalidInput: names the file, the key, the value and the rule.
    """
    from pydantic import ValidationError

    from balancer.core.settings import PoolSettings
    from balancer.inputs import broken_rules

    if path is None and strategy is None:
        return None
    fields = _fields(path) if path is not None else {}
    if strategy is not None:
        fields["strategy"] = strategy
    try:
        return PoolSettings.model_validate(fields)
    except ValidationError as error:
        rules = broken_rules(error, PoolSettings)
        raise InvalidInput(f"{path}: {rules}" if path else rules) from None


def _fields(path: str) -> dict[str, Any]:
    import tomllib

    text = read_text(path, "--settings")
    if path.endswith(".json"):
        value = parse(text, path)
        if not isinstance(value, dict):
            raise InvalidInput(f"{path}: not an object of settings")
        return value
    if not path.endswith(".toml"):
        raise InvalidInput(f"--settings: {path!r} ends with neither .json nor .toml")
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise InvalidInput(f"{path}: not TOML: {error}") from None


def _tell_if_away(redis_url: str) -> None:
    """Starting waits a minute for Redis; whoever sits there should know why nothing happens."""
    import structlog
    from redis.exceptions import RedisError

    from balancer.protocol.connect import connect

    try:
        with connect(redis_url) as client:
            client.ping()
    except RedisError as error:
        structlog.get_logger("balancer").warning(
            "redis_awaited", redis_url=redis_url, error=type(error).__name__, text=str(error)
        )
    except (TypeError, ValueError) as error:
        raise options.bad_url(redis_url, error) from None
