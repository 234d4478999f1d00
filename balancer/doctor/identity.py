"""Whether this Redis holds the pool that is meant: the pool, its version, its genesis id."""

from __future__ import annotations

from collections.abc import Iterator

from redis.exceptions import RedisError

from balancer.core.errors import PoolMissing, SchemaMismatch
from balancer.doctor.finding import Finding, fail, ok, warn
from balancer.doctor.visit import Visit
from balancer.ledger.pool import Pool
from balancer.protocol.causes import Reaction, cause

SAFE_STOP = (
    "balancers and producers that knew the pool write nothing now (SAFE_STOP). Bring the right Redis or its backup back"
    " and they go on; if the pool is meant to begin anew, restart all balancers (docs/operations.md)"
)
#: How far we look for other pools: keys.
_PAGES, _PAGE, _MOST_NAMED = 20, 500, 5


def identity(visit: Visit) -> Iterator[Finding]:
    """The pool, opened; what else is there when it is not."""
    wanted = visit.genesis
    try:
        pool = Pool.open(visit.client, visit.name)
    except SchemaMismatch as error:
        yield fail(
            "pool", str(error), error.hint or "run the release that wrote it", "configuration"
        )
        return
    except PoolMissing:
        yield from _missing(visit, wanted)
        return
    shown = f"pool {visit.name!r}, genesis id {pool.genesis}"
    if wanted and pool.genesis != wanted:
        yield fail("pool", f"{shown}, which is not {wanted}: this is another one. {SAFE_STOP}",
                   "check the address of Redis, and whether a backup of another pool was restored",
                   "safe_stop")  # fmt: skip
        return
    visit.pool = pool
    yield ok("pool", shown + ("" if wanted else " (remember it: pool.genesis in balancer.toml)"))


def _missing(visit: Visit, wanted: str | None) -> Iterator[Finding]:
    keys, client = visit.keys, visit.client
    orphans = client.exists(keys.settings, keys.roles, keys.leases, keys.pool, keys.completed)
    if orphans:
        yield fail(
            "pool",
            f"keys of pool {visit.name!r} are here, its identity (meta) is not. {SAFE_STOP}",
            "restore the backup that has all of it, or use another name for a new pool",
            "safe_stop",
        )
        return
    what = _what_is_here(visit)
    if wanted:
        yield fail(
            "pool",
            f"there is no pool {visit.name!r} here ({what}); it should have the genesis id {wanted}. {SAFE_STOP}",
            "check the address of Redis, and whether its data is gone",
            "safe_stop",
        )
    else:
        yield warn(
            "pool",
            f"there is no pool {visit.name!r} here ({what})",
            "`balancer serve` creates it; if there should be one, check the address and the name",
        )


def _what_is_here(visit: Visit) -> str:
    try:
        return _looked_around(visit)
    except RedisError as error:
        if cause(error).reaction is not Reaction.DENIED:
            raise
        return "this user may not ask what is"


def _looked_around(visit: Visit) -> str:
    size = visit.client.dbsize()
    if not size:
        return "this Redis is empty"
    names: set[str] = set()
    cursor = 0
    for _ in range(_PAGES):
        cursor, found = visit.client.scan(cursor, match="wb:{*}:meta", count=_PAGE)
        names |= {key[4:-6] for key in found}
        if not cursor:
            break
    if not names:
        return f"{size} keys of others"
    shown = sorted(names)[:_MOST_NAMED]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"other pools: {', '.join(shown)}{more}"
