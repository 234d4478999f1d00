"""What is said to Redis for one call, apart from how it is sent.

An exchange is a generator: it yields what to ask, receives the replies, returns the answer. It knows
neither sockets nor clocks nor event loops, so a blocking and an asyncio client run the same ones.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
)

from redis.exceptions import NoScriptError, RedisError, ResponseError

from balancer.core.errors import BadArgument, SafeStop, SchemaMismatch
from balancer.ledger.script import Script
from balancer.protocol.connect import TextRedis, execute

if TYPE_CHECKING:
    from balancer.ledger.pool import Pool, PoolRef

P = ParamSpec("P")
T = TypeVar("T")

Arg = str | int
#: A plain command: its name, then its arguments.
Command: TypeAlias = tuple[Arg, ...]


class Call(tuple[Arg, ...]):
    """One run of a script: the command that is sent, and the script, for a server that does not know it."""

    script: Script

    def __new__(cls, script: Script, keys: Sequence[str], args: Iterable[Arg]) -> Self:
        """Of one script, with its keys and arguments."""
        call = super().__new__(cls, ("EVALSHA", script.sha, len(keys), *keys, *args))
        call.script = script
        return call


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
Asks: TypeAlias = Sequence[Command]
Exchange: TypeAlias = Generator[Asks | Pause, Any, T]

#: How often scripts are loaded again for one round trip before it is given up.
_LOADS = 3
_ERRORS = {"SAFE_STOP": SafeStop, "SCHEMA": SchemaMismatch, "BAD_ARG": BadArgument}


class Round:
    """One round trip, until it is answered: a driver sends `commands` and has the replies `heard`, again
    and again. Where the server does not know a script (yet, or any more), it is told and all is said
    again: every script may be sent twice.

    Attributes:
        commands: what to send now.
        answers: one for each ask, once all are there.
    """

    __slots__ = ("_asks", "_loads", "answers", "commands")

    def __init__(self, asks: Asks) -> None:
        self._asks, self._loads = asks, 0
        self.commands: Sequence[Command] = asks
        self.answers: list[Any] = []

    def heard(self, replies: list[Any]) -> float | None:
        """Judge the replies to `commands`; an error stands where its reply would.

        Returns:
            None when all is answered, else the seconds after which `commands` are to be sent.

        Raises:
            SafeStop, SchemaMismatch, BadArgument: nothing was written.
            redis.RedisError: as the client raised it; the outcome may be unknown.
        """
        if self._loads:
            replies = replies[len(replies) - len(self._asks) :]
        for reply in replies:
            if isinstance(reply, Exception):
                return self._failed(replies, reply)
        self.answers = replies
        return None

    def _forget(self) -> None:
        """Begin again."""
        self.commands, self._loads = self._asks, 0

    def _failed(self, replies: list[Any], first: Exception) -> float:
        unknown = {
            ask.script.sha: ask.script.text
            for ask, reply in zip(self._asks, replies, strict=True)
            if isinstance(ask, Call) and isinstance(reply, NoScriptError)
        }
        self._loads += 1
        if not unknown or self._loads == _LOADS:
            raise translated(first)
        self.commands = [*(("SCRIPT LOAD", text) for text in unknown.values()), *self._asks]
        return 0.0


def drive(
    client: TextRedis,
    exchange: Exchange[T],
    begin: Callable[[Asks], Round] = Round,
    pause: Callable[[Pause], float] | None = None,
) -> T:
    """Carry an exchange over a blocking client. Errors are raised where the exchange asked.

    Args:
        client: from `balancer.protocol.connect`.
        exchange: what to say.
        begin: makes a round trip of what is asked.
        pause: lets time pass as it is told, and returns what time it is then.
    """
    reply: Any = None
    error: Exception | None = None
    try:
        while True:
            step = exchange.throw(error) if error else exchange.send(reply)
            error = None
            if isinstance(step, Pause):
                reply = (pause or _pause)(step)
                continue
            try:
                reply = answered(client, begin(step))
            except Exception as caught:
                error = caught
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        exchange.close()  # what it holds is given back now, not when it is collected


def answered(client: TextRedis, trip: Round) -> list[Any]:
    """The answers of a round trip.

    Raises:
        What `Round.heard` raises.
    """
    while (delay_s := trip.heard(_sent(client, trip.commands))) is not None:
        if delay_s:
            time.sleep(delay_s)
    return trip.answers


def _pause(step: Pause) -> float:
    if isinstance(step.until, threading.Event):
        step.until.wait(step.seconds)
    elif step.seconds > 0:
        time.sleep(step.seconds)
    return time.monotonic()


def _sent(client: TextRedis, commands: Sequence[Command]) -> list[Any]:
    """What came back; an error stands where its reply would."""
    try:
        if len(commands) == 1:
            return [execute(client, commands[0])]
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
