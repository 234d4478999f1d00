"""What is said to Redis for one call, played by hand: no socket, no clock, no event loop."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.exceptions import NoScriptError, ResponseError

from balancer.core.errors import BadArgument, SafeStop, SchemaMismatch, Unavailable, Unconfirmed
from balancer.exchanges.opening import PatientRound
from balancer.ledger.exchange import Call, Exchange, Pause, Round, drive
from balancer.ledger.script import Script
from balancer.protocol.causes import UnreplicatedError

SCRIPT = Script("unlock")
CALL = Call(SCRIPT, ("wb:{p}:meta",), ["genesis", 2, "", "token"])
EVALSHA = ("EVALSHA", SCRIPT.sha, 1, "wb:{p}:meta", "genesis", 2, "", "token")
LOAD = ("SCRIPT LOAD", SCRIPT.text)
PING = ("PING",)
WAIT = ("WAIT", 1, 1_000)


class Answering:
    """A client that gives these answers, one by one, and keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self._answers, self.asked, self.lent = list(answers), list[Any](), 0
        self.connection_pool = self

    def get_connection(self) -> Answering:
        self.lent += 1
        return self

    def send_command(self, *command: Any) -> None:
        self.asked.append(command)

    def parse_response(self, connection: Answering, name: str) -> Any:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def release(self, connection: Answering) -> None:
        self.lent -= 1


def test_what_is_asked_goes_out_in_order_and_comes_back_in_order() -> None:
    trip = Round([CALL, PING])
    assert trip.commands == [EVALSHA, PING]
    assert trip.heard(["released", "PONG"]) is None
    assert trip.answers == ["released", "PONG"]


def test_nothing_asked_sends_nothing() -> None:
    trip = Round([])
    assert trip.commands == []
    assert (trip.heard([]), trip.answers) == (None, [])


def test_an_unknown_script_is_loaded_and_all_is_said_again() -> None:
    trip = Round([PING, CALL, CALL])
    assert trip.heard(["PONG", NoScriptError("NOSCRIPT"), NoScriptError("NOSCRIPT")]) == 0
    assert trip.commands == [LOAD, PING, EVALSHA, EVALSHA]
    assert trip.heard([SCRIPT.sha, "PONG", "released", "not_ours"]) is None
    assert trip.answers == ["PONG", "released", "not_ours"]


def test_a_script_that_is_forgotten_again_and_again_is_an_error() -> None:
    trip = Round([CALL])
    assert trip.heard([NoScriptError("NOSCRIPT")]) == 0
    assert trip.heard([SCRIPT.sha, NoScriptError("NOSCRIPT")]) == 0
    assert trip.commands == [LOAD, EVALSHA]
    with pytest.raises(NoScriptError):
        trip.heard([SCRIPT.sha, NoScriptError("NOSCRIPT")])


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
    with pytest.raises(error, match=f"^{says}$"):
        Round([PING, CALL]).heard(["PONG", ResponseError(text)])


def test_an_error_is_raised_where_the_exchange_asked() -> None:
    def careful() -> Exchange[str]:
        try:
            yield [PING]
        except ResponseError:
            (answer,) = yield [PING]
            return f"second {answer}"
        return "first"

    client = Answering(ResponseError("ERR"), "PONG")
    assert drive(client, careful()) == "second PONG"
    assert client.asked == [PING, PING]
    assert client.lent == 0


def test_what_an_exchange_holds_is_given_back_when_its_driver_gives_up() -> None:
    seen: list[str] = []

    def holding() -> Exchange[None]:
        try:
            yield Pause(5)
        except Exception:
            seen.append("not an error of its own")
        finally:
            seen.append("given back")

    def interrupted(step: Pause) -> float:
        seen.append(f"{step.seconds:g}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as kept:
        drive(Answering(), holding(), pause=interrupted)
    assert seen == ["5", "given back"]
    assert kept.value.__traceback__  # which still holds the exchange


def test_a_pause_is_answered_with_the_time() -> None:
    def waiting() -> Exchange[float]:
        now: float = yield Pause()
        return now

    assert drive(Answering(), waiting(), pause=lambda _: 12.5) == 12.5


def test_what_is_not_answered_is_sent_again_after_a_pause() -> None:
    trip = PatientRound([CALL], 10)
    for longest_s in (0.05, 0.1, 0.2):
        assert trip.heard([NoScriptError("NOSCRIPT")]) == 0
        delay_s = trip.heard([redis.ConnectionError("cut")] * 2)
        assert delay_s
        assert longest_s / 2 <= delay_s <= longest_s
        assert trip.commands == [EVALSHA]
    assert trip.heard(["released"]) is None
    assert trip.answers == ["released"]


def test_after_the_deadline_it_is_unconfirmed_or_was_never_sent() -> None:
    with pytest.raises(Unconfirmed, match="within 0 s"):
        PatientRound([PING], 0).heard([redis.TimeoutError("slow")])
    with pytest.raises(Unavailable) as refused:
        PatientRound([PING], 0).heard([ResponseError("LOADING")])
    assert not isinstance(refused.value, Unconfirmed)
    late = PatientRound([PING], 10)
    late._began_at -= 10  # the time of the sending itself counts
    with pytest.raises(Unconfirmed, match="within 10 s"):
        late.heard([redis.TimeoutError("slow")])


def test_what_runs_a_script_is_answered_when_a_replica_has_it() -> None:
    trip = PatientRound([CALL], 10, 1)
    assert trip.commands == [EVALSHA, WAIT]
    assert trip.heard([NoScriptError("NOSCRIPT"), 1]) == 0
    assert trip.commands == [LOAD, EVALSHA, WAIT]
    delay_s = trip.heard([SCRIPT.sha, "released", 0])
    assert delay_s
    assert trip.commands == [EVALSHA, WAIT]
    assert trip.heard(["not_ours", 1]) is None
    assert trip.answers == ["not_ours"]


def test_what_too_few_replicas_have_is_unconfirmed() -> None:
    with pytest.raises(Unconfirmed, match="0 of 1 replicas") as caught:
        PatientRound([CALL], 0, 1).heard(["released", 0])
    assert isinstance(caught.value.__cause__, UnreplicatedError)


def test_what_only_reads_asks_no_replica() -> None:
    assert PatientRound([PING], 10, 1).commands == [PING]
