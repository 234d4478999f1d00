"""How fast agents are seen to be, and the classes that they move to for it."""

from __future__ import annotations

import math
import random

import pytest

from balancer.core.effort import Cell, variance
from balancer.core.lanes import LEARNED_STEP, class_definition, read_class
from balancer.core.pace import MAX_STEPS, MIN_STEPS, Pace, next_steps, step_at
from balancer.ledger import Pool
from balancer.ledger.audit import audit
from balancer.ledger.tick import tick
from tests.ledger.test_effort import class_of, run
from tests.support.factories import (
    Clock,
    assign,
    beat,
    changes,
    complete,
    completion_entry,
    dump,
    make_task,
    settle,
    structure_violations,
    submit,
)

CATEGORIES = ("bug", "feature", "docs")


def work(
    pool: Pool, clock: Clock, rounds: int, first: int = 0, **speeds: dict[str, float] | float
) -> None:
    """Agents do tasks of every category in turn; each takes a minute at speed 1."""
    for i in range(first, first + rounds):
        for category in CATEGORIES:
            for agent, said in speeds.items():
                speed = said if isinstance(said, float) else said.get(category, said.get("", 1.0))
                task = make_task(f"{agent}-{category}-{i}", category=category)
                run(pool, clock, task, round(60_000 / speed), agent)


def sound(pool: Pool) -> None:
    assert structure_violations(dump(pool.client), pool.keys.prefix) == []
    assert audit(pool).clean


def test_agents_move_to_the_class_of_those_as_fast(virtual_pool: Pool, clock: Clock) -> None:
    for agent in ("plain", "slow", "special"):
        beat(virtual_pool, agent)
    declared = virtual_pool.client.hget(virtual_pool.keys.agent("slow"), "class")

    work(virtual_pool, clock, 30, plain=1.0, slow=0.5, special={"docs": 2.0})

    slow, special = class_of(virtual_pool, "slow"), class_of(virtual_pool, "special")
    plain = class_of(virtual_pool, "plain")
    for category in CATEGORIES:
        ratio = slow.speed_of(category) / plain.speed_of(category)
        assert 0.4 < ratio < 0.65, (category, ratio)
    assert special.speed_of("docs") / plain.speed_of("docs") > 1.4
    assert 0.75 < special.speed_of("bug") / plain.speed_of("bug") < 1.3
    assert "docs" in dict(special.learned)
    cid = virtual_pool.client.hget(virtual_pool.keys.agent("slow"), "class")
    assert cid.startswith(f"{declared}+s")
    assert class_definition(slow)[0] == cid
    sound(virtual_pool)


def test_agents_that_are_as_fast_as_they_declare_stay(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool, "one", speed=1.0)
    beat(virtual_pool, "two", speed=2.0, speeds={"bug": 4.0})
    before = {a: class_of(virtual_pool, a) for a in ("one", "two")}

    work(virtual_pool, clock, 20, one=1.0, two={"": 2.0, "bug": 4.0})

    assert {a: class_of(virtual_pool, a) for a in ("one", "two")} == before


def test_failed_tries_count_as_time_lost(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool, "good", max_concurrent=2)
    beat(virtual_pool, "bad", max_concurrent=2)
    for i in range(40):
        run(virtual_pool, clock, f"g{i}", 60_000, "good")
        submit(virtual_pool, make_task(f"b{i}", max_failures=1))
        assign(virtual_pool, f"b{i}", "bad")
        complete(virtual_pool, f"b{i}", "failed")
        run(virtual_pool, clock, f"c{i}", 60_000, "bad")

    good, bad = class_of(virtual_pool, "good"), class_of(virtual_pool, "bad")
    assert dict(bad.learned).get("", 0) <= -1
    assert bad.speed_of("general") < good.speed_of("general")
    pace = Pace.read(virtual_pool.client.hget(virtual_pool.keys.agent("bad"), "pace"))
    assert pace.share == pytest.approx(0.5, abs=0.02)
    sound(virtual_pool)


def test_what_was_learned_outlives_restarts_and_ends_with_another_declaration(
    virtual_pool: Pool, clock: Clock
) -> None:
    for agent in ("plain", "slow"):
        beat(virtual_pool, agent)
    work(virtual_pool, clock, 20, plain=1.0, slow=0.4)
    learned = class_of(virtual_pool, "slow").learned
    assert learned

    with changes(virtual_pool) as seen:
        assert beat(virtual_pool, "slow") == "ok"
    assert not any(name.startswith("agent:slow class") for name in seen.state)
    beat(virtual_pool, "slow", mode="stopped")
    sound(virtual_pool)
    assert beat(virtual_pool, "slow", 2, start=True) == "new_boot"
    assert class_of(virtual_pool, "slow").learned == learned
    assert beat(virtual_pool, "slow", 2, max_concurrent=7) == "changed"
    cls = class_of(virtual_pool, "slow")
    assert (cls.learned, cls.max_concurrent) == (learned, 7)
    sound(virtual_pool)

    assert beat(virtual_pool, "slow", 2, max_concurrent=7, speed=0.4) == "changed"

    assert class_of(virtual_pool, "slow").learned == ()
    fields = virtual_pool.client.hkeys(virtual_pool.keys.agent("slow"))
    assert not [name for name in fields if name.startswith(("pace", "learned"))]
    sound(virtual_pool)


def test_an_agent_that_is_forgotten_takes_its_pace_with_it(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool, "a1")
    work(virtual_pool, clock, 3, a1=1.0)
    beat(virtual_pool, "a1", mode="stopped")
    clock.advance(2 * 86_400)
    tick(virtual_pool)

    assert not virtual_pool.client.exists(virtual_pool.keys.agent("a1"))
    assert not [name for name in virtual_pool.client.hkeys(virtual_pool.keys.est) if "a1" in name]


def test_classes_are_bounded(virtual_pool: Pool, clock: Clock) -> None:
    for agent in ("plain", "slow"):
        beat(virtual_pool, agent)
    others = {f"v1{n:014x}": "1" for n in range(200)}
    virtual_pool.client.hset(virtual_pool.keys.classn, mapping=others)

    work(virtual_pool, clock, 20, plain=1.0, slow=0.4)

    assert class_of(virtual_pool, "slow").learned == ()
    virtual_pool.client.hdel(virtual_pool.keys.classn, *others)


@pytest.mark.parametrize("seed", range(3))
def test_paces_in_redis_are_those_of_the_twin(virtual_pool: Pool, clock: Clock, seed: int) -> None:
    """Steps follow from what is stored, by the formulas of core/pace.py."""
    rng = random.Random(seed)
    for agent in ("a", "b", "c"):
        beat(virtual_pool, agent)
    for i in range(150):
        agent, category = rng.choice("abc"), rng.choice(CATEGORIES)
        before = class_of(virtual_pool, agent)
        known = Pace.read(virtual_pool.client.hget(virtual_pool.keys.agent(agent), "pace"))
        spread = _spread(virtual_pool)
        took_ms = round(60_000 * math.exp(rng.gauss(ord(agent) - 98, 0.5)))
        run(virtual_pool, clock, make_task(f"t{i}", category=category), took_ms, agent)

        texts = virtual_pool.client.hmget(
            virtual_pool.keys.agent(agent), "pace", f"pace:{category}"
        )
        pace = Pace.read(texts[0])
        assert (pace.tries, pace.share) == (known.tried(1).tries, 1.0)
        own = Cell(0, 0.0) if texts[1] is None else Cell(*_pair(texts[1]))
        expected = next_steps(dict(before.learned), *pace.levels({category: own}, spread))
        assert dict(class_of(virtual_pool, agent).learned) == expected
    sound(virtual_pool)


def _pair(text: str) -> tuple[int, float]:
    n, mean = text.split(" ")
    return int(n), int(mean) / 10_000


def _spread(pool: Pool) -> float:
    """What the ladder of the role has left unexplained so far."""
    texts = pool.client.hmget(pool.keys.est, "m", "m:dev")
    words = [(text or "").split(" ") for text in texts]
    basis, role = (Cell(int(w[2]), float(w[3])) if len(w) == 7 else Cell() for w in words)
    return variance(basis, role)


def test_steps_are_taken_late_and_bounded() -> None:
    assert step_at(0, 0.6) == 0
    assert step_at(0, 0.61) == 1
    assert step_at(1, 0.45) == 1
    assert step_at(1, 0.39) == 0
    assert step_at(0, 40.0) == MAX_STEPS
    assert step_at(0, -40.0) == MIN_STEPS


def test_at_most_three_categories_differ_those_that_differ_most() -> None:
    steps = next_steps({"": 1, "a": 2}, None, {"b": 3.0, "c": -2.0, "d": 4.0})

    assert steps == {"": 1, "b": 3, "c": -2, "d": 4}
    assert next_steps({"": 1, "a": 2}, 2.0, {}) == {"": 2}
    assert next_steps({}, 0.1, {"a": 0.2}) == {}


def test_few_tries_say_little() -> None:
    few = Pace(7, 1.0, 7, 1.0)

    assert few.levels({}, 0.5) == (None, {})
    many, _ = few._replace(n=200, tries=200).levels({}, 0.5)
    some, _ = few._replace(n=8, tries=8).levels({}, 0.5)
    assert many is not None
    assert some is not None
    assert 0 < some < many < 1 / math.log(LEARNED_STEP)


def test_definition_of_a_learned_class_reads_back() -> None:
    text = '{"max_concurrent":1,"role":"dev","specializations":[],"v":1,"learned":{"":-1,"bug":2}}'

    assert class_definition(read_class(text))[1] == text


def test_of_a_large_call_one_try_in_sixteen_shows_its_agents_pace(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool, "a1", max_concurrent=40)
    names = [f"t{i}" for i in range(40)]
    submit(virtual_pool, *names)
    nonces = [assign(virtual_pool, name, "a1", lease=name) for name in names]
    clock.advance(60)
    entries = [completion_entry(virtual_pool, name, duration_ms=60_000) for name in names]

    assert set(settle(virtual_pool, *entries)) == {"ok"}

    shown = sum(nonce[0] == "0" for nonce in nonces)
    assert 0 < shown < 40
    pace = Pace.read(virtual_pool.client.hget(virtual_pool.keys.agent("a1"), "pace"))
    assert pace.tries == shown
    cell = virtual_pool.client.hget(virtual_pool.keys.est, "m:dev:general") or ""
    assert cell.startswith("30 "), "all of them count for what work takes, as far as it remembers"
    sound(virtual_pool)


def test_tries_that_take_no_time_on_the_pools_clock_are_counted(
    virtual_pool: Pool, clock: Clock
) -> None:
    """An agent that was freed at this very moment already has its pace written nevertheless."""
    beat(virtual_pool, "a1")
    paces = []
    for i in range(3):
        submit(virtual_pool, make_task(f"t{i}"))
        assign(virtual_pool, f"t{i}", "a1")
        complete(virtual_pool, f"t{i}", "failed")
        paces.append(Pace.read(virtual_pool.client.hget(virtual_pool.keys.agent("a1"), "pace")))

    assert [(pace.tries, pace.share) for pace in paces] == [(1, 0.0), (2, 0.0), (3, 0.0)]
    sound(virtual_pool)
