"""`balancer configure`: other settings for a pool that lives."""

from __future__ import annotations

import json
import shlex
from typing import Annotated, Any

import typer

from balancer.cli import options, output
from balancer.cli.again import repeated
from balancer.core.errors import InvalidInput

Ageing = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Of fit: low gives throughput, high the order of arrival; 0.001 to 100.",
        show_default=False,
    ),
]
Strict = Annotated[
    bool | None,
    typer.Option(
        "--strict-priority/--no-strict-priority",
        help="A task goes before all of a lower priority, however long they wait.",
        show_default=False,
    ),
]
Said = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting; null takes a key out of its table.  [several]",
        show_default=False,
    ),
]
Path = tuple[str, ...]

#: What nobody knows here: whether balancers elsewhere have the class.
_OWN = (
    "{0} can be loaded here; a balancer that cannot load it gives nothing to anybody from now on: `balancer doctor`"
    " names those that cannot"
)


def configure(
    *,
    new_strategy: Annotated[
        str | None,
        typer.Option("--strategy", metavar="NAME", help="Who gets a task.", show_default=False),
    ] = None,
    ageing: Ageing = None,
    strict_priority: Strict = None,
    said: Said = None,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Change what decides in a pool, while it works; without a change, show it.

    Examples:
      balancer configure --strategy fit --ageing 0.4
      balancer configure --set head_start_s.high=60 --set estimate_min.bug=20
      balancer configure --set roles.reviewer.max_pending=500

    Keys are those of docs/configuration.md. Balancers hear of it within a second. Where it
    changes the order of the queue, what waits gets its new place page by page; nothing is
    lost, and work goes on meanwhile.
    """
    given = {"strategy": new_strategy, "ageing": ageing, "strict_priority": strict_priority}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    by: dict[Path, str] = {(name,): f"--{name.replace('_', '-')}" for name in changes}
    for text in said or ():
        _say(changes, by, text)
    with options.opened(redis_url, pool, options.WRITE_DEADLINE_S) as balancer:
        before = balancer.pool.settings
        now = balancer.configure(**changes) if changes else before
        version = balancer.pool.settings_ver
    was, is_ = _leaves(before), _leaves(now)
    changed = [key for key in sorted(was.keys() | is_.keys()) if was.get(key) != is_.get(key)]
    warnings = [_OWN.format(now.strategy)] if "strategy" in changed and now.is_own_strategy else []
    if as_json:
        output.write_json(
            {
                "settings_ver": version,
                "changed": {key: [was.get(key), is_.get(key)] for key in changed},
                "settings": now.model_dump(mode="json"),
                "warnings": warnings,
            }
        )
    elif not changes:
        output.table(("setting", "value"), [(key, _shown(is_[key])) for key in is_])
    elif changed:
        rows = [(key, _shown(was.get(key)), _shown(is_.get(key))) for key in changed]
        output.table(("setting", "was", "is"), rows)
    else:
        output.write("nothing changed")
    for warning in warnings if not as_json else ():
        output.note(f"warning: {repeated(warning)}")


def _say(changes: dict[str, Any], by: dict[Path, str], text: str) -> None:
    """Put KEY=VALUE into a tree of changes. A value is JSON, else a text. `by`: what said each key so far."""
    key, is_given, value = text.partition("=")
    path = tuple(key.strip().removeprefix("pool.").split("."))
    if not is_given or not all(path):
        raise InvalidInput(f"--set: {text[:80]!r} is not KEY=VALUE")
    for other, said in by.items():
        shorter = min(len(other), len(path))
        if other[:shorter] == path[:shorter]:
            raise InvalidInput(f"{said} and --set {text[:80]}: both say {'.'.join(path[:shorter])}")
    by[path] = f"--set {text[:80]}"
    table = changes
    for name in path[:-1]:
        table = table.setdefault(name, {})
    table[path[-1]] = _value(path, value)


def _value(path: Path, text: str) -> object:
    from balancer.config.keys import file_path, key_at

    try:
        return json.loads(text)
    except ValueError:
        key = key_at(file_path(path))
    if key is not None and key.kind == "array":
        names = json.dumps([part.strip() for part in text.split(",")], separators=(",", ":"))
        form = shlex.quote(names)
        raise InvalidInput(
            f"--set: {'.'.join(path)}: {text[:80]!r} is not a list such as {form:.200}"
        )
    return text


def _leaves(settings: Any) -> dict[str, object]:
    from balancer.config.sources import leaves

    return {".".join(path): value for path, value in leaves(settings.model_dump(mode="json"))}


def _shown(value: object) -> str:
    return "-" if value is None else output.json_text(value)
