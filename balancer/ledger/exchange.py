"""What is said to Redis for one call, apart from how it is sent.

An exchange is a generator: it yields what to ask, receives the replies, returns the answer. It knows
neither sockets nor clocks nor event loops, so a blocking and an asyncio client run the same ones.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeAlias, TypeVar

from redis.exceptions import NoScriptError, RedisError, ResponseError

from balancer.core.errors import BadArgument, SafeStop, SchemaMismatch
from balancer.ledger.script import Script
from balancer.protocol.connect import TextRedis

if TYPE_CHECKING:
    from balancer.ledger.pool import Pool, PoolRef

P = ParamSpec("P")
T = TypeVar("T")

Arg = str | int
#: A plain command: its name, then its arguments.
Command: TypeAlias = tuple[Arg, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script."""

    script: Script
    keys: tuple[str, ...]
    args: Sequence[Arg]


class Signal(Protocol):
    """What somebody else sets: a threading.Event or an asyncio.Event, as the driver needs it."""

    def set(self) -> None:
        """It happened."""
        ...

    def is_set(self) -> bool:
        """Whether it happened."""
        ...


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is said for so long, or until the signal is set. The reply is the time then, in seconds
    of a monotonic clock.
    """

    seconds: float = 0.0
    until: Signal | None = None


#: What goes out in one round trip, in this order. The reply is a list with one answer each.
Asks: TypeAlias = Sequence[Call | Command]
Exchange: TypeAlias = Generator[Asks | Pause, Any, T]
#: The same with scripts, errors and retries resolved: all that a driver has to carry.
Wire: TypeAlias = Generator[Sequence[Command] | Pause, Any, T]

#: How often scripts are loaded again for one round trip before it is given up.
_LOADS = 3
_ERRORS = {"SAFE_STOP": SafeStop, "SCHEMA": SchemaMismatch, "BAD_ARG": BadArgument}


def spoken(asks: Asks) -> Wire[list[Any]]:
    """The replies of one round trip. Where the server does not know a script (yet, or any more), it
    is told and all is said again: every script may be sent twice.

    Raises:
        SafeStop, SchemaMismatch, BadArgument: nothing was written.
        redis.RedisError: as the client raised it; the outcome may be unknown.
    """
    if not asks:
        return []
    load: list[Command] = []
    for _ in range(_LOADS):
        replies = (yield [*load, *map(_command, asks)])[len(load) :]
        unknown = {
            ask.script.sha: ask.script.text
            for ask, reply in zip(asks, replies, strict=True)
            if isinstance(ask, Call) and isinstance(reply, NoScriptError)
        }
        if not unknown:
            break
        load = [("SCRIPT LOAD", text) for text in unknown.values()]
    for reply in replies:
        if isinstance(reply, Exception):
            raise translated(reply)
    return list(replies)


def wired(exchange: Exchange[T], answer: Callable[[Asks], Wire[list[Any]]] = spoken) -> Wire[T]:
    """An exchange as a driver carries it. Errors are raised where the exchange asked.

    Args:
        answer: how the replies of one round trip are got.
    """
    reply: Any = None
    error: Exception | None = None
    try:
        while True:
            ask = exchange.throw(error) if error else exchange.send(reply)
            error = None
            try:
                reply = (yield ask) if isinstance(ask, Pause) else (yield from answer(ask))
            except Exception as caught:
                error = caught
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        exchange.close()  # what it holds is given back now, not when it is collected


def drive(client: TextRedis, wire: Wire[T]) -> T:
    """Carry it over a blocking client."""
    reply: Any = None
    try:
        while True:
            step = wire.send(reply)
            if isinstance(step, Pause):
                _pause(step)
                reply = time.monotonic()
            else:
                reply = send(client, step)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        wire.close()


def _pause(step: Pause) -> None:
    if isinstance(step.until, threading.Event):
        step.until.wait(step.seconds)
    elif step.seconds > 0:
        time.sleep(step.seconds)


def send(client: TextRedis, commands: Sequence[Command]) -> list[Any]:
    """One round trip; an error stands where its reply would."""
    try:
        if len(commands) == 1:
            return [client.execute_command(*commands[0])]
        pipe = client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return pipe.execute(raise_on_error=False)  # type: ignore[no-any-return]
    except (RedisError, UnicodeError) as error:
        return [error] * len(commands)


def translated(error: Exception) -> Exception:
    """A script's own refusal as our error; any other error as it is."""
    if isinstance(error, ResponseError):
        text = str(error)
        for code, cls in _ERRORS.items():
            at = text.find(f"{code} ")
            if at >= 0:
                return cls(text[at + len(code) + 1 :])
    return error


def _command(ask: Call | Command) -> Command:
    if isinstance(ask, Call):
        return ("EVALSHA", ask.script.sha, len(ask.keys), *ask.keys, *ask.args)
    return ask


class exchange(Generic[P, T]):  # noqa: N801 (a decorator)
    """Makes a function of the ledger from an exchange. `submit(pool, ...)` runs it on the pool's own
    client, sent once; `submit.steps(pool, ...)` is the exchange itself, for whoever drives it.
    """

    def __init__(self, steps: Callable[Concatenate[PoolRef, P], Exchange[T]]) -> None:
        self.steps = steps
        functools.update_wrapper(self, steps)

    def __call__(self, pool: Pool, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it on the pool's own client, sent once."""
        return pool.say(self.steps(pool, *args, **kwargs))
