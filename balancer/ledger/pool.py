"""An opened pool: its identity and settings, and, with a blocking client, the way to run a script."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

from balancer.core.errors import BadArgument, PoolMissing, SafeStop, SchemaMismatch
from balancer.core.names import new_nonce
from balancer.core.queue_order import QueueOrder
from balancer.core.settings import PoolSettings
from balancer.core.strategies import make_strategy, queue_of
from balancer.ledger.exchange import Arg, Call, Exchange, Round, T, answered, drive
from balancer.ledger.script import SCHEMA, Script
from balancer.protocol.connect import TextRedis, is_cluster
from balancer.protocol.keys import Keys

INIT = Script("init", alone=True)
UNLOCK = Script("unlock")


class PoolRef:
    """What a call has to know of a pool: which one, and what decides in it. Has no connection.

    Args:
        name: the pool.
        genesis: random identity of the pool; scripts refuse any other.
        settings: what decides in it.
        clock: microseconds, for pools that were created as virtual; None for real ones.
        in_cluster: whether it is in a Redis Cluster.
        settings_ver: which settings these are.
    """

    def __init__(
        self,
        name: str,
        genesis: str,
        settings: PoolSettings,
        clock: Callable[[], int] | None = None,
        in_cluster: bool = False,
        *,
        settings_ver: int = 1,
    ) -> None:
        self.name, self.genesis, self.settings, self.clock = name, genesis, settings, clock
        #: Version of those settings, and the newest that anything was heard of.
        self.settings_ver = self.newest_ver = settings_ver
        self.keys = Keys(name)
        self._keys_of_calls = keys_of_calls(name, in_cluster)

    @property
    def is_behind(self) -> bool:
        """Whether the pool has been configured anew since its settings were read."""
        return self.newest_ver != self.settings_ver

    def adopt(self, settings: PoolSettings, settings_ver: int) -> None:
        """Go by these settings from now on."""
        self.settings = settings
        self.settings_ver = self.newest_ver = settings_ver

    def head(self) -> list[Arg]:
        """What every script's ARGV starts with."""
        return [self.genesis, SCHEMA, self.clock() if self.clock else ""]

    def call(self, script: Script, args: Sequence[Arg] = ()) -> Call:
        """One run of a script on this pool, to be asked in an exchange."""
        return Call(script, self._keys_of_calls, (*self.head(), *args))


class Pool(PoolRef):
    """One pool, opened, with a blocking client. Safe to share between threads, like the client in it.

    Args:
        client: from `balancer.protocol.connect`.
        name: the pool.
        genesis: random identity of the pool; scripts refuse any other.
        settings: what decides in it.
        clock: microseconds, for pools that were created as virtual; None for real ones.
        settings_ver: which settings these are.
    """

    def __init__(
        self,
        client: TextRedis,
        name: str,
        genesis: str,
        settings: PoolSettings,
        clock: Callable[[], int] | None = None,
        *,
        settings_ver: int = 1,
    ) -> None:
        super().__init__(
            name, genesis, settings, clock, is_cluster(client), settings_ver=settings_ver
        )
        self.client = client

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
            Misconfigured: the settings name a strategy that cannot be loaded.
            SchemaMismatch: the pool is of an older version, or needs a newer one.
        """
        settings = settings or PoolSettings()
        mode = "virtual" if clock else "real"
        args: list[Arg] = [new_nonce(), SCHEMA, mode, *stored_settings(settings)]
        call = Call(INIT, keys_of_calls(name, is_cluster(client)), args)
        (reply,) = answered(client, Round([call]))
        if reply[0] == "not_empty":
            raise SafeStop(
                f"pool {name!r}: its keys are in this Redis, but its identity (meta) is not"
            )
        _, genesis, schema, min_reader, stored_mode, ver, stored = reply
        _check_schema(name, schema, min_reader)
        if stored_mode != mode:
            raise BadArgument(f"clock: pool {name!r} is {stored_mode}, not {mode}")
        return cls(
            client,
            name,
            genesis,
            PoolSettings.model_validate_json(stored),
            clock,
            settings_ver=int(ver),
        )

    @classmethod
    def open(cls, client: TextRedis, name: str, clock: Callable[[], int] | None = None) -> Self:
        """Open a pool that exists.

        Raises:
            PoolMissing: there is none of this name.
            SchemaMismatch: it is of an older version, or needs a newer one.
        """
        found = drive(client, opening(name, is_cluster(client)))
        return cls(
            client, name, found.genesis, found.settings, clock, settings_ver=found.settings_ver
        )

    def verify(self) -> None:
        """Check that this Redis still holds the pool that was opened. Reads only.

        Raises:
            SafeStop: it does not.
        """
        if self.client.hget(self.keys.meta, "genesis") != self.genesis:
            raise SafeStop(f"this Redis does not hold the pool {self.name!r} that was opened")

    def run(self, script: Script, args: Sequence[Arg] = ()) -> Any:
        """Run one script.

        Raises:
            SafeStop, SchemaMismatch, BadArgument: nothing was written.
            redis.RedisError: as the client raised it; the outcome may be unknown, and sending again
            is safe.
        """
        (reply,) = answered(self.client, Round([self.call(script, args)]))
        return reply

    def run_many(self, script: Script, calls: Sequence[Sequence[Arg]]) -> list[Any]:
        """Run one script several times in one round trip, in order. Each call is atomic for itself."""
        return answered(self.client, Round([self.call(script, args) for args in calls]))

    def say(self, exchange: Exchange[T]) -> T:
        """Run an exchange, sending once.

        Raises:
            What `run` raises.
        """
        return drive(self.client, exchange)


def _check_schema(name: str, schema: str | None, min_reader: str | None) -> None:
    """Refuse stored data that this process does not read. The scripts refuse it alike."""
    if int(schema or 0) < SCHEMA:
        raise SchemaMismatch(
            f"pool {name!r} was written by an older release (data version {schema}, this one reads"
            f" {SCHEMA}): serve it with that release until it is empty, or use a new pool"
        )
    if int(min_reader or 0) > SCHEMA:
        raise SchemaMismatch(
            f"pool {name!r} was written by a newer release (data version {min_reader}, this one"
            f" reads {SCHEMA}): upgrade this process"
        )


def keys_of_calls(name: str, in_cluster: bool) -> tuple[str, ...]:
    """The keys that each call of a script names: the pool's meta hash.

    In a Cluster also one that never exists: while the slot moves some keys are here and some there,
    and a call that misses a key it names is refused whole (TRYAGAIN, ASK) before it has done anything.
    """
    keys = Keys(name)
    return (keys.meta, f"{keys.prefix}never") if in_cluster else (keys.meta,)


def opening(name: str, in_cluster: bool) -> Exchange[PoolRef]:
    """Look for a pool that exists.

    Raises:
        PoolMissing: there is none of this name.
        SchemaMismatch: it is of an older version, or needs a newer one.
    """
    keys = Keys(name)
    (genesis, ver, *versions), stored = yield [
        ("HMGET", keys.meta, "genesis", "settings_ver", "schema", "min_reader"),
        ("HGET", keys.settings, "json"),
    ]
    if genesis is None or stored is None:
        raise PoolMissing(f"there is no pool {name!r} in this Redis")
    _check_schema(name, *versions)
    settings = PoolSettings.model_validate_json(stored)
    return PoolRef(name, genesis, settings, in_cluster=in_cluster, settings_ver=int(ver))


def stored_settings(settings: PoolSettings) -> list[Arg]:
    """Settings as scripts take them: the whole as JSON, then what they go by themselves.

    Raises:
        Misconfigured: the settings name a strategy that cannot be loaded.
    """
    strategy = make_strategy(settings)
    order_by = QueueOrder.of(settings, queue_of(strategy)).packed()
    bounds: list[Arg] = ["max_cost", settings.max_cost, "max_pending", settings.max_pending]
    bounds += ["min_success", round(10_000 * settings.min_success)]
    bounds += ["min_health", math.ceil(10_000 * settings.min_health)]
    bounds += ["timeout_permille", round(1_000 * settings.run_timeout_factor)]
    bounds += ["min_timeout_s", math.ceil(settings.min_run_timeout_s)]
    for role, own in settings.roles.items():
        if own.max_cost is not None:
            bounds += [f"max_cost:{role}", own.max_cost]
        if own.max_pending is not None:
            bounds += [f"max_pending:{role}", own.max_pending]
    return [settings.model_dump_json(), strategy.order, order_by, *bounds]
