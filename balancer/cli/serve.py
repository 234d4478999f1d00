"""`balancer serve`: one balancer process beside a Redis that is there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from balancer import log
from balancer.cli import INTERRUPTED, options

if TYPE_CHECKING:
    from balancer.config import Loaded
    from balancer.service import Service

Strategy = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Who gets a task (docs/concepts.md); only for a new pool."),
]


def serve(
    *,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    strategy: Strategy = None,  # noqa: ARG001 - the loader has taken it
    config: options.Config = None,
    verbose: options.Verbose = False,
    as_json: options.Json = False,
) -> None:
    """Serve a pool until SIGTERM or Ctrl-C; a new one is created.

    Examples:
      balancer serve
      balancer serve --redis-url redis://redis.internal:6379/0 --pool builds
      balancer serve --config builds.toml

    Any number of these may serve one pool: each can be killed at any moment. A pool
    keeps its settings; differing ones are told, not taken (see balancer configure).
    Logs go to stderr, as JSON unless it is a terminal.
    """
    begin_to_log(config, as_json, verbose)
    with ending_at_once(), options.pointing_at(redis_url):
        _tell_if_away(redis_url, pool)
        _refuse(config)
        configured(config, redis_url).run()


def configured(config: Loaded, redis_url: str) -> Service:
    """A balancer as the configuration says.

    Raises:
        What Service raises.
    """
    from balancer.service import Service

    pace = config.process.serve
    settings = config.given_settings
    return Service(redis_url, config.pool, settings, tick_s=pace.tick_s, sweep_s=pace.sweep_s)


def begin_to_log(config: Loaded, as_json: bool, verbose: bool) -> None:
    """As the options say, else as the configuration does."""
    said = log.FORMATS[config.process.log.format]
    log.configure(as_json=as_json or said, level="debug" if verbose else config.process.log.level)


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


def _refuse(config: Loaded) -> None:
    """Serve no Redis that would lose or spoil tasks.

    Raises:
        Misconfigured, SafeStop: what is wrong with it, a line each, and what to do.
        Unavailable: Redis did not answer within a minute.
    """
    from balancer.core.errors import Misconfigured, SafeStop
    from balancer.doctor import refusals
    from balancer.doctor.visit import Visit
    from balancer.protocol.connect import connect
    from balancer.retry import answered
    from balancer.service import START_S

    with connect(config.redis_url, pool=config.pool) as client:
        wanted = config.process.pool.genesis
        found = answered(lambda: refusals(Visit(client, config, wanted)), START_S)
    if found:
        text = "\n".join(f"{row.check}: {row.found}; {row.advice}" for row in found)
        error = SafeStop(text) if found[0].code == "safe_stop" else Misconfigured(text)
        error.hint = "`balancer doctor` looks at all of it"
        raise error


def _tell_if_away(redis_url: str, pool: str) -> None:
    """Starting waits a minute for Redis; whoever sits there should know why nothing happens."""
    import structlog
    from redis.exceptions import RedisError

    from balancer.protocol.connect import connect

    try:
        with connect(redis_url, pool=pool) as client:
            client.ping()
    except RedisError as error:
        structlog.get_logger("balancer").warning(
            "redis_awaited", redis_url=redis_url, error=type(error).__name__, text=str(error)
        )
