"""What is said to Redis for one call, played by hand: no socket, no clock, no event loop."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.exceptions import NoScriptError, ResponseError

from balancer.core.errors import BadArgument, SafeStop, SchemaMismatch, Unavailable, Unconfirmed
from balancer.exchanges.opening import patient
from balancer.ledger.exchange import Call, Exchange, Pause, Wire, spoken, wired
from balancer.ledger.script import Script

SCRIPT = Script("unlock")
CALL = Call(SCRIPT, ("wb:{p}:meta",), ["genesis", 2, "", "token"])
EVALSHA = ("EVALSHA", SCRIPT.sha, 1, "wb:{p}:meta", "genesis", 2, "", "token")
PING = ("PING",)


class Played:
    """A wire, answered step by step."""

    def __init__(self, wire: Wire[Any]) -> None:
        self._wire = wire
        self.answer: Any = None
        self.step: Any = None
        self.ended = False
        self.reply(None)

    def reply(self, reply: Any) -> None:
        try:
            self.step = self._wire.send(reply)
        except StopIteration as done:
            self.answer, self.ended = done.value, True


def test_what_is_asked_goes_out_in_order_and_comes_back_in_order() -> None:
    played = Played(spoken([CALL, PING]))
    assert played.step == [EVALSHA, PING]
    played.reply(["released", "PONG"])
    assert (played.ended, played.answer) == (True, ["released", "PONG"])


def test_nothing_asked_sends_nothing() -> None:
    played = Played(spoken([]))
    assert (played.ended, played.answer) == (True, [])


def test_an_unknown_script_is_loaded_and_all_is_said_again() -> None:
    played = Played(spoken([PING, CALL, CALL]))
    played.reply(["PONG", NoScriptError("NOSCRIPT"), NoScriptError("NOSCRIPT")])
    assert played.step == [("SCRIPT LOAD", SCRIPT.text), PING, EVALSHA, EVALSHA]
    played.reply([SCRIPT.sha, "PONG", "released", "not_ours"])
    assert played.answer == ["PONG", "released", "not_ours"]


def test_a_script_that_is_forgotten_again_and_again_is_an_error() -> None:
    played = Played(spoken([CALL]))
    played.reply([NoScriptError("NOSCRIPT")])
    played.reply([SCRIPT.sha, NoScriptError("NOSCRIPT")])
    with pytest.raises(NoScriptError):
        played.reply([SCRIPT.sha, NoScriptError("NOSCRIPT")])


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("SAFE_STOP there is no pool at x", SafeStop, "there is no pool at x"),
        ("ERR Error running script: SCHEMA the pool needs 9", SchemaMismatch, "the pool needs 9"),
        ("BAD_ARG cost: 0", BadArgument, "cost: 0"),
        ("WRONGTYPE Operation", ResponseError, "WRONGTYPE Operation"),
    ],
)
def test_a_scripts_refusal_is_an_error_of_ours(
    text: str, error: type[Exception], says: str
) -> None:
    played = Played(spoken([PING, CALL]))
    with pytest.raises(error, match=f"^{says}$"):
        played.reply(["PONG", ResponseError(text)])


def test_an_error_is_raised_where_the_exchange_asked() -> None:
    def careful() -> Exchange[str]:
        try:
            yield [PING]
        except ResponseError:
            (answer,) = yield [PING]
            return f"second {answer}"
        return "first"

    played = Played(wired(careful()))
    played.reply([ResponseError("ERR")])
    played.reply(["PONG"])
    assert played.answer == "second PONG"


def test_what_an_exchange_holds_is_given_back_when_its_driver_gives_up() -> None:
    seen: list[str] = []

    def holding() -> Exchange[None]:
        try:
            yield Pause(5)
        finally:
            seen.append("given back")

    wire = wired(holding())
    assert next(wire) == Pause(5)
    wire.close()
    assert seen == ["given back"]


def test_a_pause_is_answered_with_the_time() -> None:
    def waiting() -> Exchange[float]:
        now: float = yield Pause()
        return now

    played = Played(wired(waiting()))
    played.reply(12.5)
    assert played.answer == 12.5


def pinging() -> Exchange[str]:
    (answer,) = yield [PING]
    return f"got {answer}"


def test_what_is_not_answered_is_sent_again_after_a_pause() -> None:
    played = Played(patient(pinging(), 10))
    for _ in range(2):
        played.reply([redis.ConnectionError("cut")])
        paused: Any = played.step
        assert isinstance(paused, Pause)
        assert 0 < paused.seconds < 1
        played.reply(0.0)
        assert played.step == [PING]
    played.reply(["PONG"])
    assert played.answer == "got PONG"


def test_after_the_deadline_it_is_unconfirmed_or_was_never_sent() -> None:
    with pytest.raises(Unconfirmed, match="within 0 s"):
        Played(patient(pinging(), 0)).reply([redis.TimeoutError("slow")])
    with pytest.raises(Unavailable) as refused:
        Played(patient(pinging(), 0)).reply([ResponseError("LOADING")])
    assert not isinstance(refused.value, Unconfirmed)
