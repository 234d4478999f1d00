"""Commands that a command tells people to run: they repeat the flags that said where the pool is. What the
environment and the file say needs no repeating.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

from balancer.log import without_secrets

#: Commands of ours that take these flags.
_COMMAND = re.compile(
    r"\b(balancer (?:(?:task|agent|queue) [a-z]+|serve|configure|doctor|audit|status)|worker run)\b"
)
#: As they are to be typed, with a space before each.
_FLAGS: ContextVar[Mapping[str, str]] = ContextVar("flags", default=MappingProxyType({}))


def remember(
    config: str | None = None, redis_url: str | None = None, pool: str | None = None
) -> None:
    """What the flags of the command that runs say; None for each that was not given. An address that holds a
    password is never repeated.
    """
    if redis_url is not None and without_secrets(redis_url) != redis_url:
        redis_url = None
    given = {"config": config, "redis-url": redis_url, "pool": pool}
    _FLAGS.set(
        {
            name: f" --{name} {shlex.quote(value)}"
            for name, value in given.items()
            if value is not None
        }
    )


def repeated(text: str) -> str:
    """The text, in which each command of ours has these flags."""
    return _COMMAND.sub(_with_flags, text)


def _with_flags(found: re.Match[str]) -> str:
    # A worker knows no file.
    unknown = "config" if found[0].startswith("worker") else ""
    return found[0] + "".join(flag for name, flag in _FLAGS.get().items() if name != unknown)
