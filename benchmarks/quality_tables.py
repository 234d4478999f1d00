"""The figures of replayed traces as tables, and beside those of another simulator."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from balancer.core.errors import InvalidInput
from benchmarks.quality_goals import OURS, PLAIN_QUEUE
from benchmarks.quality_points import Check, Point, Verdict
from benchmarks.quality_reference import BOUNDS, Difference, Reference, differences

#: Bounds nearer to each other than this are of the same agents and arrivals.
SAME = 1e-3
Cell = Mapping[str, Any]


def flows(cells: Sequence[Cell]) -> str:
    """Mean flow in units of its lower bound: a table for each load and kind of fleet."""
    out = []
    for (agents, load), group in _groups(cells).items():
        names = dict.fromkeys(name for cell in group for name in cell["strategies"])
        rows = [
            [name, *(_number(_of(cell, name, "flow_over_bound")) for cell in group)]
            for name in names
        ]
        out.append(f"\nMean flow / lower bound, {agents}, load {load:g}\n")
        out.append(_table(["strategy", *(cell["trace"] for cell in group)], rows))
    return "\n".join(out)


def relative(cells: Sequence[Cell]) -> str:
    """What `fit` makes of each figure, in units of what a plain queue makes of it."""
    figures = (
        "mean_flow_s",
        "weighted_flow_s",
        "high_wait_s",
        "p99_wait_s",
        "max_wait_s",
        "makespan_s",
    )
    out = []
    for (agents, load), group in _groups(cells).items():
        rows = [
            [
                figure.removesuffix("_s").replace("_", " "),
                *(_number(_ratio(cell, figure)) for cell in group),
            ]
            for figure in figures
        ]
        out.append(f"\n{OURS} / {PLAIN_QUEUE}, {agents}, load {load:g}\n")
        out.append(_table(["figure", *(cell["trace"] for cell in group)], rows))
    return "\n".join(out)


def verdicts(found: Iterable[Verdict]) -> str:
    """Each goal, with the figure that is nearest to its limit, or every one beyond it."""
    rows = []
    for verdict in found:
        shown = [check for check in verdict.checks if not check.holds] or _nearest(verdict.checks)
        rows.append([f"{verdict.number}", verdict.name, verdict.word, "; ".join(map(_said, shown))])
    return "\nGoals\n\n" + _table(["#", "goal", "", "figures that miss it, else the nearest"], rows)


def _nearest(checks: Sequence[Check]) -> list[Check]:
    def room(check: Check) -> float:
        over = (check.value or 0.0) / check.limit
        return over if check.at_least else -over

    return sorted(checks, key=room)[:1]


def _said(check: Check) -> str:
    sign = ">=" if check.at_least else "<="
    value = "absent" if check.value is None else f"{check.value:.3g}"
    return f"{check.where}: {value} ({sign} {check.limit:.3g})"


def read_references(places: Iterable[Path]) -> list[Reference]:
    """Every file named, and every JSON file of a folder named.

    Raises:
        InvalidInput: one cannot be read, or is none.
    """
    files = [
        file
        for place in places
        for file in (sorted(place.glob("*.json")) if place.is_dir() else [place])
    ]
    return [_read(file) for file in files]


def _read(file: Path) -> Reference:
    try:
        found: Reference = json.loads(file.read_text(encoding="utf-8"))
        for by_policy in found.values():
            math.isfinite(by_policy[BOUNDS]["mean_flow"])  # which takes numbers alone
    except OSError as error:
        raise InvalidInput(f"reference: cannot read {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"reference: {file} is none: no load with bounds in it ({error!r})"
        ) from None
    return found


def compared(runs: Sequence[Point], known: Sequence[Reference]) -> str:
    """Mean flows side by side; of the other figures of `fit` those that are more than a twentieth apart. Which file is
    about which run is known by the bounds: no other agents and arrivals have the same.
    """
    rows, apart, count = [], 0, 0
    for point in runs:
        for each in _differences(point, known):
            is_flow = each.figure == "mean_flow_s"
            count += is_flow
            apart += is_flow and not each.close
            if is_flow or (each.strategy == OURS and not each.close):
                mark = "" if each.close else "apart"
                rows.append(
                    [point.where, each.strategy, each.figure, _number(each.ours), _number(each.theirs),
                     f"{each.ratio:.3f}", mark]
                )  # fmt: skip
    if not rows:
        return "\nReference: none of its bounds is one of ours; other agents, arrivals or seeds."
    columns = ["run", "strategy", "figure", "ours", "reference", "ratio", ""]
    told = f"{apart} of {count} mean flows are more than a twentieth apart."
    return f"\nAgainst the reference\n\n{_table(columns, rows)}\n\n{told}"


def _differences(point: Point, known: Sequence[Reference]) -> Iterator[Difference]:
    for reference in known:
        for load, by_policy in reference.items():
            bound_s = by_policy[BOUNDS]["mean_flow"]
            if float(load) == point.load and math.isclose(
                bound_s, point.bound["mean_flow_s"], rel_tol=SAME
            ):
                yield from differences(point, reference)
                return


def _groups(cells: Sequence[Cell]) -> dict[tuple[str, float], list[Cell]]:
    out: dict[tuple[str, float], list[Cell]] = {}
    for cell in cells:
        agents = (
            "equal agents" if cell["equal_agents"] else f"specialists {cell['gain']:g} times faster"
        )
        agents += ", speeds learned" if cell["learned"] else ""
        out.setdefault((agents, cell["load"]), []).append(cell)
    return out


def _of(cell: Cell, strategy: str, figure: str) -> float | None:
    value: float | None = cell["strategies"].get(strategy, {}).get(figure)
    return value


def _ratio(cell: Cell, figure: str) -> float | None:
    ours, queue = _of(cell, OURS, figure), _of(cell, PLAIN_QUEUE, figure)
    return ours / queue if ours is not None and queue else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
