"""`balancer submit`: one task from options, or many from lines of JSON."""

from __future__ import annotations

from typing import Annotated

import typer

from balancer.cli import options
from balancer.cli.hinted import featured, required
from balancer.cli.intake import made, read_tasks, submit_many, submit_one
from balancer.cli.strict import parse
from balancer.core.errors import InvalidInput


def submit(
    *,
    role: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which agents may do it.  [required]")
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What kind of work it is.  [default: general]"),
    ] = None,
    priority: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="critical, high, medium or low.  [default: medium]"),
    ] = None,
    payload: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="Any JSON value; `-` reads one a line: a task for each."),
    ] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="For people.")] = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", metavar="NAME", help="Its id; repeating a submit is then safe."),
    ] = None,
    depends_on: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A task that must complete first; may be repeated."),
    ] = None,
    cost: Annotated[
        int | None, typer.Option(metavar="N", help="Units of capacity it takes.  [default: 1]")
    ] = None,
    requires: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            metavar="SKILL:LEVEL",
            help="A skill that an agent must have, with its least level; may be repeated.",
        ),
    ] = None,
    complexity: Annotated[
        int | None,
        typer.Option(metavar="N", help="How much work it is for its category, 1 to 5."),
    ] = None,
    estimate: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="What it takes at normal speed.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Repository, tenant, workflow: its tasks take alike."),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--feature",
            metavar="NAME=VALUE",
            help="What is known of its size, e.g. files=12; may be repeated.",
        ),
    ] = None,
    prefer_agent: Annotated[
        str | None, typer.Option(metavar="ID", help="Gets it if it is free and not much slower.")
    ] = None,
    prefer_for: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How long that is preferred.  [default: 600]"),
    ] = None,
    max_failures: Annotated[
        int | None, typer.Option(metavar="N", help="Failures until it is dead.  [default: 3]")
    ] = None,
    run_timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Longest run of a try.  [default: 86400]"),
    ] = None,
    dedup_key: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="A repeat under the same key answers with the first task."
        ),
    ] = None,
    not_before: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="No try starts earlier, e.g. 2026-11-27T13:00:00Z."),
    ] = None,
    expires_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="A task that waits then is dead.")
    ] = None,
    max_wait: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Dead when no agent had it so long after it was ready."
        ),
    ] = None,
    on_parent_failure: Annotated[
        str | None,
        typer.Option(metavar="POLICY", help="fail, skip or run.  [default: fail]"),
    ] = None,
    block: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Wait so long for room when the queue is full."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="JSON lines, a task each; the options fill what a line lacks. `-` is stdin.",
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(min=0, max=86_400, metavar="SECONDS", help="Wait until the task has ended."),
    ] = None,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Submit a task, or many; prints their ids.

    Examples:
      balancer submit --role developer --category feature --payload '{"issue": 17}'
      balancer submit --role developer --priority high --wait 60
      balancer submit --role developer --require python:3 --group shop --feature files=12
      balancer submit --role developer --dedup-key order-17 --not-before 2026-11-27T13:00:00Z
      balancer submit --role developer --payload - < payloads.jsonl
      balancer submit --file tasks.jsonl

    With --wait the exit code is 0 when the task completed, 1 when it died or was
    cancelled, 7 when it had not ended in time. When the queue of the role is full it
    is 75. In bulk it is 5 when an id names another task already, 6 when the pool
    refused a task for another reason, 75 when only room was missing.
    """
    given = {
        "id": id_,
        "role": role,
        "category": category,
        "priority": priority,
        "description": description,
        "depends_on": depends_on or None,
        "cost": cost,
        "requires": required(requires) if requires else None,
        "complexity": complexity,
        "estimate_s": estimate,
        "group": group,
        "features": featured(features) if features else None,
        "prefer_agent": prefer_agent,
        "prefer_for_s": prefer_for,
        "max_failures": max_failures,
        "run_timeout_s": run_timeout,
        "dedup_key": dedup_key,
        "not_before": not_before,
        "expires_at": expires_at,
        "max_wait_s": max_wait,
        "on_parent_failure": on_parent_failure,
    }
    fields = {name: value for name, value in given.items() if value is not None}
    if payload is not None and file is not None:
        raise InvalidInput("--payload: together with --file it may not be given")
    if file is None and payload != "-":
        if payload is not None:
            fields["payload"] = parse(payload, "payload")
        task = made(fields, "")
        with options.opened(redis_url, pool, options.WRITE_DEADLINE_S) as balancer:
            submit_one(balancer, task, wait, block, as_json)
        return
    if block is not None:
        raise InvalidInput("--block: it waits for room for one task, not for many")
    if wait is not None:
        raise InvalidInput("--wait: it waits for one task, not for many")
    if id_ is not None:
        raise InvalidInput(f"--id: {id_!r} can name one task only, not many")
    if dedup_key is not None:
        raise InvalidInput(f"--dedup-key: {dedup_key[:60]!r} can stand for one task only, not many")
    tasks = read_tasks(file, fields)
    with options.opened(redis_url, pool, options.WRITE_DEADLINE_S) as balancer:
        submit_many(balancer, tasks, as_json)
