"""What each error of Redis means for whoever gets it: one table for producers, loops and agents."""

from __future__ import annotations

import random
import re
from enum import Enum
from typing import NamedTuple

from redis import exceptions as errors


class Reaction(Enum):
    """What to do about an error."""

    AGAIN = "again"
    """Passes by itself: send the same call again, with back-off."""
    ROUTE = "route"
    """The wrong server answered: connections are dropped, the right one is looked up; then as AGAIN."""
    FULL = "full"
    """Redis has no memory left: new work is refused, what frees memory goes on."""
    DENIED = "denied"
    """User, password or rights: asking again soon does not help."""
    SETUP = "setup"
    """The address is of another kind than the server: no waiting helps."""
    BROKEN = "broken"
    """Stored data or the connection's protocol is not what it must be: stop writing, tell somebody."""
    OWN = "own"
    """The fault of this one call, or of what is in it."""


#: Codes whose text comes from the server, or a name of our own where it sends none.
REACTIONS: dict[str, Reaction] = {
    "TIMEOUT": Reaction.AGAIN,
    "CONNECTION": Reaction.AGAIN,
    "MAXCLIENTS": Reaction.AGAIN,
    "LOADING": Reaction.AGAIN,
    "MASTERDOWN": Reaction.AGAIN,
    "CLUSTERDOWN": Reaction.AGAIN,
    "TRYAGAIN": Reaction.AGAIN,
    "ASK": Reaction.AGAIN,  # half of the pool has moved: whoever followed it would see the other half
    "BUSY": Reaction.AGAIN,
    "MISCONF": Reaction.AGAIN,
    "EXECABORT": Reaction.AGAIN,
    "NOSCRIPT": Reaction.AGAIN,
    "UNREPLICATED": Reaction.AGAIN,
    "NOGROUP": Reaction.AGAIN,
    "READONLY": Reaction.ROUTE,
    "NOREPLICAS": Reaction.ROUTE,
    "UNBLOCKED": Reaction.ROUTE,
    "MOVED": Reaction.ROUTE,
    "OOM": Reaction.FULL,
    "NOAUTH": Reaction.DENIED,
    "WRONGPASS": Reaction.DENIED,
    "NOPERM": Reaction.DENIED,
    "CERTIFICATE": Reaction.SETUP,
    "NOTROUTED": Reaction.SETUP,
    "DATABASE": Reaction.SETUP,
    "COMMAND": Reaction.SETUP,
    "WRONGTYPE": Reaction.BROKEN,
    "CROSSSLOT": Reaction.BROKEN,
    "PROTOCOL": Reaction.BROKEN,
    "ERR": Reaction.OWN,
}
#: Somebody has to look at these: they do not pass by themselves, or hide a fault.
ALARMS = frozenset(
    {"BUSY", "MISCONF", "NOGROUP"}
    | {
        code
        for code, reaction in REACTIONS.items()
        if reaction in (Reaction.FULL, Reaction.DENIED, Reaction.SETUP, Reaction.BROKEN)
    }
)


#: How long whoever goes on for ever waits after a failure, seconds: doubles from the first to the last. Rights
#: come back by somebody's hand, and each try until then is a line in the server's own log.
FIRST_BACKOFF_S, LAST_BACKOFF_S, LAST_DENIED_BACKOFF_S = 0.1, 5.0, 30.0


class NotRoutedError(errors.ResponseError):
    """A plain address was given of a server that is one of a Cluster."""


class UnreplicatedError(errors.RedisError):
    """What was written has not reached as many replicas as the address asks for."""


class Cause(NamedTuple):
    """An error, judged."""

    code: str
    reaction: Reaction

    @property
    def is_alarm(self) -> bool:
        """Whether somebody has to look at it."""
        return self.code in ALARMS


# The client cuts the code off the text of the errors that it has a class for. The narrower class first.
_CLASSES: tuple[tuple[type[errors.RedisError], str], ...] = (
    (NotRoutedError, "NOTROUTED"),
    (UnreplicatedError, "UNREPLICATED"),
    (errors.MaxConnectionsError, "MAXCLIENTS"),
    (errors.BusyLoadingError, "LOADING"),
    (errors.AuthenticationWrongNumberOfArgsError, "WRONGPASS"),
    (errors.AuthenticationError, "WRONGPASS"),
    (errors.NoPermissionError, "NOPERM"),
    (errors.AuthorizationError, "NOPERM"),
    (errors.OutOfMemoryError, "OOM"),
    (errors.ReadOnlyError, "READONLY"),
    (errors.NoScriptError, "NOSCRIPT"),
    (errors.MasterDownError, "MASTERDOWN"),
    (errors.ClusterDownError, "CLUSTERDOWN"),
    (errors.TryAgainError, "TRYAGAIN"),
    (errors.MovedError, "MOVED"),
    (errors.AskError, "ASK"),
    (errors.ClusterCrossSlotError, "CROSSSLOT"),
    (errors.ExecAbortError, "EXECABORT"),
    (errors.InvalidResponse, "PROTOCOL"),
    (errors.TimeoutError, "TIMEOUT"),
    (errors.ConnectionError, "CONNECTION"),
)
_WORDS = "|".join(code for code in REACTIONS if code not in ("TIMEOUT", "CONNECTION", "ERR"))
# Redis 6.2 wraps what a command in a script was answered: "ERR Error running script (...): ...: -OOM ...".
_FIRST = re.compile(rf"-?({_WORDS})\b")
_WRAPPED = re.compile(rf"^(?:ERR )?Error running script .*?: -?({_WORDS})\b", re.DOTALL)

# Plain errors that are told apart by their words.
_PARTS = {
    "non local key": "CROSSSLOT",
    "DB index is out of range": "DATABASE",
    "unknown command": "COMMAND",
}


def cause(error: BaseException) -> Cause:
    """Judge an error of the client or the server."""
    code = _code(error)
    return Cause(code, REACTIONS[code])


def backoff_s(failures: int, reaction: Reaction = Reaction.AGAIN) -> float:
    """How long to wait after so many failures in a row, seconds; with jitter."""
    is_denied = reaction in (Reaction.DENIED, Reaction.SETUP)
    last = LAST_DENIED_BACKOFF_S if is_denied else LAST_BACKOFF_S
    return min(last, FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 10)) * random.uniform(0.5, 1.0)


def is_unsent(error: BaseException) -> bool:
    """Whether the error came before anything was sent: the call has surely had no effect."""
    return bool(getattr(error, "unsent", False))


def mark_unsent(error: BaseException) -> None:
    """Say so."""
    error.unsent = True  # type: ignore[attr-defined]


def _code(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, errors.ConnectionError | errors.TimeoutError):
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return "CERTIFICATE"
        if "max number of clients" in text:
            return "MAXCLIENTS"
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return code
    found = _FIRST.match(text) or _WRAPPED.match(text)
    if found:
        return found[1]
    return next((code for part, code in _PARTS.items() if part in text), "ERR")
