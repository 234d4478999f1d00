"""What is expected of work: learned when completions settle, frozen into tasks when they are submitted."""

from __future__ import annotations

import math
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

import pytest

from balancer.core import effort
from balancer.core.effort import Cell, Estimate, Kind, Scale, log_ratio
from balancer.core.hints import features_text, short_name
from balancer.core.lanes import AgentClass, read_class
from balancer.core.model import Task
from balancer.core.settings import PoolSettings
from balancer.ledger import Pool
from balancer.ledger.read_effort import effort_of
from balancer.ledger.read_fleet import queues
from balancer.ledger.rescore import rescore
from balancer.ledger.tick import tick
from balancer.protocol import TextRedis
from tests.support.factories import (
    Clock,
    assign,
    beat,
    changes,
    complete,
    completion_entry,
    make_task,
    settle,
    submit,
)

HOUR_MS = 3_600_000


class Twin:
    """The same learning in Python."""

    def __init__(self) -> None:
        self.cells: dict[str, Cell] = {}
        self.spread: dict[str, Cell] = {}
        self.scale: dict[str, Scale] = {}

    def estimate(self, task: Task, settings: PoolSettings) -> Estimate:
        kind, prior_ms = kind_of(task), prior_of(task, settings)
        cells = [self.cells.get(name, Cell()) for name in kind.cells()]
        basis, role = (self.spread.get(name, Cell()) for name in kind.cells()[:2])
        scale = self.scale.get(kind.cells()[1], Scale())
        spread = effort.variance(basis, role)
        return effort.estimate(prior_ms, cells, spread, scale, kind.basis)

    def learn(self, task: Task, settings: PoolSettings, work_ms: float) -> None:
        kind, prior_ms = kind_of(task), prior_of(task, settings)
        names, x = kind.cells(), log_ratio(work_ms, prior_ms, kind.basis)
        cells = [self.cells.get(name, Cell()) for name in names]
        mean = effort.log_factor(cells)
        residual = (x - mean) ** 2
        for at, (name, cell) in enumerate(zip(names, cells, strict=True)):
            is_wide = at < 2
            if is_wide and cell.n:
                known = self.spread.get(name, Cell())
                self.spread[name] = known.learn(residual, effort.CAP_WIDE)
                said_ms, median_ms = prior_ms * math.exp(x), prior_ms * math.exp(mean)
                self.scale[name] = self.scale.get(name, Scale()).learn(said_ms, median_ms)
            self.cells[name] = cell.learn(x, effort.CAP_WIDE if is_wide else effort.CAP)


def kind_of(task: Task) -> Kind:
    basis = "e" if task.estimate_s else "m"
    names = short_name(task.group or ""), short_name(features_text(task.features))
    return Kind(basis, task.role, task.category, *names)


def prior_of(task: Task, settings: PoolSettings) -> int:
    if task.estimate_s:
        return round(1000 * task.estimate_s)
    return round(1000 * settings.estimate_s(task.category)) * (task.complexity or 1)


def stored(pool: Pool, task: str = "t1") -> Estimate:
    return Estimate.read(pool.client.hget(pool.keys.task(task), "e") or "")


def run(pool: Pool, clock: Clock, task: Task | str, took_ms: int, agent: str = "a1") -> str:
    """Submit, assign and complete one task."""
    task = make_task(task) if isinstance(task, str) else task
    assert submit(pool, task) == ["accepted"]
    assign(pool, task.id, agent)
    clock.advance(took_ms / 1000)
    return complete(pool, task.id, duration_ms=took_ms)


def class_of(pool: Pool, agent: str) -> AgentClass:
    cid = pool.client.hget(pool.keys.agent(agent), "class") or ""
    return read_class(pool.client.hget(pool.keys.classdef, cid) or "")


def tasks(rng: random.Random) -> Iterator[Task]:
    for i in range(400):
        yield make_task(
            f"t{i}",
            rng.choice(["dev", "qa"]),
            category=rng.choice(["bug", "feature", "other"]),
            group=rng.choice([None, "web", "api", "job"]),
            features=rng.choice([{}, {"lines": rng.randrange(1, 5000)}, {"os": "linux"}]),
            complexity=rng.choice([None, 1, 5]),
            estimate_s=rng.choice([None, None, 90.0, 0.001]),
        )


@pytest.mark.parametrize("seed", [1, 2])
def test_estimates_in_redis_are_those_of_the_twin(
    virtual_pool: Pool, clock: Clock, seed: int
) -> None:
    rng, twin = random.Random(seed), Twin()
    beat(virtual_pool, "a1")
    beat(virtual_pool, "a2", role="qa")
    for task in tasks(rng):
        expected = twin.estimate(task, virtual_pool.settings)
        took_ms = round(math.exp(rng.gauss(9 + len(task.category) / 3, 1)))
        agent = "a1" if task.role == "dev" else "a2"
        speed = class_of(virtual_pool, agent).speed_of(task.category)
        assert run(virtual_pool, clock, task, took_ms, agent) == "ok"
        twin.learn(task, virtual_pool.settings, took_ms * speed)

        seen = stored(virtual_pool, task.id)
        # Cells are kept with four digits.
        assert seen.mean_ms == pytest.approx(expected.mean_ms, rel=0.01, abs=1)
        assert seen.p90_ms == pytest.approx(expected.p90_ms, rel=0.02, abs=1)
        assert (seen.n, seen.prior_ms) == (expected.n, expected.prior_ms)
    assert {"pace", "pace:bug"} <= set(virtual_pool.client.hkeys(virtual_pool.keys.agent("a1")))


def test_first_estimate_is_the_prior(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task("t1", category="documentation", complexity=3))
    submit(virtual_pool, make_task("t2", category="documentation", complexity=3, estimate_s=7.5))

    assert stored(virtual_pool) == (5_400_000, 5_400_000, 0, 5_400_000)
    assert stored(virtual_pool, "t2") == (7_500, 7_500, 0, 7_500)


def test_means_are_no_higher_than_what_was_seen(virtual_pool: Pool, clock: Clock) -> None:
    """A log-normal spread would say three times as much of durations that have an end."""
    rng = random.Random(5)
    beat(virtual_pool)
    said_ms = took_in_all_ms = 0
    for i in range(400):
        took_ms = round(math.exp(rng.uniform(math.log(10_000), math.log(1_000_000))))
        run(virtual_pool, clock, f"t{i}", took_ms)
        if i >= 100:
            said_ms += stored(virtual_pool, f"t{i}").mean_ms
            took_in_all_ms += took_ms

    assert said_ms == pytest.approx(took_in_all_ms, rel=0.15)


def test_nine_of_ten_fall_below_p90(virtual_pool: Pool, clock: Clock) -> None:
    rng = random.Random(5)
    beat(virtual_pool)
    below = []
    for i in range(400):
        took_ms = round(60_000 * math.exp(rng.gauss(0, 0.8)))
        run(virtual_pool, clock, f"t{i}", took_ms)
        below.append(took_ms <= stored(virtual_pool, f"t{i}").p90_ms)

    assert 0.86 < sum(below[50:]) / 350 < 0.94
    # The mean of such durations, not their median.
    assert stored(virtual_pool, "t399").mean_ms == pytest.approx(60_000 * math.exp(0.32), rel=0.25)


def test_work_counts_at_normal_speed(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool, "a1", speed=4.0)
    for i in range(30):
        run(virtual_pool, clock, f"t{i}", 1_000)
    submit(virtual_pool, "last")

    assert stored(virtual_pool, "last").mean_ms == pytest.approx(4_000, rel=0.02)


def test_completions_of_one_call_count_like_one_after_another(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool, max_concurrent=20)
    names = [f"t{i}" for i in range(20)]
    submit(virtual_pool, *names)
    for name in names:
        assign(virtual_pool, name)
    clock.advance(60)
    entries = [
        completion_entry(virtual_pool, name, duration_ms=1_000 * (1 + i % 3))
        for i, name in enumerate(names)
    ]

    assert set(settle(virtual_pool, *entries)) == {"ok"}

    n, mean, *_ = virtual_pool.client.hget(virtual_pool.keys.est, "m:dev:general").split(" ")
    xs = [log_ratio(1_000 * (1 + i % 3), HOUR_MS) for i in range(20)]
    assert int(n) == 20
    assert float(mean) == pytest.approx(sum(xs) / 20, abs=1e-3)


class Done(NamedTuple):
    """One completed try: the estimate that its task bore, how long it took, how fast its agent is."""

    task: Task
    expected: Estimate
    took_ms: int
    speed: float


def _brought(known: Mapping[str, list[float]], page: list[Done]) -> dict[str, list[list[float]]]:
    """Cell -> for each of these tries what it says, held against what was known before all of them."""
    out: dict[str, list[list[float]]] = {}
    for task, expected, took_ms, speed in page:
        kind, prior_ms = kind_of(task), expected.prior_ms
        names, x = kind.cells(), log_ratio(took_ms * speed, prior_ms, kind.basis)
        cells = [Cell(int(known[name][0]), known[name][1]) for name in names]
        mean = effort.log_factor(cells)
        said = [x, (x - mean) ** 2, prior_ms * math.exp(x), prior_ms * math.exp(mean)]
        off = abs(x - math.log(expected.mean_ms / prior_ms))
        for name in names:
            out.setdefault(name, []).append(said)
        for name in (f"x:{task.role}:{task.category}", f"x:{task.role}"):
            out.setdefault(name, []).append([off])
    return out


def _learned(name: str, known: list[float], rows: list[list[float]]) -> list[float]:
    """A cell as it is stored after these, without when the tasks that wait were scored."""
    is_wide, k = name in ("m", "e") or re.fullmatch("[me]:[a-z]+", name), len(rows)
    means = [sum(column) / k for column in zip(*rows, strict=True)]
    cap = effort.CAP_WIDE if is_wide else 100 if name.startswith("x") else effort.CAP
    out = [*Cell(int(known[0]), known[1]).learn(means[0], cap, k)]
    if not is_wide:
        return out
    n2, rest = int(known[2]), [known[3], *known[5:7]]
    if known[0]:
        cells = [Cell(n2, at).learn(mean, cap, k) for at, mean in zip(rest, means[1:], strict=True)]
        n2, rest = cells[0].n, [cell.mean for cell in cells]
    return [*out, n2, *rest]


@pytest.mark.parametrize("seed", range(3))
def test_cells_after_a_large_call_of_many_kinds_are_those_of_the_twin(
    virtual_pool: Pool, clock: Clock, seed: int
) -> None:
    rng, client, keys = random.Random(seed), virtual_pool.client, virtual_pool.keys
    beat(virtual_pool, "a1", max_concurrent=100, speed=2.0, specializations=("bug",))
    beat(virtual_pool, "a2", role="qa", max_concurrent=100, speed=0.5)
    source = tasks(rng)
    for size in (30, 90, 90):
        page = list(islice(source, size))
        submit(virtual_pool, *page)
        known: dict[str, list[float]] = defaultdict(lambda: [0.0] * 7)
        before = client.hgetall(keys.est)
        known |= {k: [float(word) for word in v.split(" ")] for k, v in before.items() if k != "-"}
        done = []
        for task in page:
            agent = "a1" if task.role == "dev" else "a2"
            assign(virtual_pool, task.id, agent)
            speed = class_of(virtual_pool, agent).speed_of(task.category)
            took_ms = rng.randrange(1, 4 * HOUR_MS)
            done.append(Done(task, stored(virtual_pool, task.id), took_ms, speed))
        clock.advance(4 * 3_600)
        entries = [
            completion_entry(virtual_pool, one.task.id, duration_ms=one.took_ms) for one in done
        ]

        assert set(settle(virtual_pool, *entries)) == {"ok"}

        after = client.hgetall(keys.est)
        brought = _brought(known, done)
        assert set(after) - {"-"} == set(before) - {"-"} | set(brought)
        assert all(after[name] == before[name] for name in set(before) - set(brought))
        for name, rows in brought.items():
            words = [float(word) for word in after[name].split(" ")]
            if len(words) == 7:
                words.pop(4)
            expected = _learned(name, known[name], rows)
            # Stored with four digits; how long tasks took, in whole ms.
            assert words[:4] == pytest.approx(expected[:4], rel=2e-3, abs=5e-4), name
            assert words[4:] == pytest.approx(expected[4:], rel=2e-3, abs=1.0), name
        with changes(virtual_pool) as seen:
            assert set(settle(virtual_pool, *entries)) == {"duplicate"}
        assert seen.learned == {}


@pytest.mark.parametrize("again", ["same", "late"])
def test_a_completion_teaches_once(virtual_pool: Pool, clock: Clock, again: str) -> None:
    submit(virtual_pool, "t1")
    beat(virtual_pool)
    assign(virtual_pool)
    clock.advance(2)
    facts = {} if again == "same" else {"lease": "0" * 32}
    entry, second = completion_entry(virtual_pool), completion_entry(virtual_pool, **facts)

    with changes(virtual_pool) as seen:
        assert settle(virtual_pool, entry) == ["ok"]
    assert seen.learned["est m:dev:general"].startswith("1 ")
    with changes(virtual_pool) as seen:
        assert settle(virtual_pool, second)[0] in ("duplicate", "stale")
    assert seen.learned == {}


def test_tries_that_did_not_complete_teach_nothing_of_work(
    virtual_pool: Pool, clock: Clock
) -> None:
    submit(virtual_pool, "t1", "t2")
    beat(virtual_pool, max_concurrent=2)
    for task, status in (("t1", "failed"), ("t2", "released")):
        assign(virtual_pool, task)
        clock.advance(1)
        with changes(virtual_pool) as seen:
            complete(virtual_pool, task, status)
        assert set(seen.learned) == ({"agent:a1 pace"} if status == "failed" else set())
    assert not virtual_pool.client.exists(virtual_pool.keys.est)


@pytest.mark.parametrize("said", [0, 999_999_999_999_999])
def test_nobody_works_longer_than_it_held_the_task(
    virtual_pool: Pool, clock: Clock, said: int
) -> None:
    submit(virtual_pool, "t1")
    beat(virtual_pool)
    assign(virtual_pool)
    clock.advance(36)

    assert complete(virtual_pool, duration_ms=said) == "ok"

    _, mean = virtual_pool.client.hget(virtual_pool.keys.est, "m:dev:general").split(" ")
    assert float(mean) == pytest.approx(math.log(36_000 / HOUR_MS), abs=1e-3)


@pytest.mark.parametrize("said", [0, 999_999_999_999_999])
def test_a_try_across_a_clock_that_went_back_teaches_nothing_of_how_long_work_takes(
    virtual_pool: Pool, clock: Clock, said: int
) -> None:
    submit(virtual_pool, "t1", "t2")
    beat(virtual_pool, max_concurrent=2)
    assign(virtual_pool)
    assign(virtual_pool, "t2")
    clock.advance(-2)

    # What the other one says is believed, as it is not odd.
    entry = completion_entry(virtual_pool, "t1", duration_ms=said)
    assert settle(virtual_pool, entry) == ["ok"]
    with changes(virtual_pool) as seen:
        assert settle(virtual_pool, entry) == ["duplicate"]

    assert not virtual_pool.client.exists(virtual_pool.keys.est)
    assert "service_us" not in virtual_pool.client.hgetall(virtual_pool.keys.role("dev"))
    assert not [name for name in seen.state if name.startswith(("est", "agent", "task"))]
    complete(virtual_pool, "t2", duration_ms=1_800_000)
    assert virtual_pool.client.hget(virtual_pool.keys.est, "m:dev:general").startswith("1 ")


def test_what_was_learned_stands_in_redis_and_may_be_switched_off(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool)
    run(virtual_pool, clock, "t1", 5_000)
    still = virtual_pool.settings.model_copy(update={"learning": False})
    again = Pool(virtual_pool.client, virtual_pool.name, virtual_pool.genesis, still, clock)

    submit(again, "t2")
    assert stored(again, "t2").n == 1
    assign(again, "t2")
    with changes(again) as seen:
        assert complete(again, "t2") == "ok"
    assert seen.learned == {}


def test_a_full_generation_becomes_the_old_one(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool)
    run(virtual_pool, clock, "t1", 5_000)
    known = virtual_pool.client.hgetall(virtual_pool.keys.est)
    pipe: TextRedis = virtual_pool.client.pipeline(transaction=False)
    for i in range(0, 50_000, 5_000):
        pipe.hset(
            virtual_pool.keys.est,
            mapping={f"m::{n:012x}": "1 0.5000" for n in range(i, i + 5_000)},
        )
    pipe.execute()

    run(virtual_pool, clock, make_task("t2", category="bug"), 5_000)

    new = virtual_pool.client.hgetall(virtual_pool.keys.est)
    assert set(new) == {"-", "m", "m:dev", "m:dev:bug", "x:dev:bug", "x:dev"}
    # Not a list that is searched from its front.
    assert virtual_pool.client.object("encoding", virtual_pool.keys.est) == "hashtable"
    assert new["m:dev"].startswith("2 ")
    old = virtual_pool.client.hgetall(virtual_pool.keys.est_old)
    assert len(old) == 50_000 + len(known)
    # A cell that only the old one has is found there, and moves when it learns more.
    submit(virtual_pool, "t3")
    assert stored(virtual_pool, "t3").n == 1
    assign(virtual_pool, "t3")
    clock.advance(5)
    complete(virtual_pool, "t3", duration_ms=5_000)
    assert virtual_pool.client.hget(virtual_pool.keys.est, "m:dev:general").startswith("2 ")


def test_when_work_is_of_another_scale_what_waits_is_estimated_and_scored_anew(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool)
    submit(virtual_pool, "early")
    for i in range(19):
        run(virtual_pool, clock, f"t{i}", 4_000)
    assert not tick(virtual_pool).rescore_due

    run(virtual_pool, clock, "t19", 4_000)

    assert tick(virtual_pool).rescore_due
    assert stored(virtual_pool, "early").n == 0
    assert rescore(virtual_pool) == ("dev", 1, False)
    assert stored(virtual_pool, "early").mean_ms == pytest.approx(4_000, rel=0.05)
    assert not tick(virtual_pool).rescore_due
    # Not again while the scale stays.
    run(virtual_pool, clock, "t20", 4_000)
    assert not tick(virtual_pool).rescore_due


def block(pool: Pool, clock: Clock, name: str, took_s: int) -> None:
    """Twenty-five tasks that took so long settle in one call."""
    ids = [f"{name}{n}" for n in range(25)]
    submit(pool, *ids)
    for id_ in ids:
        assign(pool, id_)
    clock.advance(took_s)
    done = [completion_entry(pool, id_, duration_ms=1_000 * took_s) for id_ in ids]
    assert settle(pool, *done) == ["ok"] * 25


def test_a_scale_that_goes_up_and_down_lets_what_waits_be_scored_to_its_end(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool, max_concurrent=25)
    early = [f"early{n:03}" for n in range(450)]
    for at in range(0, 450, 150):
        submit(virtual_pool, *early[at : at + 150])
    block(virtual_pool, clock, "short", 1)
    assert rescore(virtual_pool) == ("dev", 200, True)
    under_way = virtual_pool.client.hget(virtual_pool.keys.rescore, "dev")

    block(virtual_pool, clock, "long", 3_600)

    assert virtual_pool.client.hget(virtual_pool.keys.rescore, "dev") == under_way
    assert rescore(virtual_pool) == ("dev", 200, True)
    assert rescore(virtual_pool) == ("dev", 50, False)
    by_scale = [stored(virtual_pool, id_).mean_ms for id_ in early]
    assert by_scale[0] == by_scale[199] < by_scale[200] == by_scale[449]
    # The first page was by another scale: once more, and only once.
    block(virtual_pool, clock, "more", 3_600)
    assert virtual_pool.client.hget(virtual_pool.keys.rescore, "dev").endswith("|0|")
    while rescore(virtual_pool).more:
        pass
    assert len({stored(virtual_pool, id_) for id_ in early}) == 1
    block(virtual_pool, clock, "same", 600)
    assert not tick(virtual_pool).rescore_due


def test_when_the_scale_changes_what_was_well_known_is_estimated_anew_as_well(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool)
    for i in range(30):
        run(virtual_pool, clock, f"t{i}", 4_000)
    while rescore(virtual_pool)[2]:
        pass
    submit(virtual_pool, "waits")
    assert stored(virtual_pool, "waits").n == 30
    for i in range(30, 500):
        run(virtual_pool, clock, f"t{i}", 400_000)
        if tick(virtual_pool).rescore_due:
            break

    assert rescore(virtual_pool) == ("dev", 1, False)

    submit(virtual_pool, "new")
    assert stored(virtual_pool, "waits") == stored(virtual_pool, "new")
    assert stored(virtual_pool, "new").mean_ms > 8_000


def test_a_producer_that_says_nonsense_moves_the_estimates_of_others_within_bounds(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool, "a1")
    for i in range(60):
        run(virtual_pool, clock, make_task(f"s{i}", estimate_s=0.001), 60_000)
        run(virtual_pool, clock, make_task(f"h{i}", estimate_s=60.0), 60_000)

    submit(virtual_pool, make_task("new", estimate_s=60.0))

    # Half of them say a 60,000th: each counts as a hundredth, the square root of a hundred remains.
    new = stored(virtual_pool, "new")
    assert 60_000 < new.mean_ms < 60_000 * 10 * 1.1 * math.exp(0.5)
    assert new.p90_ms < 60_000 * 10 * 1.1 * math.exp(1.2816)
    assert class_of(virtual_pool, "a1").learned == ()


def test_a_role_knows_how_long_its_tries_take(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool)
    for i, took_ms in enumerate((1_000, 2_000, 6_000)):
        run(virtual_pool, clock, f"t{i}", took_ms)

    facts = virtual_pool.client.hmget(virtual_pool.keys.role("dev"), "service_n", "service_us")
    assert facts == ["3", "3000000"]


def test_what_is_still_to_come_of_a_graph(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool)
    submit(virtual_pool, make_task("root", estimate_s=10.0), make_task("alone", estimate_s=99.0))
    submit(virtual_pool, make_task("left", depends_on=("root",), estimate_s=20.0))
    submit(virtual_pool, make_task("right", depends_on=("root",), estimate_s=30.0))
    submit(virtual_pool, make_task("last", depends_on=("left", "right"), estimate_s=40.0))

    found = effort_of(virtual_pool, "root")
    assert found is not None
    assert (found.expected_s, found.p90_s, found.observations) == (10.0, 10.0, 0)
    assert (found.remaining_s, found.remaining_tasks, found.more) == (100.0, 4, False)
    assert found.usually_off is None
    assert effort_of(virtual_pool, "nobody") is None

    # One that runs longer than was expected is taken to need half as long again.
    assign(virtual_pool, "root")
    clock.advance(4)
    assert (found := effort_of(virtual_pool, "root"))
    assert found.remaining_s == 96.0
    clock.advance(16)
    assert (found := effort_of(virtual_pool, "root"))
    assert found.remaining_s == 100.0
    complete(virtual_pool, "root", duration_ms=20_000)
    assert (found := effort_of(virtual_pool, "root"))
    assert found.remaining_s == 90.0
    assert found.usually_off == pytest.approx(2.0, abs=0.01)
    assert (found := effort_of(virtual_pool, "last"))
    assert found.remaining_tasks == 1


def test_a_large_graph_is_counted_up_to_a_bound(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task("root", estimate_s=1.0))
    for page in range(6):
        names = [f"c{page}-{i}" for i in range(200)]
        submit(
            virtual_pool,
            *(make_task(name, depends_on=("root",), estimate_s=1.0) for name in names),
        )

    found = effort_of(virtual_pool, "root")

    assert found is not None
    assert found.more
    assert found.remaining_tasks == 1_000


def test_queues_say_how_far_off_estimates_usually_are(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool)
    run(virtual_pool, clock, make_task("t1", category="bug"), 1_200_000)

    (row,) = queues(virtual_pool)

    assert row.usually_off == pytest.approx(3.0, abs=0.01)


def test_other_roles_teach_a_role_that_has_finished_nothing_a_factor_of_four_at_most(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool, "a1", role="quick")
    submit(virtual_pool, make_task("t1", role="quick"))
    assign(virtual_pool, "t1", "a1")
    clock.advance(1)
    assert complete(virtual_pool, "t1", duration_ms=10) == "ok"

    submit(virtual_pool, make_task("t2", role="other"), make_task("t3", role="quick"))

    other, quick = (
        virtual_pool.client.hget(virtual_pool.keys.task(id), "e") for id in ("t2", "t3")
    )
    assert other == "900000|900000|0|3600000"
    assert quick is not None
    assert Estimate.read(quick).mean_ms < 60, "its own counts in full"


def test_how_far_off_other_roles_were_does_not_raise_what_is_expected_above_the_prior(
    virtual_pool: Pool, clock: Clock
) -> None:
    """They took far less than their priors, each another time; a factor of a quarter and a lift of four are all
    that this may teach.
    """
    beat(virtual_pool, "a1", role="quick")
    for n, took_ms in enumerate((1, 100_000, 2, 500, 30_000)):
        submit(virtual_pool, make_task(f"q{n}", role="quick"))
        assign(virtual_pool, f"q{n}", "a1")
        clock.advance(100)
        assert complete(virtual_pool, f"q{n}", duration_ms=took_ms) == "ok"

    submit(virtual_pool, make_task("t2", role="other"))

    expected = stored(virtual_pool, "t2")
    assert (expected.mean_ms, expected.n, expected.prior_ms) == (3_600_000, 0, 3_600_000)
    assert expected.p90_ms > 100 * expected.mean_ms


def test_a_spoilt_key_of_what_is_learned_keeps_nothing_from_the_books(virtual_pool: Pool) -> None:
    keys, client = virtual_pool.keys, virtual_pool.client
    beat(virtual_pool, "a1", max_concurrent=2)
    submit(virtual_pool, "t1", "t2")
    assign(virtual_pool, "t1", "a1")
    assign(virtual_pool, "t2", "a1")
    client.set(keys.est, "spoilt")

    assert complete(virtual_pool, "t1") == "ok"

    assert client.hmget(keys.agent("a1"), "used", "n") == ["1", "1"]
    assert client.zrange(keys.completed, 0, -1) == ["t1"]
    assert client.hget(keys.pool, "completions_untaught") == "1"
    client.delete(keys.est)
