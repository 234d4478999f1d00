"""All checks, in the order in which one makes sense of the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from redis.exceptions import RedisError

from balancer.core.errors import BalancerError
from balancer.doctor import (
    books,
    clock,
    flow,
    identity,
    keytypes,
    memory,
    persistence,
    scripts,
    sentinel,
    server,
)
from balancer.doctor.finding import Finding, Level, fail, ok, warn
from balancer.doctor.visit import Visit
from balancer.log import without_secrets
from balancer.protocol.causes import Reaction, cause

Check = Callable[[Visit], Iterable[Finding]]

#: Of the server.
SERVER: tuple[Check, ...] = (
    *(
        server.version,
        server.role,
        server.cluster,
        sentinel.sentinels,
        persistence.persistence,
        persistence.last_saves,
    ),
    *(memory.eviction, clock.clock, clock.latency),
)
#: Of the pool's keys, whether it is sound or not.
PLACE: tuple[Check, ...] = (identity.identity, keytypes.key_types)
#: Of the server again, now that the pool is known.
ABLE: tuple[Check, ...] = (memory.memory, scripts.scripts, scripts.rights)
#: Of a pool that could be opened.
POOL: tuple[Check, ...] = (
    *(flow.streams, flow.balancers, flow.grace),
    *(books.counters, books.staffing, books.settings),
)
#: Row of a check that is not named after it.
_ROWS = {"identity": "pool", "key_types": "keys", "last_saves": "disk", "staffing": "agents"}
_UNREACHABLE = {Reaction.DENIED: "denied", Reaction.SETUP: "configuration"}


class Examination(NamedTuple):
    """What was found. `code` is the error code that the exit code follows; empty when nothing failed."""

    findings: list[Finding]

    @property
    def level(self) -> Level:
        """The worst of all."""
        levels = {finding.level for finding in self.findings}
        return next((level for level in (Level.FAIL, Level.WARN) if level in levels), Level.OK)

    @property
    def code(self) -> str:
        """Why it fails: that Redis is away or refuses us, or else that something is not as it has to be."""
        failed = [finding for finding in self.findings if finding.level is Level.FAIL]
        if not failed:
            return ""
        codes = {finding.code for finding in failed}
        special = ("redis_unavailable", "denied", "safe_stop")
        return next((code for code in special if code in codes), "configuration")


def examine(visit: Visit) -> Examination:
    """Look at everything; nothing is written but scripts into the server's cache."""
    findings = list(connection(visit))
    if findings[-1].level is Level.FAIL:
        return Examination(findings)
    findings += _all(visit, (*SERVER, *PLACE, *ABLE))
    if visit.pool is not None:
        findings += _all(visit, POOL)
    return Examination(findings)


def connection(visit: Visit) -> Iterator[Finding]:
    """Whether Redis answers."""
    where = without_secrets(visit.config.redis_url)
    try:
        visit.client.ping()
    except RedisError as error:
        code, reaction = cause(error)
        advice = {
            "denied": "check user and password of the address, and the rights of the user",
            "configuration": "give the address of this kind of server",
        }
        kind = _UNREACHABLE.get(reaction, "redis_unavailable")
        usual = "is Redis running there, and may this machine reach it? `balancer dev` starts one"
        said = without_secrets(str(error))[:200]
        yield fail("connection", f"{where}: {code}: {said}", advice.get(kind, usual), kind)
    else:
        yield ok("connection", where)


def _all(visit: Visit, checks: Iterable[Check]) -> Iterator[Finding]:
    """Each check for itself: one that meets an error says so, and the others go on."""
    for check in checks:
        name = _ROWS.get(check.__name__, check.__name__)
        try:
            yield from check(visit)
        except RedisError as error:
            code, reaction = cause(error)
            said = f"could not be looked at: {code}: {without_secrets(str(error))[:200]}"
            if reaction is Reaction.DENIED:
                yield warn(name, said, "give this user the right, or ask as another one")
            else:
                yield fail(name, said, "see docs/operations.md for what this error means")
        except BalancerError as error:
            yield fail(name, f"{error}", error.hint, error.code)
