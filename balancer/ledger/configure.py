"""Other settings for a pool that lives, and hearing of them: the typed twin of configure.lua."""

from __future__ import annotations

from enum import StrEnum

from balancer.core.settings import PoolSettings
from balancer.ledger.exchange import Exchange, exchange
from balancer.ledger.pool import PoolRef, stored_settings
from balancer.ledger.script import Script

SCRIPT = Script("configure")


class Outcome(StrEnum):
    """What became of the change."""

    OK = "ok"
    ALREADY = "already"
    CONFLICT = "conflict"


@exchange
def refresh(pool: PoolRef) -> Exchange[PoolSettings]:
    """Read what decides in the pool now, and go by it."""
    # The version first: were the settings changed between the two, the next look would see that.
    ver, stored = yield [
        ("HGET", pool.keys.meta, "settings_ver"),
        ("HGET", pool.keys.settings, "json"),
    ]
    pool.adopt(PoolSettings.model_validate_json(stored), int(ver))
    return pool.settings


@exchange
def configure(pool: PoolRef, settings: PoolSettings) -> Exchange[Outcome]:
    """Let these settings decide, where nobody has changed the ones that `pool` goes by.

    Raises:
        Misconfigured: the settings name a strategy that cannot be loaded.
    """
    args = [pool.settings_ver, *stored_settings(settings)]
    ((word, ver),) = yield [pool.call(SCRIPT, args)]
    outcome = Outcome(word)
    if outcome is not Outcome.CONFLICT:
        pool.adopt(settings, int(ver))
    return outcome
