"""Which flags the commands that are printed repeat."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from balancer.cli.again import remember, repeated


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    remember()


def test_without_flags_nothing_is_repeated() -> None:
    remember()
    assert repeated("look at: balancer agent show a1") == "look at: balancer agent show a1"


def test_flags_stand_before_what_the_command_is_about() -> None:
    remember("b.toml", "redis://10.0.0.1:6379/0", "builds")
    flags = "--config b.toml --redis-url redis://10.0.0.1:6379/0 --pool builds"
    assert repeated("`balancer task why`: x") == f"`balancer task why {flags}`: x"
    assert repeated("worker run --role d -- P") == (
        f"worker run {flags.partition('toml ')[2]} --role d -- P"
    )
    assert repeated("balancer dev or a balancer") == "balancer dev or a balancer"


@pytest.mark.parametrize(
    "url", ["redis://u:s3cret@h/0", "redis://:s3cret@h", "rediss://h?password=s3cret"]
)
def test_an_address_with_a_password_is_never_repeated(url: str) -> None:
    remember(redis_url=url, pool="p")
    assert repeated("balancer serve") == "balancer serve --pool p"
