"""All commands together, and how any of them ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from balancer.cli import again, agent, config, errors, options, output, pool, queue, task
from balancer.cli.configure import configure
from balancer.cli.demo import demo
from balancer.cli.dev import dev
from balancer.cli.doctor import doctor
from balancer.cli.health import health
from balancer.cli.schema import schema
from balancer.cli.serve import serve
from balancer.cli.simulate import simulate
from balancer.cli.submit import submit
from balancer.cli.version import show_version, version
from balancer.core.errors import BalancerError

#: When set, an error that nobody foresaw is shown with its traceback.
DEBUG_VARIABLE = "BALANCER_DEBUG"
#: They run until they are asked to stop: a reader that goes away is no such wish.
LASTING = {"serve", "dev", "demo"}
#: What a stream says that cannot be written to.
_UNWRITABLE = (errno.EBADF, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

app = options.group(
    "balancer",
    "Hands each task to the agent that should do it, as capacity frees up.\n\n"
    "Start with `balancer dev`; each command has examples in its --help.\n\n"
    "\b\nExit codes: 0 ok, 1 failure, 2 bad input, 3 not found, 4 Redis or the pool is not\n"
    "there, 5 conflict, 6 refused, 7 timeout, 75 full, 77 denied,\n"
    "78 configuration, 130 interrupted.",
)
for command in (
    dev,
    serve,
    demo,
    simulate,
    submit,
    pool.status,
    pool.audit,
    configure,
    doctor,
    health,
    schema,
    version,
):
    options.verb(app, command.__name__)(command)
for noun in (task.app, agent.app, queue.app, config.app):
    app.add_typer(noun)


@app.callback(invoke_without_command=True)
def _first(
    context: typer.Context,
    *,
    wants_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.")
    ] = False,
) -> None:
    if wants_version:
        show_version()
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. Nothing that a person can type or that Redis can do ends in a traceback."""
    output.prepare()
    as_json = "--json" in arguments
    try:
        code = _run(arguments, as_json)
    except BrokenPipeError:
        code = errors.FAILURE if set(arguments[:1]) & LASTING else errors.OK
    try:
        output.flush()
    except BrokenPipeError:
        output.abandon()
    except OSError as error:
        output.abandon()
        code = code or _unwritable(error, as_json)
    return code


def _run(arguments: Sequence[str], as_json: bool) -> int:
    command = typer.main.get_command(app)
    again.remember()
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
    except BrokenPipeError:
        raise
    except Exception as error:
        return _unforeseen(error, as_json)
    return code if isinstance(code, int) else errors.OK


def _unforeseen(error: Exception, as_json: bool) -> int:
    if isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename is None:
        return _unwritable(error, as_json)
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    errors.tell(
        "internal",
        f"{type(error).__name__}: {error}",
        f"this is a fault of the program; with {DEBUG_VARIABLE}=1 it shows where",
        as_json=as_json,
    )
    return errors.FAILURE


def _unwritable(error: OSError, as_json: bool) -> int:
    why = error.strerror or str(error)
    errors.tell("output", f"cannot write the output: {why}", as_json=as_json)
    return errors.FAILURE


def _usage(error: Any, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context else "balancer --help"
    message = error.format_message()
    if hasattr(error.__cause__, "errors"):  # pydantic's, which knows the value
        message += f"; it is {str(error.__cause__.errors()[0]['input'])[:80]!r}"
    errors.tell("usage", message, hint, as_json=as_json)
    return int(error.exit_code)
