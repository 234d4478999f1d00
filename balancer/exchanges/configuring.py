"""Changing what decides in a pool that lives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from balancer.core.errors import Conflict, InvalidInput
from balancer.core.settings import PoolSettings
from balancer.inputs import broken_rules
from balancer.ledger import configure as configuring
from balancer.ledger.exchange import Exchange
from balancer.ledger.pool import PoolRef


def configure(pool: PoolRef, changes: Mapping[str, Any]) -> Exchange[PoolSettings]:
    """The settings that decide now, with these changes."""
    now = yield from configuring.refresh.steps(pool)
    stored = now.model_dump(mode="json")
    _judged(_merged(stored, changes, "settings"))
    wanted = _judged(_merged(stored, _without_nothing(stored, changes), "settings"))
    outcome = yield from configuring.configure.steps(pool, wanted)
    if outcome is configuring.Outcome.CONFLICT:
        raise Conflict(
            f"settings: somebody else changed those of pool {pool.name!r} in the same moment;"
            " look at them and try again"
        )
    return wanted


def _merged(now: Mapping[str, Any], changes: Any, what: str) -> dict[str, Any]:
    """Tables within tables are changed key by key. None takes a key out: its default counts again."""
    if not isinstance(changes, Mapping):
        raise InvalidInput(f"{what}: {changes!r:.80} is not a table of settings")
    out = dict(now)
    for name, value in changes.items():
        if value is None:
            if name not in out:
                raise InvalidInput(f"{what}: {name!r:.80} is not there to be taken out")
            del out[name]
        elif isinstance(out.get(name), dict):
            out[name] = _merged(out[name], value, str(name))
        else:
            out[name] = value
    return out


def _without_nothing(now: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes without tables that are not there and of which nothing but keys to take out is said."""
    out: dict[str, Any] = {}
    for name, value in changes.items():
        if not isinstance(value, Mapping):
            out[name] = value
        elif isinstance(now.get(name), Mapping):
            out[name] = _without_nothing(now[name], value)
        elif not value or any(one is not None for one in value.values()):
            out[name] = value
    return out


def _judged(settings: dict[str, Any]) -> PoolSettings:
    """As JSON and strictly, as a file's: nothing is turned into another type."""
    try:
        return PoolSettings.model_validate_json(json.dumps(settings), strict=True)
    except ValidationError as error:
        raise InvalidInput(broken_rules(error, PoolSettings)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"settings: {str(error)[:80]}") from None
