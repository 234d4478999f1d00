"""What moves: the event streams, the balancers that read them, and time as the pool sees it."""

from __future__ import annotations

from collections.abc import Iterator

from redis.exceptions import ResponseError

from balancer.doctor.finding import Finding, fail, ok, warn
from balancer.doctor.visit import Visit
from balancer.ledger.read import now_s
from balancer.ledger.replicas import replicas
from balancer.protocol.keys import GROUP

#: Completions that wait to be settled, above which somebody should look.
BACKLOG = 1_000


def streams(visit: Visit) -> Iterator[Finding]:
    """The groups are there, and what agents report is settled."""
    for name, key in (
        ("heartbeats", visit.keys.heartbeats),
        ("completions", visit.keys.completions),
    ):
        try:
            groups = {row["name"]: row for row in visit.client.xinfo_groups(key)}
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            groups = {}
        if GROUP not in groups:
            yield fail(
                "streams",
                f"the consumer group {GROUP!r} of {name} is gone",
                "start a balancer: it makes it anew and reads the stream from its beginning",
            )
            return
    backlog = visit.client.xlen(visit.keys.completions)
    rejected = visit.client.xlen(visit.keys.rejected)
    shown = f"{backlog} completions wait to be settled, {rejected} malformed entries were set aside"
    if backlog > BACKLOG:
        yield warn("streams", shown, "look at the balancers: none runs, or they cannot keep up")
    elif rejected:
        advice = f"XREVRANGE {visit.keys.rejected} + - COUNT 3 shows the last ones, and why"
        yield warn("streams", shown, advice)
    else:
        yield ok("streams", shown)


def balancers(visit: Visit) -> Iterator[Finding]:
    """How many run, and whether their loops pass."""
    assert visit.pool is not None
    found = replicas(visit.client, visit.keys)
    most_s = visit.config.process.serve.silent_s
    stuck = [
        replica
        for replica in found
        if replica.silent_s >= most_s and replica.unable_ver != visit.pool.settings_ver
    ]
    if not found:
        yield warn("balancers", "none runs: nothing is assigned", "start `balancer serve`")
    elif stuck:
        who = ", ".join(f"{r.slowest} of process {r.pid} on {r.host}" for r in stuck)
        yield fail(
            "balancers",
            f"{len(stuck)} of {len(found)} stuck: {who}",
            "look at the log for loop_failed and loop_broke; a restart loses nothing",
        )
    elif unable := [one for one in found if one.unable_ver == visit.pool.settings_ver]:
        who = ", ".join(f"process {one.pid} on {one.host}" for one in unable)
        yield (fail if len(unable) == len(found) else warn)(
            "balancers",
            f"{len(unable)} of {len(found)} cannot load the strategy {visit.pool.settings.strategy!r}: {who}",
            "install it there (loop_failed in the log says why), or `balancer configure --strategy fit`",
        )
    else:
        hosts = ", ".join(sorted({replica.host for replica in found}))
        more = "" if len(found) > 1 else "; a second one elsewhere would take over when it ends"
        yield ok("balancers", f"{len(found)} on {hosts}{more}")


def grace(visit: Visit) -> Iterator[Finding]:
    """Whether judgement is put off: after an outage or a clock that jumped nobody is lost and nothing times out."""
    assert visit.pool is not None
    until_ms = int(visit.client.hget(visit.keys.meta, "grace_until_ms") or 0)
    left_s = until_ms / 1000 - now_s(visit.pool)
    if left_s > 0:
        yield warn(
            "grace",
            f"for {left_s:.0f} s more nobody is judged lost: balancers were away, or Redis' clock jumped",
            "it ends by itself; if it comes back, look at the clock and the balancers",
        )
