"""An opened pool: a connection, the pool's identity and settings, and the one way to run a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from redis.exceptions import NoScriptError, ResponseError

from balancer.core.errors import BadArgument, PoolMissing, SafeStop, SchemaMismatch
from balancer.core.names import new_nonce
from balancer.core.settings import PoolSettings
from balancer.ledger.script import SCHEMA, Script
from balancer.protocol.connect import TextRedis
from balancer.protocol.keys import Keys

INIT = Script("init", alone=True)
UNLOCK = Script("unlock")

Arg = str | int
_ERRORS = {"SAFE_STOP": SafeStop, "SCHEMA": SchemaMismatch, "BAD_ARG": BadArgument}


class Pool:
    """One pool, opened. Safe to share between threads, like the client in it.

    Args:
        client: from `balancer.protocol.connect`.
        name: the pool.
        genesis: random identity of the pool; scripts refuse any other.
        settings: what decides in it.
        clock: microseconds, for pools that were created as virtual; None for real ones.
    """

    def __init__(
        self,
        client: TextRedis,
        name: str,
        genesis: str,
        settings: PoolSettings,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.client, self.name, self.genesis, self.settings, self.clock = (
            client,
            name,
            genesis,
            settings,
            clock,
        )
        self.keys = Keys(name)

    @classmethod
    def create(
        cls,
        client: TextRedis,
        name: str,
        settings: PoolSettings | None = None,
        clock: Callable[[], int] | None = None,
    ) -> Self:
        """Open a pool, and create it first where there is none. An existing pool keeps its
        settings.

        Raises:
            SafeStop: keys of the pool are there, but not its identity.
            SchemaMismatch: the pool needs a newer version.
        """
        settings = settings or PoolSettings()
        costs: list[Arg] = ["max_cost", settings.max_cost]
        for role, own in settings.roles.items():
            if own.max_cost is not None:
                costs += [f"max_cost:{role}", own.max_cost]
        mode = "virtual" if clock else "real"
        args: list[Arg] = [new_nonce(), SCHEMA, mode, settings.model_dump_json(), *costs]
        reply = run(client, INIT, [Keys(name).meta], args)
        if reply[0] == "not_empty":
            raise SafeStop(
                f"pool {name!r}: its keys are in this Redis, but its identity (meta) is not"
            )
        _, genesis, _, min_reader, stored_mode, stored = reply
        if int(min_reader) > SCHEMA:
            raise SchemaMismatch(
                f"pool {name!r} needs version {min_reader}, this process reads {SCHEMA}"
            )
        if stored_mode != mode:
            raise BadArgument(f"clock: pool {name!r} is {stored_mode}, not {mode}")
        return cls(client, name, genesis, PoolSettings.model_validate_json(stored), clock)

    @classmethod
    def open(cls, client: TextRedis, name: str, clock: Callable[[], int] | None = None) -> Self:
        """Open a pool that exists.

        Raises:
            PoolMissing: there is none of this name.
            SchemaMismatch: it needs a newer version.
        """
        keys = Keys(name)
        genesis, min_reader = client.hmget(keys.meta, ["genesis", "min_reader"])
        stored = client.hget(keys.settings, "json")
        if genesis is None or stored is None:
            raise PoolMissing(f"there is no pool {name!r} in this Redis")
        if int(min_reader or 0) > SCHEMA:
            raise SchemaMismatch(
                f"pool {name!r} needs version {min_reader}, this process reads {SCHEMA}"
            )
        return cls(client, name, genesis, PoolSettings.model_validate_json(stored), clock)

    def verify(self) -> None:
        """Check that this Redis still holds the pool that was opened. Reads only.

        Raises:
            SafeStop: it does not.
        """
        if self.client.hget(self.keys.meta, "genesis") != self.genesis:
            raise SafeStop(f"this Redis does not hold the pool {self.name!r} that was opened")

    def head(self) -> list[Arg]:
        """What every script's ARGV starts with."""
        return [self.genesis, SCHEMA, self.clock() if self.clock else ""]

    def run(self, script: Script, args: Sequence[Arg] = ()) -> Any:
        """Run one script.

        Raises:
            SafeStop, SchemaMismatch, BadArgument: nothing was written.
            redis.RedisError: as the client raised it; the outcome may be unknown, and sending again
            is safe.
        """
        return run(self.client, script, [self.keys.meta], [*self.head(), *args])

    def run_many(self, script: Script, calls: Sequence[Sequence[Arg]]) -> list[Any]:
        """Run one script several times in one round trip, in order. Each call is atomic for itself."""
        for _ in range(2):
            pipe = self.client.pipeline(transaction=False)
            for args in calls:
                pipe.evalsha(script.sha, 1, self.keys.meta, *self.head(), *args)
            replies = pipe.execute(raise_on_error=False)
            if not any(isinstance(reply, NoScriptError) for reply in replies):
                break
            self.client.script_load(script.text)
        for reply in replies:
            if isinstance(reply, Exception):
                raise translated(reply)
        return list(replies)


def run(client: TextRedis, script: Script, keys: list[str], args: Sequence[Arg]) -> Any:
    """EVALSHA, and EVAL once where the server does not know the script (yet, or any more)."""
    try:
        try:
            return client.evalsha(script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return client.eval(script.text, len(keys), *keys, *args)
    except ResponseError as error:
        raise translated(error) from error


def translated(error: Exception) -> Exception:
    """A script's own refusal as our error; any other error as it is."""
    text = str(error)
    for code, cls in _ERRORS.items():
        at = text.find(f"{code} ")
        if at >= 0:
            return cls(text[at + len(code) + 1 :])
    return error
