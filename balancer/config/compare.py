"""Where a pool's settings differ from what somebody said."""

from __future__ import annotations

from balancer.config.keys import file_path, named_tables
from balancer.config.sources import leaves
from balancer.core.settings import PoolSettings


def differences(told: PoolSettings, stored: PoolSettings) -> list[str]:
    """Every setting that was said and differs, as `key is this, not that`. What nobody said is no difference."""
    ours = dict(leaves(told.model_dump(mode="json", exclude_unset=True)))
    theirs = dict(leaves(stored.model_dump(mode="json")))
    # A table of names that is given replaces the whole table.
    given = [name for name in named_tables() if name in told.model_fields_set]
    paths = ours.keys() | {path for path in theirs if path[0] in given}
    return [
        f"{'.'.join(file_path(path))} is {_shown(theirs.get(path))}, not {_shown(ours.get(path))}"
        for path in sorted(paths)
        if ours.get(path) != theirs.get(path)
    ]


def _shown(value: object) -> object:
    return "unset" if value is None else value
