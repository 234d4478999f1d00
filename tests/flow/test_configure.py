"""A pool that lives is configured anew: by the client, by the command, under work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from balancer import AsyncBalancer, Balancer
from balancer.core.errors import Conflict, InvalidInput, Misconfigured
from balancer.core.names import new_id
from balancer.core.settings import PoolSettings
from balancer.embedded import EmbeddedRedis
from balancer.ledger.pool import Pool
from balancer.protocol.connect import connect
from tests.flow.test_cli import Command, balancer, server
from tests.support.factories import changes, submit

__all__ = ["balancer", "server"]


@pytest.fixture
def pool(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A new pool that nobody serves, named by the environment."""
    monkeypatch.setenv("BALANCER_REDIS_URL", server.url)
    monkeypatch.setenv("BALANCER_POOL", name := new_id())
    with connect(server.url) as client:
        yield Pool.create(client, name, PoolSettings(strategy="best_match"))


def stored(pool: Pool) -> PoolSettings:
    return Pool.open(pool.client, pool.name).settings


def test_tables_are_changed_key_by_key(pool: Pool) -> None:
    with Balancer() as door:
        door.configure(head_start_s={"high": 5}, estimate_min={"bug": 7})
        now = door.configure(ageing=0.4, roles={"dev": {"max_cost": 3}})

    assert now == stored(pool)
    assert (now.head_start_s.high, now.head_start_s.critical) == (5, 3_600)
    assert (now.estimate_min["bug"], now.estimate_min["feature"]) == (7, 120)
    with Balancer() as door:
        now = door.configure(ageing=None, estimate_min={"bug": None}, roles={"dev": None})
    assert now.ageing == 0.2
    assert "bug" not in now.estimate_min
    assert not now.roles


def test_the_asyncio_client_does_the_same(pool: Pool) -> None:
    async def main() -> PoolSettings:
        async with AsyncBalancer() as door:
            return await door.configure(strategy="fit", priority_weight={"low": 0.5})

    now = asyncio.run(main())

    assert now == stored(pool)
    assert (now.strategy, now.priority_weight.low, now.priority_weight.high) == ("fit", 0.5, 4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"run_timeout_factor": 0.5},
            "run_timeout_factor: '0.5' is neither 0 (off) nor at least 1",
        ),
        ({"run_timeout_factor": 1001.0}, "run_timeout_factor"),
        ({"min_run_timeout_s": 0.5}, "min_run_timeout_s"),
        ({"min_success": 1.1}, "min_success"),
        ({"ageing": 0}, "ageing: '0' must be greater than or equal to 0.001"),
        ({"ageing": "0.4"}, "ageing: '0.4'"),
        ({"ageing": float("nan")}, "ageing"),
        ({"agening": 1}, "agening: unknown setting, did you mean 'ageing'?"),
        ({"strict_priority": 1}, "strict_priority: '1'"),
        ({"head_start_s": 5}, "head_start_s: 5 is not a table of settings"),
        ({"head_start_s": {"urgent": 5}}, "head_start_s.urgent: unknown setting"),
        ({"ageing": {"x": 1}}, "ageing"),
        ({"roles": {"a b": {}}}, "roles: 'a b' is not a name"),
        ({"roles": {"dev": None}}, "roles: 'dev' is not there to be taken out"),
        ({"urgent": None}, "settings: 'urgent' is not there to be taken out"),
        ({"strategy": "magic"}, "strategy: 'magic' is none of fit, "),
        ({"seed": object()}, "settings: "),
    ],
)
def test_a_broken_rule_changes_nothing(pool: Pool, change: dict[str, object], says: str) -> None:
    with Balancer() as door, changes(pool) as seen, pytest.raises(InvalidInput) as error:
        door.configure(**change)

    assert seen.nothing
    assert says in str(error.value)


def test_a_strategy_that_cannot_be_loaded_changes_nothing(pool: Pool) -> None:
    with Balancer() as door, changes(pool) as seen, pytest.raises(Misconfigured):
        door.configure(strategy="nowhere:Nobody")

    assert seen.nothing


def test_somebody_else_was_faster(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    from balancer.exchanges import configuring

    with Balancer() as door, Balancer() as other:
        real = configuring._judged

        def meanwhile(settings: dict[str, object]) -> PoolSettings:
            monkeypatch.setattr(configuring, "_judged", real)
            other.configure(max_losses=7)
            return real(settings)

        monkeypatch.setattr(configuring, "_judged", meanwhile)
        with pytest.raises(Conflict, match="somebody else"):
            door.configure(ageing=3)

    assert (stored(pool).max_losses, stored(pool).ageing) == (7, 0.2)


# --- the command ---


def test_configure_says_what_was_and_what_is(balancer: Command, pool: Pool) -> None:
    submit(pool, "t1")
    said = balancer(
        "configure", "--strategy", "fit", "--ageing", "0.4", "--strict-priority",
        "--set", "pool.head_start_s.low=5", "--set", "estimate_min.bug=null", "--json",
    )  # fmt: skip

    assert said.code == 0
    assert said.data["settings_ver"] == 2
    assert said.data["changed"] == {
        "strategy": ["best_match", "fit"],
        "ageing": [0.2, 0.4],
        "strict_priority": [False, True],
        "head_start_s.low": [0.0, 5.0],
        "estimate_min.bug": [60.0, None],
    }
    assert said.data["settings"] == stored(pool).model_dump(mode="json")
    assert pool.client.hget(pool.keys.rescore, "dev")
    shown = balancer("configure").out
    assert '"fit"' in shown
    again = balancer("configure", "--strategy", "fit")
    assert (again.code, again.out) == (0, "nothing changed\n")
    assert "ageing" in balancer("configure", "--ageing", "0.5").out


def test_taking_out_what_is_not_there_changes_nothing(balancer: Command, pool: Pool) -> None:
    with changes(pool) as seen:
        said = balancer("configure", "--set", "roles.dev.max_pending=null")
    assert (said.code, said.out) == (0, "nothing changed\n")
    assert seen.nothing
    # Beside what is said of such a role it is no mistake.
    balancer("configure", "--set", "roles.dev.max_pending=null", "--set", "roles.dev.max_cost=3")
    assert stored(pool).roles["dev"].max_cost == 3
    assert balancer("configure", "--set", "roles.dev.max_pending=null").out == "nothing changed\n"
    form = '["testing","bug"]'
    assert balancer("configure", "--set", f"specializations.qa={form}").code == 0
    assert stored(pool).specializations["qa"] == ("testing", "bug")


def test_a_strategy_of_ones_own_is_warned_about(balancer: Command, pool: Pool) -> None:
    """It is known here; whether balancers have it nobody knows."""
    path = "tests.ledger.test_why:ByName"
    said = balancer("configure", "--strategy", path)
    assert said.code == 0
    assert said.err.startswith(f"warning: {path} can be loaded here; a balancer that cannot")
    assert balancer("configure", "--ageing", "0.7").err == ""
    assert balancer("configure", "--strategy", "fit", "--json").data["warnings"] == []
    assert len(balancer("configure", "--strategy", path, "--json").data["warnings"]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--set", "ageing"], 2, "'ageing' is not KEY=VALUE"),
        (["--set", "a..b=1"], 2, "is not KEY=VALUE"),
        (["--set", "ageing=0"], 2, "ageing: '0'"),
        (["--set", "ageing=much"], 2, "ageing: 'much'"),
        (
            ["--set", "ageing.x=1", "--ageing", "3"],
            2,
            "--ageing and --set ageing.x=1: both say ageing",
        ),
        (
            ["--set", "ageing=1", "--ageing", "3"],
            2,
            "--ageing and --set ageing=1: both say ageing",
        ),
        (
            ["--strict-priority", "--set", "pool.strict_priority=false"],
            2,
            "--strict-priority and --set pool.strict_priority=false: both say strict_priority",
        ),
        (
            ["--set", "estimate_min.bug=1", "--set", "estimate_min.bug=2"],
            2,
            "--set estimate_min.bug=1 and --set estimate_min.bug=2: both say estimate_min.bug",
        ),
        (
            ["--set", 'roles.dev={"max_cost": 3}', "--set", "roles.dev.max_pending=9"],
            2,
            'roles.dev={"max_cost": 3} and --set roles.dev.max_pending=9: both say roles.dev',
        ),
        (
            ["--set", "specializations.qa=testing, bug"],
            2,
            """specializations.qa: 'testing, bug' is not a list such as '["testing","bug"]'""",
        ),
        (
            ["--set", "roles.dev.specializations=testing"],
            2,
            """roles.dev.specializations: 'testing' is not a list such as '["testing"]'""",
        ),
        (["--set", "roles.dev.max_pendin=null"], 2, "max_pendin"),
        (["--strategy", "magic"], 2, "strategy: 'magic'"),
        (["--strategy", "nowhere:Nobody"], 78, "no module nowhere"),
        (["--pool", "nobody"], 4, "no pool"),
    ],
)
def test_what_configure_refuses(
    balancer: Command, pool: Pool, arguments: list[str], code: int, says: str
) -> None:
    with changes(pool) as seen:
        said = balancer("configure", *arguments)

    assert (said.code, said.out) == (code, "")
    assert says in said.err
    assert seen.nothing
    assert json.loads(balancer("configure", "--json").out)["settings_ver"] == 1
