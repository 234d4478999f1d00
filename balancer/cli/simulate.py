"""`balancer simulate`: what this strategy or that would have made of a recorded workload."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from balancer.cli import options, output
from balancer.core.errors import InvalidInput

if TYPE_CHECKING:
    from balancer.simulate.trace import Trace

#: When nobody names any.
STRATEGIES = ("fit", "best_match", "fifo_pull")
#: Most fleets that one call draws, and the largest number that draws one.
MOST_SEEDS, LARGEST_SEED = 100, 2**31 - 5


def simulate(
    *,
    trace: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="CSV, may be gzipped.  [default: the one that comes along]"
        ),
    ] = None,
    strategies: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            metavar="NAME",
            help="A strategy, or a policy of the simulation; may be repeated."
            f"  [default: {', '.join(STRATEGIES)}]",
        ),
    ] = None,
    load: Annotated[float, typer.Option(metavar="X", help="Offered work / capacity.")] = 0.95,
    slots: Annotated[int, typer.Option(metavar="N", help="Units over all agents.")] = 48,
    gain: Annotated[
        float, typer.Option(metavar="X", help="So many times faster is a specialist.")
    ] = 1.5,
    seeds: Annotated[
        str, typer.Option(metavar="N,N,...", help="A fleet is drawn for each; figures are means.")
    ] = "1,2,3",
    equal_agents: Annotated[
        bool, typer.Option("--equal-agents", help="All agents as fast as each other.")
    ] = False,
    learned: Annotated[
        bool,
        typer.Option("--learned", help="Agents declare specializations only, not their speeds."),
    ] = False,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Only the first rows of the trace.")
    ] = None,
    blocks: Annotated[
        int,
        typer.Option(metavar="N", help="Give so many pieces of the trace equal work a second."),
    ] = 0,
    ageing: Annotated[
        float | None,
        typer.Option(metavar="X", help="The pool's setting.  [default: as pools have it]"),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Replay a recorded workload under several strategies, and compare.

    Examples:
      balancer simulate --limit 500
      balancer simulate --strategy fit --strategy round_robin --load 0.8 --seeds 1
      balancer simulate --trace tasks.csv.gz --strategy fit --strategy jsq --json

    The pool's own strategies run through the real planner and scripts, on a Redis of their
    own in virtual time; what is no balancer (fifo_pull, jsq, ...) runs beside them.
    """
    from balancer.simulate.experiment import Scenario, check_strategies, document
    from balancer.simulate.experiment import simulate as run

    names = tuple(dict.fromkeys(strategies or STRATEGIES))
    scenario = Scenario(load, slots, gain, equal_agents, learned, ageing)
    numbers = _seeds(seeds)
    check_strategies(names)
    loaded = _loaded(trace, limit, blocks)
    with _progress(len(numbers) * (len(names) + 1) * len(loaded)) as tell:
        outcomes = [run(loaded, scenario, names, seed, tell) for seed in numbers]
    found = document(loaded, scenario, names, numbers, outcomes) | {"blocks": blocks}
    if as_json:
        output.write_json(found)
    else:
        _show(found)


def _seeds(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",") if re.fullmatch(r"[0-9]{1,10}", part)]
    known = len(numbers) == text.count(",") + 1 == len(set(numbers)) <= MOST_SEEDS
    if not known or not all(1 <= number <= LARGEST_SEED for number in numbers):
        raise InvalidInput(
            f"--seeds: {text[:80]!r} is not a list of different whole numbers from 1, such as 1,2,3;"
            f" at most {MOST_SEEDS} of at most {LARGEST_SEED}"
        )
    return numbers


def _loaded(path: str | None, limit: int | None, blocks: int) -> Trace:
    from balancer.simulate.load import flattened
    from balancer.simulate.trace import load_trace
    from balancer.trace import SHIPPED

    for name, value, least, most in (("limit", limit, 1, 10**6), ("blocks", blocks, 0, 10**4)):
        if value is not None and not least <= value <= most:
            raise InvalidInput(f"--{name} is {value}, must be: from {least} to {most}")
    try:
        trace = load_trace(SHIPPED if path is None else Path(path), limit)
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        why = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"--trace: cannot read {str(path)[:200]!r}: {why}") from None
    return flattened(trace, blocks) if blocks else trace


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, for eyes."""
    if not output.is_for_eyes(sys.stderr):
        yield lambda _more: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("tasks", total=total)
        yield lambda more: bar.advance(task, more)


#: Columns of times, with their keys.
_TIMES = (
    ("wait", "mean_wait_s"),
    ("p50", "p50_wait_s"),
    ("p95", "p95_wait_s"),
    ("p99", "p99_wait_s"),
    ("max", "max_wait_s"),
    ("high", "high_wait_s"),
    ("flow", "mean_flow_s"),
    ("weighted", "weighted_flow_s"),
    ("makespan", "makespan_s"),
)
_RATIOS = (("x bound", "flow_over_bound"), ("x fifo_pull", "flow_over_fifo_pull"))


def _show(found: dict[str, Any]) -> None:
    from balancer.simulate.fleet import LEAST_SLOTS

    agents = "equal agents" if found["equal_agents"] else f"specialists {found['gain']:g}x faster"
    bound_s = found["bound"]["mean_flow_s"]
    size, unit = next(((size, unit) for size, unit in _UNITS if bound_s >= 2 * size), (1e-3, "ms"))
    units = f"{found['units']} units"
    if found["units"] != found["slots"]:
        units += f" ({found['slots']} asked for; each role has {LEAST_SLOTS} or more)"
    more = [
        *(["speeds learned"] if found["learned"] else []),
        *([f"ageing {found['ageing']:g}"] if found["ageing"] is not None else []),
        *([f"{found['blocks']} blocks of equal work"] if found["blocks"] else []),
    ]
    output.write(
        f"{found['trace']}: {found['tasks']:,} tasks at load {found['load']:g}, {units},"
        f" {', '.join([agents, *more])}, seeds {', '.join(map(str, found['seeds']))}"
    )
    output.write(f"times in {unit}; no schedule has a mean flow below {bound_s / size:.2f}")
    output.write("")
    columns = [(name, key, size) for name, key in _TIMES] + [(*each, 1) for each in _RATIOS]
    numbers = [name for name, _, _ in columns]
    output.table(
        ("strategy", *numbers),
        [
            [
                name,
                *(None if row[key] is None else f"{row[key] / per:.2f}" for _, key, per in columns),
            ]
            for name, row in found["strategies"].items()
        ],
        numbers=numbers,
        spare=("p50", "makespan", "max", "p95"),
    )
    rows = found["strategies"].values()
    if any(
        f"{row['mean_flow_s'] / bound_s:.2f}" != f"{row['flow_over_bound']:.2f}" for row in rows
    ):
        output.aside(
            "X BOUND is no FLOW / bound: each seed's ratio counts alike, and with parents flow counts there from when a"
            " task could have been ready at the earliest"
        )


_UNITS = ((86_400, "days"), (3_600, "hours"), (60, "minutes"), (1, "seconds"))
