"""What the checks look at: the connection, what the server says of itself, the pool if it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from redis.exceptions import RedisError

from balancer.config import Loaded
from balancer.ledger.pool import Pool
from balancer.protocol.causes import Reaction, cause
from balancer.protocol.connect import TextRedis
from balancer.protocol.keys import Keys


@dataclass
class Visit:
    """One look at one pool. `genesis` is the identity that it should have, if anybody said."""

    client: TextRedis
    config: Loaded
    genesis: str | None = None
    #: Set by the check of the pool's identity, once it has found nothing wrong.
    pool: Pool | None = field(default=None)

    @property
    def name(self) -> str:
        """The pool's name."""
        return self.config.pool

    @cached_property
    def keys(self) -> Keys:
        """The pool's keys."""
        return Keys(self.name)

    @cached_property
    def info(self) -> Mapping[str, Any]:
        """What INFO says; empty where it may not be asked."""
        found: Mapping[str, Any] = self.unless_refused(self.client.info) or {}
        return found

    @cached_property
    def settings(self) -> Mapping[str, str]:
        """Server settings that checks ask for, in one round trip; empty where CONFIG may not be asked."""

        def ask() -> list[Mapping[str, Any]]:
            pipe = self.client.pipeline(transaction=False)
            for name in _ASKED:  # before Redis 7 it takes one name a call
                pipe.config_get(name)
            found: list[Mapping[str, Any]] = pipe.execute()
            return found

        answers = self.unless_refused(ask) or ()
        return {str(name): str(value) for answer in answers for name, value in answer.items()}

    def unless_refused(self, ask: Callable[[], Any]) -> Any:
        """None where the server does not know it, keeps it from us, or hangs up on it; other errors are raised."""
        try:
            return ask()
        except RedisError as error:
            if cause(error).reaction in (Reaction.DENIED, Reaction.SETUP, Reaction.OWN):
                return None
            self.client.ping()  # it is there: what it does not answer is this command
            return None

    def number(self, name: str) -> int | None:
        """A number of INFO or of the settings; None where it is not known."""
        value = self.info.get(name, self.settings.get(name))
        try:
            return None if value is None else int(value)
        except ValueError:
            return None


_ASKED = (
    "appendfsync",
    "save",
    "maxmemory-policy",
    "min-replicas-to-write",
    "timeout",
    "maxclients",
)
