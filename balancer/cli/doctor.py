"""`balancer doctor`: what stands how, what was found, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from balancer.cli import errors, options, output
from balancer.cli.again import repeated
from balancer.core.errors import InvalidInput
from balancer.log import printable

if TYPE_CHECKING:
    from balancer.doctor import Finding

_GENESIS_DIGITS = 32


def doctor(
    *,
    genesis: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="The identity that the pool must have.  [default: pool.genesis of the settings]",
        ),
    ] = None,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Look at Redis and the pool, and say what to do about what is not as it should be.

    Examples:
      balancer doctor
      balancer doctor --genesis 9f86d081884c7d659a2feaa0c55ad015 --json

    It reads; all that it leaves behind is our scripts in the cache of Redis. The exit code
    is 0 when nothing failed (warnings are none), 4 when Redis does not answer or is not
    the one it was, 77 when it refuses us, 78 for all else.
    """
    from balancer.doctor import examine
    from balancer.doctor.visit import Visit
    from balancer.protocol.connect import connect

    wanted = _genesis(genesis) or config.process.pool.genesis
    with connect(redis_url, pool=pool) as client:
        found = examine(Visit(client, config, wanted))
    if as_json:
        rows = [
            {"check": f.check, "level": f.level.value, "found": f.found, "advice": f.advice}
            for f in found.findings
        ]
        output.write_json({"level": found.level.value, "pool": pool, "checks": rows})
    else:
        for finding in found.findings:
            _tell(finding)
    if found.code:
        raise typer.Exit(errors.EXIT_CODES[found.code])


def _genesis(text: str | None) -> str | None:
    if text is not None and (len(text) != _GENESIS_DIGITS or set(text) - set("0123456789abcdef")):
        raise InvalidInput(f"--genesis: {text[:80]!r} is not 32 hexadecimal digits")
    return text


def _tell(finding: Finding) -> None:
    output.write(f"{finding.level.value:<4}  {finding.check:<11}  {printable(finding.found)}")
    if finding.advice:
        output.write(f"{'':19}-> {printable(repeated(finding.advice))}")
