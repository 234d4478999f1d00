"""A strategy of the user's own: what is refused when it is loaded, and what when it answers."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import redis

from balancer.core.errors import Misconfigured
from balancer.core.lanes import AgentClass, Lane
from balancer.core.own_strategy import load_strategy
from balancer.core.planner import Planner
from balancer.core.settings import PoolSettings
from balancer.core.view import FreeAgent, View
from balancer.ledger import Pool
from balancer.ledger.read_tasks import task_statuses
from balancer.loops.drainer import Drainer
from tests.support.factories import beat, dump, make_task, submit

GOOD = """
class Own:
    name = "own"
    order = "grant"
    def __init__(self, settings):
        self.settings = settings
    def agent_part(self, agent):
        return {"turn": agent.turn}
    def match_part(self, lane, cls):
        return {}
"""
AGENT = FreeAgent("a1", "", 2, 1, 1.0, 0, 0.25)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Where a module of the test's own text can be imported from; its name."""
    name = f"own_{abs(hash(request.node.name))}"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return name


def write(tmp_path: Path, name: str, text: str) -> PoolSettings:
    (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    return PoolSettings(strategy=f"{name}:Own")


def test_a_class_by_its_path_is_made_with_the_settings(tmp_path: Path, written: str) -> None:
    settings = write(tmp_path, written, GOOD)

    strategy = load_strategy(settings)

    assert (strategy.name, strategy.order) == ("own", "grant")
    assert strategy.agent_part(AGENT) == {"turn": 0.25}
    assert strategy.match_part(Lane("dev", "bug", 1), AgentClass("dev", (), 2)) == {}
    assert Planner(settings).plan(View(0, False, [])) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("class Own", "class Other", "there is no class Own in"),
        ("class Own", "Own = 5\nclass Other", "there is no class Own in"),
        ("class Own", "import nowhere_at_all\nclass Own", "there is no module nowhere_at_all"),
        ("class Own", "1 / 0\nclass Own", "importing it failed: ZeroDivisionError: division"),
        ("class Own", "class Own(", "importing it failed: SyntaxError"),
        ("self.settings = settings", "raise KeyError('x')", "Own(settings) failed: KeyError: 'x'"),
        ("(self, settings)", "(self)", "Own(settings) failed: TypeError"),
        ('name = "own"', 'name = "a|b"', "its name is 'a|b', not letters"),
        ('name = "own"', "", "its name is None"),
        ('order = "grant"', 'order = "speed"', "its order is 'speed', none of load, grant, draw"),
        ('order = "grant"', "", "its order is None"),
        ("def agent_part", "def agent", "it has no method agent_part"),
        ("def match_part", "def match", "it has no method match_part"),
        ("return {}", "return None", "match_part answers None, not a dict"),
        ("return {}", "return {'a': 'b'}", "match_part answers 'a': 'b'"),
        ("return {}", "return {'a,b': 1}", "match_part answers 'a,b': 1"),
        ("agent.turn}", "float('nan')}", "agent_part answers 'turn': nan"),
        ("agent.turn}", "float('inf')}", "agent_part answers 'turn': inf"),
        ("agent.turn}", "10**400}", "agent_part answers 'turn': 1000"),
        ("agent.turn}", "-1.7e308}", "agent_part answers 'turn': -1.7e+308"),
        ("agent.turn}", "agent.speed}", "agent_part failed: AttributeError"),
        ("return {}", "return dict.fromkeys('abcdefghijklmnopq', 1)", "match_part answers"),
    ],
)
def test_what_is_no_strategy_is_refused_by_its_path_and_the_reason(
    tmp_path: Path, written: str, old: str, new: str, says: str
) -> None:
    assert old in GOOD
    settings = write(tmp_path, written, GOOD.replace(old, new))

    with pytest.raises(Misconfigured, match=re.escape(says)) as error:
        load_strategy(settings)

    assert f"'{written}:Own'" in str(error.value)


def test_a_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(Misconfigured, match="there is no module nowhere_at_all to import"):
        load_strategy(PoolSettings(strategy="nowhere_at_all.strategies:Own"))


def test_what_stops_being_a_score_later_is_told(tmp_path: Path, written: str) -> None:
    text = GOOD.replace("agent.turn}", "1 / (agent.used - 2)}")
    strategy = load_strategy(write(tmp_path, written, text))

    with pytest.raises(Misconfigured, match="agent_part failed: ZeroDivisionError"):
        strategy.agent_part(AGENT._replace(used=2))


def test_a_pool_is_not_created_with_what_is_no_strategy(redis_client: redis.Redis) -> None:
    with pytest.raises(Misconfigured, match="nowhere_at_all"):
        Pool.create(redis_client, "p", PoolSettings(strategy="nowhere_at_all:Own"))

    assert dump(redis_client) == {}


def test_the_program_of_the_documentation_decides(
    redis_client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands in docs/concepts.md: a busy specialist goes before an idle generalist."""
    text = (Path(__file__).parents[2] / "docs/concepts.md").read_text(encoding="utf-8")
    found = re.search(r"^```python strategies.py\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    (tmp_path / "strategies.py").write_text(found[1], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    settings = PoolSettings(strategy="strategies:SpecialistsFirst")
    pool = Pool.create(redis_client, "p", settings)
    beat(pool, "generalist", max_concurrent=10)
    beat(pool, "specialist", max_concurrent=10, specializations=("bug",))
    submit(pool, *(make_task(f"t{n}", category="bug") for n in range(9)))
    submit(pool, make_task("other", category="docs"))

    assert Drainer(pool, redis_client).step().assigned == 10

    statuses = task_statuses(pool, [*(f"t{n}" for n in range(9)), "other"])
    assert [s.agent for s in statuses if s] == ["specialist"] * 9 + ["generalist"]
    first = statuses[0]
    assert first
    assert first.assignment
    assert first.assignment.reason == "Specialists first: specialist (score: 11.00)"
    assert first.assignment.scores == {"load": 1.0, "specialist": 10.0}


def test_a_producer_of_such_a_pool_needs_no_strategy(
    redis_client: redis.Redis, tmp_path: Path, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what decides has to import it."""
    Pool.create(redis_client, "p", write(tmp_path, written, GOOD))
    (tmp_path / f"{written}.py").unlink()
    monkeypatch.delitem(sys.modules, written)

    pool = Pool.open(redis_client, "p")
    assert submit(pool, "t1") == ["accepted"]
    with pytest.raises(Misconfigured, match="no module"):
        Drainer(pool, redis_client)
