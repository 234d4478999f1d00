"""What each error of Redis means: as the client makes it from the server's own words."""

from __future__ import annotations

from typing import Any

import pytest
from redis import exceptions as errors
from redis._parsers.base import BaseParser

from balancer.protocol.causes import (
    ALARMS,
    FIRST_BACKOFF_S,
    LAST_BACKOFF_S,
    LAST_DENIED_BACKOFF_S,
    REACTIONS,
    NotRoutedError,
    Reaction,
    UnreplicatedError,
    backoff_s,
    cause,
    is_unsent,
    mark_unsent,
)

#: What servers of 6.2 and 7.0 say, to a plain command or from within a script.
SAID = {
    "LOADING Redis is loading the dataset in memory": "LOADING",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": "MASTERDOWN",
    "CLUSTERDOWN Hash slot not served": "CLUSTERDOWN",
    "CLUSTERDOWN The cluster is down": "CLUSTERDOWN",
    "TRYAGAIN Multiple keys request during rehashing of slot": "TRYAGAIN",
    "ASK 3999 127.0.0.1:6381": "ASK",
    "MOVED 3999 127.0.0.1:6381": "MOVED",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.": "BUSY",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist": "MISCONF",
    "MISCONF Errors writing to the AOF file: No space left on device": "MISCONF",
    "EXECABORT Transaction discarded because of previous errors.": "EXECABORT",
    "NOSCRIPT No matching script. Please use EVAL.": "NOSCRIPT",
    "NOGROUP No such key 'x' or consumer group 'y' in XREADGROUP with GROUP option": "NOGROUP",
    "READONLY You can't write against a read only replica.": "READONLY",
    "READONLY You can't write against a read only replica. script: 12ab, on @user_script:3.": "READONLY",
    "ERR Error running script (call to f_12ab): @user_script:3: @user_script: 3: -READONLY You can't write "
    "against a read only replica.": "READONLY",
    "NOREPLICAS Not enough good replicas to write.": "NOREPLICAS",
    "ERR Error running script (call to f_12ab): @user_script:3: @user_script: 3: -NOREPLICAS Not enough good "
    "replicas to write.": "NOREPLICAS",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)": "UNBLOCKED",
    "OOM command not allowed when used memory > 'maxmemory'.": "OOM",
    "OOM command not allowed when used memory > 'maxmemory'. script: 12ab, on @user_script:3.": "OOM",
    "ERR Error running script (call to f_12ab): @user_script:3: @user_script: 3: -OOM command not allowed when "
    "used memory > 'maxmemory'.": "OOM",
    "NOAUTH Authentication required.": "WRONGPASS",
    "NOAUTH HELLO must be called with the client already authenticated": "WRONGPASS",
    "WRONGPASS invalid username-password pair or user is disabled.": "WRONGPASS",
    "ERR AUTH <password> called without any password configured for the default user. Are you sure your "
    "configuration is correct?": "WRONGPASS",
    "NOPERM User a has no permissions to run the 'xadd' command": "NOPERM",
    "NOPERM this user has no permissions to access one of the keys used as arguments": "NOPERM",
    "ERR Error running script (call to f_12ab): @user_script:3: @user_script: 3: -NOPERM The user executing the "
    "script can't access at least one of the keys mentioned in the command arguments": "NOPERM",
    "WRONGTYPE Operation against a key holding the wrong kind of value": "WRONGTYPE",
    "WRONGTYPE Operation against a key holding the wrong kind of value script: 12ab, on @user_script:3.": "WRONGTYPE",
    "ERR Error running script (call to f_12ab): @user_script:3: WRONGTYPE Operation against a key holding the "
    "wrong kind of value": "WRONGTYPE",
    "CROSSSLOT Keys in request don't hash to the same slot": "CROSSSLOT",
    "ERR Error running script (call to f_12ab): @user_script:3: @user_script: 3: Lua script attempted to access "
    "a non local key in a cluster node": "CROSSSLOT",
    "ERR Script attempted to access a non local key in a cluster node script: 12ab, on @user_script:3.": "CROSSSLOT",
    "ERR max number of clients reached": "MAXCLIENTS",
    "ERR DB index is out of range": "DATABASE",
    "ERR unknown command 'HELLO', with args beginning with: '3' ": "COMMAND",
    "ERR wrong number of arguments for 'xadd' command": "ERR",
    "ERR Error running script (call to f_12ab): @user_script:3: attempt to index a nil value": "ERR",
    "BUSYGROUP Consumer Group name already exists": "ERR",
}


@pytest.mark.parametrize(("line", "code"), SAID.items(), ids=lambda text: text[:40])
def test_a_servers_words(line: str, code: str) -> None:
    parser: Any = BaseParser
    found = cause(parser.parse_error(line))
    assert found == (code, REACTIONS[code])
    assert found.is_alarm == (code in ALARMS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConnectionError("Error 111 connecting to h:1. Connection refused."), "CONNECTION"),
        (errors.TimeoutError("Timeout reading from h:1"), "TIMEOUT"),
        (errors.MaxConnectionsError("Too many connections"), "MAXCLIENTS"),
        (errors.InvalidResponse("Protocol Error: b'x'"), "PROTOCOL"),
        (
            errors.ConnectionError(
                "Error 1 connecting to h:1. [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"
            ),
            "CERTIFICATE",
        ),
        (NotRoutedError("MOVED"), "NOTROUTED"),
        (UnreplicatedError("0 of 1"), "UNREPLICATED"),
        (errors.DataError("Invalid input of type: 'NoneType'"), "ERR"),
        (errors.ResponseError("OOMPH"), "ERR"),
    ],
)
def test_errors_of_the_client(error: errors.RedisError, code: str) -> None:
    assert cause(error).code == code


def test_every_code_is_told_apart_by_a_test() -> None:
    told = {*SAID.values(), "CONNECTION", "TIMEOUT", "PROTOCOL", "CERTIFICATE", "NOTROUTED"}
    told |= {"UNREPLICATED"}
    # The client makes one error of NOAUTH and WRONGPASS.
    assert told | {"NOAUTH"} == REACTIONS.keys()


def test_somebody_has_to_look_at_what_does_not_pass_by_itself() -> None:
    lasting = {Reaction.FULL, Reaction.DENIED, Reaction.SETUP, Reaction.BROKEN}
    assert {code for code, reaction in REACTIONS.items() if reaction in lasting} <= ALARMS
    assert {"BUSY", "MISCONF", "NOGROUP"} <= ALARMS
    assert not {"CONNECTION", "TIMEOUT", "LOADING", "READONLY", "ERR"} & ALARMS


@pytest.mark.parametrize(
    ("reaction", "last_s"),
    [
        (
            reaction,
            LAST_DENIED_BACKOFF_S if reaction.value in ("denied", "setup") else LAST_BACKOFF_S,
        )
        for reaction in Reaction
    ],
)
def test_back_off_doubles_and_is_bounded(reaction: Reaction, last_s: float) -> None:
    for failures in range(1, 40):
        most = min(last_s, FIRST_BACKOFF_S * 2 ** (failures - 1))
        assert most / 2 <= backoff_s(failures, reaction) <= most


def test_unsent_is_said_of_one_error_only() -> None:
    error = errors.ConnectionError("refused")
    assert not is_unsent(error)
    mark_unsent(error)
    assert is_unsent(error)
    assert not is_unsent(errors.ConnectionError("refused"))
