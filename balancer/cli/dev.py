"""`balancer dev`: a Redis and a balancer in one command, to develop against."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from balancer.cli import options, output
from balancer.cli.guide import say_how_to_go_on
from balancer.cli.serve import Strategy, begin_to_log, configured, stop_on_sigterm
from balancer.cli.watch import watched
from balancer.core.errors import BalancerError, InvalidInput

if TYPE_CHECKING:
    from balancer.embedded import OwnRedis

#: Where clients look when nobody tells them otherwise.
DEFAULT_PORT = 6379

BANNER = """\
***********************************************************************
*  NO REDIS SERVER WAS FOUND: fakeredis stands in for it.              *
*  It is slower, keeps nothing, and is not quite Redis: good for a     *
*  first look, for nothing else. Install redis-server for more.        *
***********************************************************************"""


class DirectoryTaken(BalancerError):
    """Another `balancer dev` keeps its data there."""

    code = "directory_taken"
    hint = "stop the other one, or give each its own --dir"


class PortTaken(InvalidInput):
    """Somebody else listens on the port."""

    hint = "give another one, or leave --port out: Redis then takes a free one"


def dev(
    *,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65_535,
            metavar="PORT",
            help=f"Where Redis listens.  [default: {DEFAULT_PORT}, or a free one]",
        ),
    ] = None,
    directory: Annotated[
        str | None,
        typer.Option(
            "--dir", metavar="DIR", help="Keep the data here; else it goes with the command."
        ),
    ] = None,
    pool: options.PoolName = options.DEFAULT_POOL,
    strategy: Strategy = None,  # noqa: ARG001 - the loader has taken it
    config: options.Config = None,
    verbose: options.Verbose = False,
    as_json: options.Json = False,
) -> None:
    """Start a Redis of its own and a balancer, and say how to go on. Ctrl-C stops both.

    Examples:
      balancer dev
      balancer dev --port 7000 --dir ./data

    Redis listens on 127.0.0.1 only, without a password. Never for production.
    """
    stop_on_sigterm()
    begin_to_log(config, as_json, verbose)
    with own_redis(port, directory) as (redis, url), watched(redis):
        service = configured(config, url)
        try:
            if as_json:
                output.write_json({"redis_url": url, "pool": pool, "fake": redis.is_fake})
            else:
                say_how_to_go_on(redis, url, pool, directory, service.pool.settings.strategy)
            output.flush()
        except OSError:  # nobody reads it, and nobody has asked to stop
            output.abandon()
        service.run()


@contextmanager
def own_redis(port: int | None, directory: str | None) -> Iterator[tuple[OwnRedis, str]]:
    """The Redis to develop against, and its address; fakeredis where there is no server to start."""
    from balancer.embedded import EmbeddedRedis, ServerFailed, fake_server, find_server

    if find_server() is None:
        if port is not None or directory is not None:
            raise InvalidInput("--port, --dir: they need a redis-server, and none was found")
        output.note(BANNER)
        with fake_server() as fake:
            yield fake, fake.url
        return
    with _kept(directory) as path:
        config = {}
        if path is not None:
            config = {"dir": _quoted(path), "appendonly": "yes", "appendfsync": "everysec"}
        chosen = port or DEFAULT_PORT
        try:
            redis, url = EmbeddedRedis(config=config | {"port": str(chosen)}), _local(chosen)
        except ServerFailed as error:
            if port is not None and "in use" in str(error):
                raise PortTaken(f"--port: port {port} is in use") from None
            if port is not None:
                raise
            redis = EmbeddedRedis(tcp=True, config=config)
            url = redis.url
        with redis:
            yield redis, url


def _local(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


@contextmanager
def _kept(directory: str | None) -> Iterator[Path | None]:
    """The directory, made and locked: two servers in it would ruin each other's file."""
    if directory is None:
        yield None
        return
    path = Path(directory).absolute()
    _quoted(path)  # or refused before it is made
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path / "balancer-dev.lock", os.O_CREAT | os.O_RDWR, 0o600)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidInput(f"--dir: cannot use {directory!r}: {why}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryTaken(f"another `balancer dev` keeps its data in {directory}") from None
        yield path
    finally:
        os.close(lock)


def _quoted(path: Path) -> str:
    text = str(path)
    if not text.isprintable():
        raise InvalidInput(f"--dir: {text!r} holds characters that redis.conf cannot")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
