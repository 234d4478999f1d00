"""`balancer version`: which versions run here."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

from balancer.cli import options, output


def version(as_json: options.Json = False) -> None:
    """Print the version, of Python and of the Redis client too.

    Example:
      balancer version --json
    """
    versions = {
        "balancer": _version("workload-balancer"),
        "python": platform.python_version(),
        "redis-py": _version("redis"),
    }
    if as_json:
        output.write_json(versions)
    else:
        output.facts(versions.items())


def show_version() -> None:
    """What `balancer --version` prints."""
    output.write(f"balancer {_version('workload-balancer')}")


def _version(package: str) -> str:
    try:
        return version_of(package)
    except PackageNotFoundError:
        return "not installed"
