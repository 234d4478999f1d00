"""`balancer config`: what is in force and who said so, whether it is right, and a file to begin with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from balancer.cli import options, output
from balancer.core.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from balancer.config import Loaded

app = options.group("config", "Show, check and begin the configuration.")


class FileThere(Conflict):
    """The file that was to be written is there already."""

    hint = "--force overwrites it"


@options.verb(app, "show")
def show(
    *,
    redis_url: options.RedisUrl = options.DEFAULT_URL,  # noqa: ARG001 - the loader has taken it
    pool: options.PoolName = options.DEFAULT_POOL,  # noqa: ARG001
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Show every value and where it came from: flag, environment, file or default.

    Examples:
      balancer config show
      balancer config show --config builds.toml --json

    Passwords are struck out. A pool that exists keeps its own settings: `balancer
    configure` shows and changes them, `balancer doctor` says where they differ from these.
    """
    rows = list(config.rows())
    if as_json:
        values = [
            {"key": key, "value": value, "origin": origin.kind, "place": origin.place or None}
            for key, value, origin in rows
        ]
        output.write_json({"file": str(config.file) if config.file else None, "values": values})
    else:
        output.table(
            ("key", "value", "origin"),
            [(key, _shown(value), origin) for key, value, origin in rows],
        )
    _warn(config)


@options.verb(app, "check")
def check(
    *,
    redis_url: options.RedisUrl = options.DEFAULT_URL,  # noqa: ARG001
    pool: options.PoolName = options.DEFAULT_POOL,  # noqa: ARG001
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Look for mistakes in the file, the environment and the options; connects to nothing.

    Examples:
      balancer config check
      balancer config check --config builds.toml

    Every broken rule is told at once, with its key, the value, the rule and where it came
    from. The exit code is 0 when there is none, else 78.
    """
    if as_json:
        file = str(config.file) if config.file else None
        output.write_json({"ok": True, "file": file, "unknown_variables": config.unknown})
    else:
        output.write(f"ok ({config.file or 'no file'})")
    _warn(config)


@options.verb(app, "init")
def init(
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="What to write.", show_default=True)
    ] = "balancer.toml",
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the file if it is there.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Write a file with every key, its default, unit and bounds, each commented out.

    Examples:
      balancer config init
      balancer config init builds.toml --force
    """
    from balancer.config.example import example

    write = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with os.fdopen(os.open(file, write, 0o640), "w", encoding="utf-8") as opened:
            opened.write(example())
    except FileExistsError:
        raise FileThere(f"{file!r} is there already") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidInput(f"cannot write {file!r}: {why}") from None
    if as_json:
        output.write_json({"file": str(Path(file).absolute())})
    else:
        output.write(f"wrote {file}")


def _warn(config: Loaded) -> None:
    for name in config.unknown:
        output.note(f"warning: {name}: there is no such variable; it changes nothing")


def _shown(value: object) -> object:
    return output.json_text(value) if isinstance(value, dict | list | bool) else value
