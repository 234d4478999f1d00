"""`balancer demo`: a recorded workload, replayed on real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from balancer.cli import options
from balancer.core.errors import InvalidInput


def demo(
    *,
    trace: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="CSV, may be gzipped.  [default: the one that comes along]"
        ),
    ] = None,
    agents: Annotated[
        int | None, typer.Option(metavar="N", help="How many agents.  [default: fits the trace]")
    ] = None,
    capacity: Annotated[
        int | None,
        typer.Option(metavar="N", help="Units over all agents.  [default: fits the trace]"),
    ] = None,
    load: Annotated[float, typer.Option(metavar="X", help="Offered work / capacity.")] = 0.9,
    speed: Annotated[
        float | None,
        typer.Option(metavar="X", help="Time runs this much faster.  [default: fits the trace]"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Only the first rows of the trace.")
    ] = None,
    kill: Annotated[
        int | None,
        typer.Option(metavar="N", help="Agents killed on the way.  [default: fits the fleet]"),
    ] = None,
    replicas: Annotated[int, typer.Option(metavar="N", help="Balancers side by side.")] = 2,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the logs even when all is well.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Replay a recorded workload on real processes.

    Examples:
      balancer demo
      balancer demo --limit 200 --json
      balancer demo --trace tasks.csv.gz --agents 8 --load 1.2 --kill 3

    It starts a Redis, balancers and agents of its own, kills some on the way, and holds
    the books against what the agents really did.

    Exit code 0 when nothing was lost or counted twice and no agent was overfull.
    """
    from balancer.demo.options import DemoOptions
    from balancer.demo.run import run_demo
    from balancer.trace import SHIPPED

    chosen = DemoOptions(
        trace=SHIPPED if trace is None else Path(trace),
        agents=agents,
        capacity=capacity,
        load=load,
        speed=speed,
        limit=limit,
        kill=kill,
        replicas=replicas,
        json=as_json,
        keep=keep,
    )
    try:
        code = run_demo(chosen)
    except OSError as error:
        if error.filename is None or trace is None or Path(str(error.filename)) != Path(trace):
            raise
        raise InvalidInput(f"--trace: cannot read {trace!r}: {error.strerror}") from None
    raise typer.Exit(code)
