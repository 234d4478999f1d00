"""The `worker` command: runs an agent that a module declares, and says on stderr what it does."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated

import structlog
import typer

from worker.agent import Agent
from worker.declaration import DEFAULT_POOL, DEFAULT_URL, POOL_VARIABLE, URL_VARIABLE

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_RUN_HELP = """Run the agent that MODULE:ATTRIBUTE names, until SIGTERM or SIGINT.

The current directory is importable. What the options give wins over what the program says. On the first signal the
agent finishes what it holds; a second one ends it at once, and its work goes to others.

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
  130, 143 ended at once by a second signal
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
    configure_logging()
    agent = load(target)
    try:
        agent.override(
            id=id, role=role, max_concurrent=max_concurrent, redis_url=redis_url, pool=pool
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    agent.run()


def load(target: str) -> Agent:
    """The agent that MODULE:ATTRIBUTE names.

    Raises:
        typer.BadParameter: there is none.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise typer.BadParameter(
            f"{target!r} is not MODULE:ATTRIBUTE, e.g. myproject.agents:builder"
        )
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only if it is the one asked for: a missing import inside of it is a fault of the module, and shown whole.
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise typer.BadParameter(f"there is no module {module_name!r} here") from None
        raise
    agent = getattr(module, attribute, None)
    if not isinstance(agent, Agent):
        raise typer.BadParameter(f"{module_name}.{attribute} is not a worker.Agent")
    return agent


def configure_logging() -> None:
    """One line an event on stderr: for people on a terminal, else JSON. Tracebacks come without locals."""
    is_terminal = sys.stderr.isatty()
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if is_terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *last,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def main() -> None:
    """Entry point."""
    app(prog_name="worker")
