"""The options of `balancer submit`: what a producer may ask of a task, and how it is handed in."""

from __future__ import annotations

from typing import Annotated

import typer

Role = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which agents may do it.  [required]")
]
Category = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="What kind of work it is.  [default: general]"),
]
Priority = Annotated[
    str | None,
    typer.Option(metavar="LEVEL", help="critical, high, medium or low.  [default: medium]"),
]
Payload = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="Any JSON value; `-` reads one a line: a task for each."),
]
Description = Annotated[str | None, typer.Option(metavar="TEXT", help="For people.")]
Id = Annotated[
    str | None,
    typer.Option("--id", metavar="NAME", help="Its id; repeating a submit is then safe."),
]
DependsOn = Annotated[
    list[str] | None,
    typer.Option(metavar="ID", help="A task that must complete first; may be repeated."),
]
Cost = Annotated[
    int | None, typer.Option(metavar="N", help="Units of capacity it takes.  [default: 1]")
]
Requires = Annotated[
    list[str] | None,
    typer.Option(
        "--require",
        metavar="SKILL:LEVEL",
        help="A skill that an agent must have, with its least level; may be repeated.",
    ),
]
Complexity = Annotated[
    int | None,
    typer.Option(metavar="N", help="How much work it is for its category, 1 to 5."),
]
Estimate = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="What it takes at normal speed.")
]
Group = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Repository, tenant, workflow: its tasks take alike."),
]
Features = Annotated[
    list[str] | None,
    typer.Option(
        "--feature",
        metavar="NAME=VALUE",
        help="What is known of its size, e.g. files=12; may be repeated.",
    ),
]
PreferAgent = Annotated[
    str | None, typer.Option(metavar="ID", help="Gets it if it is free and not much slower.")
]
PreferFor = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="How long that is preferred.  [default: 600]"),
]
MaxFailures = Annotated[
    int | None, typer.Option(metavar="N", help="Failures until it is dead.  [default: 3]")
]
RunTimeout = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Longest run of a try.  [default: 86400]"),
]
DedupKey = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="A repeat under the same key answers with the first task."),
]
NotBefore = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="No try starts earlier, e.g. 2026-11-27T13:00:00Z."),
]
ExpiresAt = Annotated[
    str | None, typer.Option(metavar="TIME", help="A task that waits then is dead.")
]
MaxWait = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Dead when no agent had it so long after it was ready."),
]
OnParentFailure = Annotated[
    str | None,
    typer.Option(metavar="POLICY", help="fail, skip or run.  [default: fail]"),
]
Block = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Wait so long for room when the queue is full."),
]
FromFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="JSON lines, a task each; the options fill what a line lacks. `-` is stdin.",
    ),
]
Wait = Annotated[
    float | None,
    typer.Option(min=0, max=86_400, metavar="SECONDS", help="Wait until the task has ended."),
]
