"""What a process is told to begin with: it does not begin, says all that is wrong, and has touched nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from balancer.protocol import TextRedis
from tests.bad_input.conftest import SECRET, Command, Unchanged, told


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `balancer.toml` of the directory in which commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "balancer.toml"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            "[pool]\nstrategi = 'x'", ["pool.strategi: unknown key", "'strategy'"], id="unknown-key"
        ),
        pytest.param(
            "[serve]\ntick_s = 20",
            ["silent_s of 30", "two passes of 20"],
            id="timeout-of-two-intervals",
        ),
        pytest.param(
            "[pool]\nserializer = 'pickle'",
            ["pool.serializer: unknown key"],
            id="serializer-pickle",
        ),
        pytest.param(
            "[pool]\nmax_pending = 0",
            ["pool.max_pending: 0 is not within 1 to"],
            id="max-pending-0",
        ),
        pytest.param(
            "[redis]\nurl = 'redis://h:70000'", ["redis.url", "1 to 65535"], id="port-70000"
        ),
        pytest.param(
            "[pool]\nretry_delay_s = '30s'", ["pool.retry_delay_s: '30s' is not a number"], id="30s"
        ),
        pytest.param(
            "[pool]\nretry_delay_s = '30'",
            ["pool.retry_delay_s: '30' is not a number"],
            id="30-as-text",
        ),
        pytest.param(
            "[pool]\nmax_concurrent = nan",
            ["pool.max_concurrent: nan is not a whole number"],
            id="nan",
        ),
        pytest.param(
            "[pool]\nmax_concurrent = inf",
            ["pool.max_concurrent: inf is not a whole number"],
            id="inf",
        ),
        pytest.param(
            "[pool]\nmax_concurrent = '0x10'",
            ["pool.max_concurrent: '0x10' is not a whole"],
            id="0x10",
        ),
        pytest.param(
            "[pool]\nmax_concurrent = -1", ["pool.max_concurrent: -1 is not within"], id="negative"
        ),
        pytest.param(
            "[pool]\nmax_concurrent = 1000000000",
            ["max_concurrent: 1000000000 is not within"],
            id="10^9",
        ),
        pytest.param(
            "[pool]\nmax_cost = true", ["pool.max_cost: true is not a whole number"], id="true"
        ),
        pytest.param(
            "x = !!python/object/apply:os.system ['x']", ["is not TOML"], id="python-object"
        ),
        pytest.param('[pool]\ngenesis = "a\\u0000b"', [r"pool.genesis: 'a\x00b'"], id="nul"),
        pytest.param(
            "[roles.'{x}']\nagents = 1", ["roles.{x}: '{x}' is not a name"], id="role-braces"
        ),
        pytest.param("[roles.'a:b']\nagents = 1", ["'a:b' is not a name"], id="role-colon"),
        pytest.param(f"[redis]\nurl = 'http://u:{SECRET}@h'", ["redis.url", "scheme"], id="http"),
    ],
)
def test_a_file(
    command: Command, unchanged: Unchanged, file: Path, text: str, words: list[str]
) -> None:
    file.touch(mode=0o600)
    file.write_text(text)
    if "redis" in text:
        del os.environ["BALANCER_REDIS_URL"]  # the fixture puts it back
    with unchanged():
        for arguments in (["serve"], ["status"], ["config", "check"]):
            told(command(*arguments, "--json"), *words, str(file), code=78, kind="configuration")


@pytest.mark.parametrize(
    "value", ["", " ", "nan", "1e3", "0x10", "1_000", "\uff11\uff12", "-1", "1000000000", "30s"]
)
def test_a_variable(
    command: Command, unchanged: Unchanged, file: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:  # fmt: skip
    monkeypatch.setenv("BALANCER_POOL_MAX_CONCURRENT", value)
    with unchanged():
        for name in ("serve", "status"):
            answer = command(name, "--json")
            told(
                answer,
                "pool.max_concurrent: ",
                "BALANCER_POOL_MAX_CONCURRENT",
                code=78,
                kind="configuration",
            )


def test_all_that_is_wrong_is_said_at_once(
    command: Command, unchanged: Unchanged, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[pool]\nmax_losses = 0\nmin_health = 2\n[roles.dev]\nmax_cost = 0\n")
    monkeypatch.setenv("BALANCER_POOL_MAX_PENDING", "0")
    with unchanged():
        answer = command("serve", "--json")
    keys = ("pool.max_pending", "pool.max_losses", "pool.min_health", "roles.dev.max_cost")
    told(answer, *keys, code=78, kind="configuration")
    assert answer.error["message"].count("\n") == len(keys) - 1


def _world_readable(file: Path) -> None:
    file.touch(mode=0o644)
    file.write_text(f"[redis]\nurl = 'redis://:{SECRET}@h/0'\n")


def _large(file: Path) -> None:
    with file.open("wb") as large:
        large.truncate(1 << 30)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(_large, "larger than 1 MiB", id="1-gb"),
        pytest.param(_world_readable, "every user of this machine can read", id="world-readable"),
        pytest.param(lambda file: file.mkdir(), "Is a directory", id="directory"),
        pytest.param(lambda file: file.write_bytes(b"\xff\xfe"), "not UTF-8", id="not-utf-8"),
    ],
)
def test_a_file_that_is_none(
    command: Command, unchanged: Unchanged, file: Path, make: Callable[[Path], object], said: str
) -> None:  # fmt: skip
    make(file)
    with unchanged():
        told(command("serve", "--json"), str(file), said, code=78, kind="configuration")


def test_a_file_that_is_not_there(command: Command, unchanged: Unchanged) -> None:
    with unchanged():
        answer = command("serve", "--config", "/nowhere.toml", "--json")
    told(answer, "--config: cannot read '/nowhere.toml'", code=78, kind="configuration")


# --- a Redis that is not fit ---


def _evicts(client: TextRedis) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")


def _newer(client: TextRedis) -> None:
    client.hset("wb:{p}:meta", mapping={"schema": 99, "min_reader": 99})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(_evicts, ["allkeys-lru"], id="eviction-on"),
        pytest.param(lambda c: c.set("wb:{p}:completed", "x"), ["wb:{p}:completed"], id="wrong-type"),
        pytest.param(_newer, ["version 99"], id="newer-schema"),
    ],
)  # fmt: skip
@pytest.mark.damaged
def test_a_redis_that_is_not_fit_is_not_served(
    command: Command, unchanged: Unchanged, redis_client: TextRedis,
    spoil: Callable[[TextRedis], object], words: list[str],
) -> None:  # fmt: skip
    """`doctor` says so, too, among the rest."""
    spoil(redis_client)
    try:
        with unchanged():
            doctor, serve = command("doctor", "--json"), command("serve", "--json")
    finally:
        redis_client.config_set("maxmemory-policy", "noeviction")
        redis_client.flushall()
    assert doctor.code != 0
    assert (serve.code != 0, serve.out) == (True, "")
    for word in words:
        assert word in doctor.out
        assert word in serve.err
