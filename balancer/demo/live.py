"""The progress view: redrawn in place on a terminal, a line now and then anywhere else. On standard error."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from balancer.demo.fleet import Fleet
from balancer.demo.sample import Sample

#: Seconds between two pictures on a terminal, and between two lines elsewhere.
REDRAW_S, LINE_S = 0.25, 5.0
#: Lines of news below the table; cells of the widest depth bar.
NEWS, BAR = 6, 20


class View:
    """Shows samples. A context manager; `show` may be called as often as one likes.

    Args:
        title, where: two lines above everything else.
        total: tasks that there will be.
    """

    def __init__(
        self, title: str, where: str, total: int, fleet: Fleet, console: Console | None = None
    ) -> None:
        self._title, self._where, self._total, self._fleet = title, where, total, fleet
        self._console = console or Console(stderr=True)
        self._live = (
            Live(console=self._console, auto_refresh=False, transient=True)
            if self._console.is_terminal and not self._console.is_dumb_terminal
            else None
        )
        self._shown_at = float("-inf")

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, sample: Sample, agents_up: dict[str, tuple[int, int]]) -> None:
        """Show it, unless something was shown a moment ago.

        Args:
            agents_up: by role, the agents whose process runs, and all.
        """
        now = time.monotonic()
        if now - self._shown_at < (REDRAW_S if self._live else LINE_S):
            return
        self._shown_at = now
        if self._live:
            self._live.update(self.picture(sample, agents_up), refresh=True)
        else:
            self._console.print(
                line(sample, self._total, agents_up), highlight=False, soft_wrap=True
            )

    def picture(self, sample: Sample, agents_up: dict[str, tuple[int, int]]) -> RenderableType:
        """The whole view."""
        news = list(self._fleet.news)[-NEWS:]
        return Group(
            Text(self._title, style="bold", no_wrap=True, overflow="ellipsis"),
            Text(self._where, style="dim", no_wrap=True, overflow="ellipsis"),
            self._progress(sample),
            _roles(sample, agents_up),
            _figures(sample),
            *(Text(item, style="dim", no_wrap=True, overflow="ellipsis") for item in news),
            *([Text("")] * (NEWS - len(news))),
        )

    def _progress(self, sample: Sample) -> RenderableType:
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True, justify="right")
        bar = ProgressBar(total=max(1, self._total), completed=sample.ended)
        grid.add_row(
            f"{sample.elapsed_s:4.0f} s", bar, f"{sample.ended:,} of {self._total:,} ended"
        )
        return grid


def _roles(sample: Sample, agents_up: dict[str, tuple[int, int]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("role", no_wrap=True, max_width=20, overflow="ellipsis")
    for heading in ("agents", "units used", "completed", "oldest", "waiting"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, min_width=BAR)
    deepest = max([row.pending for row in sample.queues], default=0)
    scale = max(BAR, deepest)
    for row in sample.queues:
        up, total = agents_up.get(row.role, (0, 0))
        table.add_row(
            row.role,
            Text(f"{up}/{total}", style="" if up == total else "bold red"),
            f"{row.used}/{row.capacity}",
            f"{row.completed:,}",
            f"{row.oldest_waiting_s:.1f} s" if row.pending else "-",
            f"{row.pending:,}",
            Text("█" * round(BAR * row.pending / scale), style="yellow"),
        )
    return table


def _figures(sample: Sample) -> Text:
    wait = (
        "-" if sample.wait_s is None else f"{sample.wait_s[0]:.2f} s, p95 {sample.wait_s[1]:.2f} s"
    )
    return Text(
        f"{sample.tasks_per_s:.0f} tasks/s   wait p50 {wait}   {sample.blocked} wait for others   "
        f"{sample.failed_attempts} tries failed   {sample.reclaimed} reclaimed"
    )


def line(sample: Sample, total: int, agents_up: dict[str, tuple[int, int]]) -> str:
    """The same in one line."""
    wait = "-" if sample.wait_s is None else f"{sample.wait_s[0]:.2f}/{sample.wait_s[1]:.2f} s"
    depth = _list(f"{row.role} {row.pending}" for row in sample.queues)
    up = sum(count for count, _ in agents_up.values())
    return (
        f"{sample.elapsed_s:5.1f} s  {sample.ended}/{total} ended  {sample.tasks_per_s:.0f}/s  waiting: {depth}  "
        f"agents {up}/{sum(count for _, count in agents_up.values())}  wait p50/p95 {wait}"
    )


def _list(items: Iterable[str]) -> str:
    return ", ".join(items) or "-"
