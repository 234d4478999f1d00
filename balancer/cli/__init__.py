"""The `balancer` command: one module a noun. Modules load what is slow only when their command runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from balancer.cli import agent, errors, options, output, pool, queue, task
from balancer.cli.demo import demo
from balancer.cli.dev import dev
from balancer.cli.serve import serve
from balancer.cli.submit import submit
from balancer.cli.version import version
from balancer.core.errors import BalancerError

#: When set, an error that nobody foresaw is shown with its traceback.
DEBUG_VARIABLE = "BALANCER_DEBUG"

app = options.group(
    "balancer",
    "Hands each task to the agent that should do it, as capacity frees up.\n\n"
    "Start with `balancer dev`; each command has examples in its --help.\n\n"
    "\b\nExit codes: 0 ok, 1 failure, 2 bad input, 3 not found, 4 Redis or the pool is not\n"
    "there, 5 conflict, 6 refused, 7 timeout, 130 interrupted.",
)
for command in (dev, serve, demo, submit, pool.status, pool.audit, version):
    options.verb(app, command.__name__)(command)
for noun in (task.app, agent.app, queue.app):
    app.add_typer(noun)


def main() -> None:
    """Entry point."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. Nothing that a person can type or that Redis can do ends in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what the terminal cannot show is escaped
            stream.reconfigure(errors="backslashreplace")
    as_json = "--json" in arguments
    try:
        code = _run(arguments, as_json)
        output.flush()
    except BrokenPipeError:
        code = errors.OK
        output.abandon()
    return code


def _run(arguments: Sequence[str], as_json: bool) -> int:
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="balancer", standalone_mode=False)
    except BalancerError as error:
        return errors.failed(error, as_json)
    except typer.TyperException as error:
        return _usage(error, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return errors.INTERRUPTED
    except SystemExit as error:
        if isinstance(
            error.__context__, BrokenPipeError
        ):  # stdout was closed: what typer makes of it
            raise error.__context__ from None
        return error.code if isinstance(error.code, int) else errors.OK
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        errors.tell(
            "internal",
            f"{type(error).__name__}: {error}",
            f"this is a fault of the program; with {DEBUG_VARIABLE}=1 it shows where",
            as_json=as_json,
        )
        return errors.FAILURE
    return code if isinstance(code, int) else errors.OK


def _usage(error: Any, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context else "balancer --help"
    message = error.format_message()
    if hasattr(error.__cause__, "errors"):  # pydantic's, which knows the value
        message += f"; it is {str(error.__cause__.errors()[0]['input'])[:80]!r}"
    errors.tell("usage", message, hint, as_json=as_json)
    return int(error.exit_code)
