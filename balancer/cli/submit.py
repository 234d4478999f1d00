"""`balancer submit`: one task from options, or many from lines of JSON."""

from __future__ import annotations

from balancer.cli import options, task_fields
from balancer.cli.hinted import featured, required
from balancer.cli.intake import made, read_tasks, submit_many, submit_one
from balancer.cli.strict import parse
from balancer.core.errors import InvalidInput


def submit(
    *,
    role: task_fields.Role = None,
    category: task_fields.Category = None,
    priority: task_fields.Priority = None,
    payload: task_fields.Payload = None,
    description: task_fields.Description = None,
    id_: task_fields.Id = None,
    depends_on: task_fields.DependsOn = None,
    cost: task_fields.Cost = None,
    requires: task_fields.Requires = None,
    complexity: task_fields.Complexity = None,
    estimate: task_fields.Estimate = None,
    group: task_fields.Group = None,
    features: task_fields.Features = None,
    prefer_agent: task_fields.PreferAgent = None,
    prefer_for: task_fields.PreferFor = None,
    max_failures: task_fields.MaxFailures = None,
    run_timeout: task_fields.RunTimeout = None,
    dedup_key: task_fields.DedupKey = None,
    not_before: task_fields.NotBefore = None,
    expires_at: task_fields.ExpiresAt = None,
    max_wait: task_fields.MaxWait = None,
    on_parent_failure: task_fields.OnParentFailure = None,
    block: task_fields.Block = None,
    file: task_fields.FromFile = None,
    wait: task_fields.Wait = None,
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
