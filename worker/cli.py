"""The `worker` command: runs an agent that a module declares, and says on stderr what it does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from worker.declaration import DEFAULT_POOL, DEFAULT_URL, POOL_VARIABLE, URL_VARIABLE
from worker.logs import configure
from worker.target import USAGE_HINT, BadTarget, load

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_RUN_HELP = """Run the agent that MODULE:ATTRIBUTE names, until SIGTERM or SIGINT.

The current directory is importable. What the options give wins over what the program says. On the first signal the
agent finishes what it holds; another one, a second later or more, ends it at once, and its work goes to others.

\b
Examples:
  worker run myproject.agents:builder
  worker run agent:agent --id builder-2 --max-concurrent 4
  BALANCER_REDIS_URL=redis://redis:6379/0 python -m worker run agent:agent

\b
Exit codes:
  0 stopped                 1 stopped, but gave work up, or the module failed
  2 usage                   3 another process took over this agent's id
  4 Redis out of reach for almost a TTL, and work did not stop in time
  130, 143 ended at once by another signal
"""


@app.callback(help="An agent of the workload balancer.")
def _worker() -> None:
    """Keeps `run` a command of its own although it is the only one."""


@app.command(help=_RUN_HELP)
def run(
    target: Annotated[str, typer.Argument(metavar="MODULE:ATTRIBUTE", show_default=False)],
    *,
    redis_url: Annotated[
        str | None, typer.Option(help=f"Default: ${URL_VARIABLE}, else {DEFAULT_URL}.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help=f"Default: ${POOL_VARIABLE}, else {DEFAULT_POOL}.")
    ] = None,
    id: Annotated[str | None, typer.Option(help="Unique in the pool.")] = None,
    role: Annotated[str | None, typer.Option(help="Whose tasks it takes.")] = None,
    max_concurrent: Annotated[
        int | None, typer.Option(min=1, max=1_000, help="Units it carries at once.")
    ] = None,
) -> None:
    """Import the module and run its agent."""
    configure()
    agent = load(target)
    try:
        agent.override(
            id=id, role=role, max_concurrent=max_concurrent, redis_url=redis_url, pool=pool
        )
    except ValueError as error:
        raise BadTarget(str(error), USAGE_HINT) from None
    agent.run()


def main() -> None:
    """Entry point."""
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: Sequence[str]) -> int:
    """Run the command; its exit code. What is wrong with a command line or a module is said without our frames."""
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="worker", standalone_mode=False)
    except BadTarget as error:
        return _tell(str(error), error.hint, error.exit_code, error.trace)
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
