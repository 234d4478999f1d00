"""What a file or standard input may hold instead of a task a line: it ends where it is read."""

from __future__ import annotations

import gzip
import json

import pytest

from balancer.cli.strict import MAX_BYTES
from balancer.ledger import Pool
from tests.bad_input.conftest import Command, Unchanged, told

TASK = b'{"role": "dev"}'


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"role=dev", ["line 1: 'role=dev' is not JSON"], id="not-json"),
        pytest.param(
            b"\xff\xfe" + TASK.decode().encode("utf-16-le"), ["UTF-16", "UTF-8"], id="utf-16-le"
        ),
        pytest.param(TASK.decode().encode("utf-16-be"), ["UTF-16", "UTF-8"], id="utf-16-be"),
        pytest.param(b"\xef\xbb\xbf" + TASK, ["byte order mark"], id="bom"),
        pytest.param(TASK + b" " + TASK, ["line 1: ", "Extra data"], id="two-documents"),
        pytest.param(b"[]", ["'[]' is not an object"], id="top-array"),
        pytest.param(b"null", ["'null' is not an object"], id="top-null"),
        pytest.param(b'"dev"', ["is not an object"], id="top-string"),
        pytest.param(b"7", ["'7' is not an object"], id="top-number"),
        pytest.param(b'{"role": "dev", "payload": NaN}', ["NaN is not JSON"], id="nan"),
        pytest.param(
            b'{"role": "dev", "payload": -Infinity}', ["-Infinity is not JSON"], id="infinity"
        ),
        pytest.param(
            b'{"role": "dev", "payload": 1e400}', ["inf is not a finite number"], id="1e400"
        ),
        pytest.param(
            b'{"role": "dev", "role": "ops"}', ["the key 'role' stands twice"], id="duplicate-key"
        ),
        pytest.param(b"[" * 100_000, ["nested too deep; at most 32"], id="depth-100000"),
        pytest.param(
            b'{"role": "dev", "payload": ' + b"9" * 5_000 + b"}",
            ["line 1: ", "digits"],
            id="int-5000-digits",
        ),
        pytest.param(b'{"role": "dev", "payload": 9007199254740993}', ["2^53"], id="int-2^53+1"),
        pytest.param(rb'{"role": "dev", "payload": "\ud800"}', ["lone surrogate"], id="surrogate"),
        pytest.param(b'{"role": "\xff"}', ["not UTF-8 at byte 10"], id="not-utf-8"),
        pytest.param(b'{"role": "d\x00v"}', ["line 1: "], id="nul"),
        pytest.param(gzip.compress(b" " * 10_000_000), ["JSON is UTF-8"], id="gzip-bomb"),
        pytest.param(
            json.dumps(
                {"role": "dev", "payload": dict.fromkeys(map(str, range(10**5)), 1)}
            ).encode(),
            ["more than 1000 keys"],
            id="10^5-keys",
        ),
        pytest.param(
            b'{"role": "dev", "payload": "' + b"x" * 70_000 + b'"}',
            ["payload", "at most 16384"],
            id="string-70000",
        ),
        pytest.param(b'{"role": "dev"\x1b[31m}', ["is not JSON"], id="escape-codes"),
    ],
)
def test_what_is_no_task(
    command: Command, pool: Pool, unchanged: Unchanged, data: bytes, words: list[str]
) -> None:
    with unchanged():
        answer = command("submit", "--file", "-", "--json", stdin=data)
        told(answer, "stdin", *words)
        assert len(answer.err) < 1_000
        assert command("submit", "--file", "-", stdin=data).code == 2


def test_reading_stops_at_the_limit(command: Command, pool: Pool, unchanged: Unchanged) -> None:
    """However much more there is."""
    with unchanged():
        answer = command("submit", "--file", "/dev/zero", "--json")
    told(answer, "/dev/zero: larger than 64 MiB; split it")
    assert MAX_BYTES == 64 << 20


@pytest.mark.parametrize("path", ["/nowhere", "/", "a\0b", ""])
def test_a_file_that_cannot_be_read(
    command: Command, pool: Pool, unchanged: Unchanged, path: str
) -> None:
    with unchanged():
        told(command("submit", "--file", path, "--json"), "--file: cannot read")
