"""The `worker` command: runs an agent that a module declares, or a program, and says on stderr what it does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from balancer.protocol import (
    DEFAULT_POOL,
    DEFAULT_URL,
    POOL_VARIABLE,
    URL_VARIABLE,
    Misconfigured,
)
from worker.command import KILL_AFTER_S
from worker.logs import configure
from worker.program_agent import program_agent
from worker.target import USAGE_HINT, BadTarget, load

#: Exit code: what the process was told to begin with breaks a rule.
CONFIGURATION = 78

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_RUN_HELP = """Run the agent of MODULE:ATTRIBUTE, or one that runs PROGRAM for each task; until SIGTERM or SIGINT.

The current directory is importable. What the options give wins over what the module says. On the first signal the
agent finishes what it holds; another one, a second later or more, ends it at once, and its work goes to others.

PROGRAM gets the task as JSON on stdin; it is run without a shell. Exit code 0 completes the task, with its stdout as
the result (JSON, else text); 75 rejects it: another agent gets it; every other one fails it, with the end of its
stderr as the error.

\b
Examples:
  worker run myproject.agents:builder
  worker run agent:agent --id builder-2 --max-concurrent 4
  worker run --role build --capacity 4 -- ./do-it.sh --fast
  worker run --role build --category bug --category feature -- python3 do_it.py
  worker run agent:agent --skills python:3,go:1 --speed 1.5
  BALANCER_REDIS_URL=redis://redis:6379/0 python -m worker run agent:agent

\b
Exit codes:
  0 stopped                 1 stopped, but gave work up, or the module failed
  2 usage                   3 another process took over this agent's id
  4 Redis out of reach for almost a TTL, and work did not stop in time
  78 the Redis address or the environment breaks a rule
  130, 143 ended at once by another signal
"""


@app.callback(help="An agent of the workload balancer.")
def _worker() -> None:
    """Keeps `run` a command of its own although it is the only one."""


@app.command(help=_RUN_HELP)
def run(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(metavar="MODULE:ATTRIBUTE | -- PROGRAM [ARGUMENT]...", show_default=False),
    ] = None,
    *,
    redis_url: Annotated[
        str | None, typer.Option(help=f"Default: ${URL_VARIABLE}, else {DEFAULT_URL}.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help=f"Default: ${POOL_VARIABLE}, else {DEFAULT_POOL}.")
    ] = None,
    id: Annotated[
        str | None, typer.Option(help="Unique in the pool. Of a program: default HOST-ROLE.")
    ] = None,
    role: Annotated[str | None, typer.Option(help="Whose tasks it takes.")] = None,
    max_concurrent: Annotated[
        int | None,
        typer.Option(
            "--max-concurrent", "--capacity", min=1, max=1_000, help="Units it carries at once."
        ),
    ] = None,
    speed: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="How fast it is; 1 is normal.")
    ] = None,
    speeds: Annotated[
        str | None,
        typer.Option(
            metavar="NAME:NUMBER,...", help="How fast it is with a category: bug:2,docs:0.5."
        ),
    ] = None,
    skills: Annotated[
        str | None,
        typer.Option(metavar="NAME:LEVEL,...", help="What it can do and how well: python:3,go:1."),
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option(help="Of a program: what it does and is best at, once for each; default all."),
    ] = None,
    kill_after: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=60,
            help=f"Of a program: seconds from SIGTERM to SIGKILL; default {KILL_AFTER_S:g}.",
        ),
    ] = None,
) -> None:
    """Run the agent of a module, or a program."""
    try:
        configure()
    except ValueError as error:
        raise Misconfigured(str(error)) from None
    words: tuple[str, ...] | None = context.obj
    given: dict[str, Any] = {
        "id": id, "role": role, "max_concurrent": max_concurrent, "redis_url": redis_url, "pool": pool,
        "speed": speed, "speeds": speeds, "skills": skills,
    }  # fmt: skip
    if words is None:
        if category or kill_after is not None:
            raise BadTarget("--category and --kill-after are for programs: -- PROGRAM", USAGE_HINT)
        _run_module(target, given)
    elif target is not None:
        raise BadTarget(f"either {target!r} or a program after --, not both", USAGE_HINT)
    else:
        kill_after_s = KILL_AFTER_S if kill_after is None else kill_after
        with program_agent(words, categories=category, kill_after_s=kill_after_s, **given) as agent:
            agent.run()


def _run_module(target: str | None, given: dict[str, Any]) -> None:
    if target is None:
        raise BadTarget("nothing to run: name MODULE:ATTRIBUTE, or a program after --", USAGE_HINT)
    agent = load(target)
    try:
        agent.override(**given)
    except Misconfigured:
        raise
    except ValueError as error:
        raise BadTarget(str(error), USAGE_HINT) from None
    agent.run()


def main() -> None:
    """Entry point."""
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: Sequence[str]) -> int:
    """Run the command; its exit code. What is wrong with a command line or a module is said without our frames."""
    command = typer.main.get_command(app)
    # What follows the first `--` is a program and its arguments: not for us to read.
    words: tuple[str, ...] | None = None
    if "--" in arguments:
        at = list(arguments).index("--")
        arguments, words = arguments[:at], tuple(arguments[at + 1 :])
    try:
        code = command.main(arguments, prog_name="worker", standalone_mode=False, obj=words)
    except BadTarget as error:
        return _tell(str(error), error.hint, error.exit_code, error.trace)
    except Misconfigured as error:
        return _tell(str(error), USAGE_HINT, CONFIGURATION)
    except typer.TyperException as error:
        said: Any = error
        if said.format_message().startswith("Usage:"):  # no arguments at all: that is the help
            return _tell("", "", int(said.exit_code), said.format_message() + "\n")
        context = getattr(said, "ctx", None)
        hint = f"{context.command_path} --help" if context else "worker --help"
        return _tell(said.format_message(), hint, int(said.exit_code))
    except (KeyboardInterrupt, typer.Abort):
        return 130
    return code if isinstance(code, int) else 0


def _tell(message: str, hint: str, code: int, trace: str = "") -> int:
    with suppress(OSError, ValueError):
        sys.stderr.write(trace + (f"error: {message}\n" if message else ""))
        sys.stderr.write(f"hint: {hint}\n" if hint else "")
    return code
