"""What `balancer dev` says once it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balancer.cli import options, output

if TYPE_CHECKING:
    from balancer.embedded import OwnRedis


def say_how_to_go_on(
    redis: OwnRedis, url: str, pool: str, directory: str | None, strategy: str
) -> None:
    """Where everything is, and what to do next."""
    from balancer.embedded import EmbeddedRedis

    version = f"Redis {redis.version}" if isinstance(redis, EmbeddedRedis) else "fakeredis"
    data = f"kept in {directory}" if directory else "gone when this stops"
    output.facts(
        (("redis", f"{url}  ({version}; data {data})"), ("pool", pool), ("strategy", strategy))
    )
    said = {
        "BALANCER_REDIS_URL": (url, options.DEFAULT_URL),
        "BALANCER_POOL": (pool, options.DEFAULT_POOL),
    }
    exports = [
        f"  export {name}={value}" for name, (value, usual) in said.items() if value != usual
    ]
    if exports:
        output.write("\nIn every other terminal first:")
        output.write("\n".join(exports))
    output.write(
        """
Next, in other terminals:
  submit a task    balancer submit --role developer --category feature \\
                     --payload '{"page": "home"}'
  run an agent     python examples/agent.py    (its ten lines: see the README)
  have a look      balancer status

Ctrl-C stops everything."""
    )
