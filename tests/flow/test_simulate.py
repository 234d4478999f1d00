"""Replays through the real planner and the real scripts, in virtual time."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from balancer.cli.root import run
from balancer.core.errors import BalancerError, InvalidInput
from balancer.core.health import health
from balancer.core.lanes import AgentClass
from balancer.core.model import Priority
from balancer.core.settings import STRATEGY_NAMES, PoolSettings
from balancer.embedded import EmbeddedRedis
from balancer.protocol import connect
from balancer.simulate.bound import lower_bound
from balancer.simulate.cast import AGES_MS, INTERVAL_MS, TTL_MS, features_of, heartbeats, task_of
from balancer.simulate.correlation import rank_correlation
from balancer.simulate.engine import Run, Simulation
from balancer.simulate.figures import figures
from balancer.simulate.fleet import Fleet, SimAgent, make_fleet
from balancer.simulate.guard import Guard
from balancer.simulate.ledger import replay
from balancer.simulate.load import scaled_arrivals
from balancer.simulate.pure import run_pure
from balancer.simulate.trace import Trace, load_trace
from balancer.trace import COLUMNS, SHIPPED, Row
from tests.support.simulated import agent, fleet, task, trace

#: How far two clocks may be apart after a few hundred roundings to a microsecond, seconds.
ROUNDED_S = 1e-3


def replayed(
    client: redis.Redis, strategy: str, made: Trace, of: Fleet, *, learned: bool = False
) -> Run:
    """A strategy of ours on arrivals as they stand in the trace."""
    settings = PoolSettings(strategy=strategy, seed=7)
    return replay(client, settings, made, made.arrival_s, of, learned=learned).run


def named(*agents_: SimAgent) -> Fleet:
    """The fleet, its agents named a0, a1, ..."""
    made = fleet(*agents_)
    return replace(
        made, agents=tuple(replace(each, id=f"a{i}") for i, each in enumerate(made.agents))
    )


@pytest.fixture
def stream() -> Trace:
    """Tasks of two categories, of unlike sizes, faster than four units can do them."""
    rng = random.Random(5)
    at, rows = 0.0, []
    for _ in range(120):
        at += rng.expovariate(1)
        rows.append(task(at, rng.expovariate(1 / 4) + 0.01, rng.choice(("feat", "fix"))))
    return trace(*rows)


@pytest.mark.parametrize("strategy", [name for name in STRATEGY_NAMES if name != "fit"])
def test_where_agents_and_priorities_are_equal_every_strategy_in_order_is_a_shared_queue(
    redis_client: redis.Redis, strategy: str, stream: Trace
) -> None:
    four = named(agent(1.0, 1.0, slots=2), agent(1.0, 1.0), agent(1.0, 1.0))

    ours = replayed(redis_client, strategy, stream, four)

    queue = run_pure("fifo_pull", stream, stream.arrival_s, four)
    assert ours.start_s == pytest.approx(queue.start_s, abs=ROUNDED_S)
    assert ours.end_s == pytest.approx(queue.end_s, abs=ROUNDED_S)
    assert max(start - at for start, at in zip(ours.start_s, ours.ready_s, strict=True)) > 5


def test_least_loaded_by_hand(redis_client: redis.Redis) -> None:
    of = named(agent(1.0, slots=2), agent(2.0))

    ours = replayed(
        redis_client, "least_loaded", trace(task(0, 8), task(1, 8), task(2, 8), task(3, 8)), of
    )

    # a0 or a1 for the first, the other one for the second; the third goes where a unit is left.
    assert sorted(ours.agent[:2]) == [0, 1]
    assert ours.agent[2] == 0
    second_ends = 4 + ours.agent.index(1)
    assert ours.start_s == [0, 1, 2, second_ends]
    assert ours.agent[3] == 1
    assert ours.end_s[3] == second_ends + 4


def test_round_robin_by_hand(redis_client: redis.Redis) -> None:
    of = named(agent(1.0, slots=2), agent(1.0, slots=2))

    ours = replayed(redis_client, "round_robin", trace(*(task(i, 100) for i in range(4))), of)

    first = ours.agent[0]
    assert ours.agent == [first, 1 - first, first, 1 - first]


def test_parents_come_first_even_when_they_arrive_later(redis_client: redis.Redis) -> None:
    made = trace(
        task(0, 5, parents=[2]), task(0, 1, parents=[0, 3]), task(4, 2), task(0, 1), task(20, 1)
    )

    ours = replayed(redis_client, "best_match", made, named(agent(1.0), agent(1.0)))

    at = {row.id: place for place, row in enumerate(made.rows)}
    assert [ours.ready_s[at[f"t{i}"]] for i in range(5)] == [6, 11, 4, 0, 20]
    assert [ours.start_s[at[f"t{i}"]] for i in range(5)] == [6, 11, 4, 0, 20]
    assert [ours.end_s[at[f"t{i}"]] for i in range(5)] == [11, 12, 6, 1, 21]


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_laws_hold_on_a_real_trace(redis_client: redis.Redis, strategy: str) -> None:
    made = load_trace(SHIPPED, 150)
    of = make_fleet(made, slots=16, seed=2)
    arrivals = scaled_arrivals(made, of, 1.2)
    settings = PoolSettings(strategy=strategy, seed=7)

    ours, estimate_s = replay(redis_client, settings, made, arrivals, of)

    check_laws(made, arrivals, of, ours)
    assert len(estimate_s) == len(made)
    assert min(estimate_s) > 0
    redis_client.flushall()
    assert replay(redis_client, settings, made, arrivals, of).run == ours


@pytest.mark.parametrize("equal", [False, True], ids=["unlike", "equal"])
def test_with_known_sizes_fit_is_the_guard(redis_client: redis.Redis, equal: bool) -> None:
    """The planner, bounded views and frozen places against a policy that sees everything each time."""
    rng = random.Random(6)
    at, rows = 0.0, []
    for _ in range(250):
        at += rng.expovariate(1)
        size_s, kind = rng.lognormvariate(2, 1), rng.choice(("feat", "fix", "docs"))
        rows.append(task(at, size_s, kind, priority=rng.choice(list(Priority))))
    made = trace(*rows)
    drawn = make_fleet(made, slots=9, equal=equal, seed=1)
    of = replace(drawn, agents=tuple(replace(each, health=1.0) for each in drawn.agents))
    arrivals = scaled_arrivals(made, of, 1.2)
    settings = PoolSettings(strategy="fit", learning=False)

    ours = replay(redis_client, settings, made, arrivals, of, foretold=True)

    assert ours.estimate_s == pytest.approx(made.size_s, abs=0.001)
    sim = Simulation(made, arrivals, of, random.Random(1))
    guard = sim.play(Guard(sim, settings.ageing))
    if equal:
        assert ours.run.start_s == pytest.approx(guard.start_s, abs=ROUNDED_S)
        assert guard.start_s != sorted(guard.start_s)
        return
    # Ties between agents are settled otherwise, and what was done first decides what comes later.
    least = lower_bound(made, arrivals, of)
    found, marks = (figures(made, arrivals, each, least) for each in (ours.run, guard))
    assert found.mean_flow_s == pytest.approx(marks.mean_flow_s, rel=0.03)
    assert found.weighted_flow_s == pytest.approx(marks.weighted_flow_s, rel=0.03)


def test_what_arrives_at_once_is_assigned_at_once(redis_client: redis.Redis) -> None:
    """More than one plan can take, and more lanes than one view shows."""
    many = trace(*(task(0, 5, f"c{i % 70}") for i in range(300)))
    of = named(*(agent(*[1.0] * 70, slots=50) for _ in range(6)))

    ours = replayed(redis_client, "fit", many, of)

    assert set(ours.start_s) == {0}


def check_laws(made: Trace, arrivals: list[float], of: Fleet, ours: Run) -> None:
    """Each task runs once, whole, after it was ready, on an agent of its role; no slot does two at once."""
    held: dict[int, list[tuple[float, int]]] = {}
    for i in range(len(made)):
        who = of.agents[ours.agent[i]]
        assert who.role == made.role[i]
        parents_s = max((ours.end_s[parent] for parent in made.parents[i]), default=0.0)
        assert ours.ready_s[i] == pytest.approx(max(arrivals[i], parents_s), abs=2e-6)
        assert ours.start_s[i] >= ours.ready_s[i]
        took_s = made.size_s[i] / who.speeds[made.category[i]]
        assert ours.end_s[i] - ours.start_s[i] == pytest.approx(took_s, abs=2e-6)
        held.setdefault(ours.agent[i], []).extend([(ours.start_s[i], 1), (ours.end_s[i], -1)])
    for place, changes in held.items():
        running = 0
        for _, change in sorted(changes):
            running += change
            assert running <= of.agents[place].slots


def test_work_that_nobody_can_do_is_a_fault_not_a_hang(redis_client: redis.Redis) -> None:
    with pytest.raises(BalancerError, match="stands still: 1 tasks wait and nothing runs"):
        replayed(redis_client, "best_match", trace(task(0, 1, role="x")), named(agent(1.0)))


def test_health_is_the_age_of_the_last_heartbeat() -> None:
    of = named(*(agent(1.0, health=share) for share in (1.0, 0.91, 0.89, 0.8, 0.66, 0.64, 0.5)))

    said = heartbeats(of, ("feat",), 1_000_000, learned=False)

    ages = [1_000_000 - int(item.entry.split("-")[0]) for item in said]
    assert [health(age, INTERVAL_MS, TTL_MS) for age in ages] == [1, 1, 0.8, 0.8, 0.8, 0.5, 0.5]
    assert [health(age, INTERVAL_MS, TTL_MS) for age in AGES_MS.values()] == list(AGES_MS)
    assert len({item.entry for item in said}) == len(said)


def test_agents_say_how_fast_they_are_or_leave_it_to_be_learned() -> None:
    of = make_fleet(trace(task(0, 5), task(1, 1, "fix")), slots=4)

    said = [item.beat for item in heartbeats(of, ("feat", "fix"), 10**6, learned=False)]

    for who, beat in zip(of.agents, said, strict=True):
        assert beat is not None
        assert beat.max_concurrent == who.slots
        assert beat.specializations == tuple(sorted(who.specializations))
        assert beat.speed is not None
        speeds = (("", beat.speed), *(beat.speeds or {}).items())
        told = AgentClass("r", beat.specializations, 1, (), speeds)
        assert (told.speed_of("feat"), told.speed_of("fix")) == who.speeds
    unsaid = [item.beat for item in heartbeats(of, ("feat", "fix"), 10**6, learned=True)]
    assert all(beat and beat.speed is None and beat.speeds is None for beat in unsaid)
    assert [beat and beat.specializations for beat in unsaid] == [
        beat and beat.specializations for beat in said
    ]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (replace(task(0, 1), features="a b"), ""),
        (replace(task(0, 1), features="x:y=1", line=7), "line 7: features.x:y.[key]: 'x:y'"),
        (replace(task(0, 1), group="g" * 200, line=7), "line 7: group: 'ggg"),
    ],
)
def test_what_no_task_may_have_is_told(row: Row, told: str) -> None:
    row = replace(row, id="t")
    if not told:
        assert task_of(row).features == {"a": "", "b": ""}
        return
    with pytest.raises(InvalidInput, match=re.escape(told)):
        task_of(row)


def test_features_are_read_as_they_stand_in_traces() -> None:
    assert features_of("cpu_milli=3152 app=1000genome x=-1.5") == {
        "cpu_milli": 3152,
        "app": "1000genome",
        "x": -1.5,
    }
    assert features_of("sp=8 lines=32") == {"sp": "8", "lines": 32}
    assert features_of("") == {}
    assert features_of("x=nan y=1e999") == {"x": "nan", "y": "1e999"}


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)
    assert rank_correlation([1, 1, 2, 2], [1, 2, 3, 4]) == pytest.approx(0.8944271910)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 1], [3, 2, 1]) == 0


# --- the command ---

PAGE = (Path(__file__).parents[2] / "docs/simulation.md").read_text()


@pytest.mark.parametrize("line", re.findall(r"^\$ balancer (.*)$", PAGE, re.M))
def test_what_the_page_says_runs(capsys: pytest.CaptureFixture[str], line: str) -> None:
    assert run(line.replace("--limit 200", "--limit 40").split()) == 0

    out, err = capsys.readouterr()
    assert "fit" in out
    assert err == ""


ROW = {
    "mean_wait_s", "p50_wait_s", "p95_wait_s", "p99_wait_s", "max_wait_s", "mean_flow_s", "weighted_flow_s",
    "high_wait_s", "makespan_s", "flow_over_bound", "flow_over_fifo_pull",
}  # fmt: skip


def test_the_command_says_all_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "simulate --limit 60 --strategy round_robin --strategy jsq --seeds 1,2 --gain 3"

    code = run([*arguments.split(), "--load", "0.8", "--slots", "16", "--json"])

    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["trace"] == "copilot_agent_2025"
    assert {name: said[name] for name in ("tasks", "load", "gain", "equal_agents", "seeds")} == {
        "tasks": 60,
        "load": 0.8,
        "gain": 3,
        "equal_agents": False,
        "seeds": [1, 2],
    }
    assert said["bound"]["mean_flow_s"] > 0
    assert list(said["strategies"]) == ["round_robin", "jsq"]
    for row in said["strategies"].values():
        assert row.keys() >= ROW
        assert row["mean_flow_s"] > row["mean_wait_s"]
        assert row["p50_wait_s"] <= row["p95_wait_s"] <= row["p99_wait_s"] <= row["max_wait_s"]
        assert row["flow_over_bound"] >= 1


def test_ratios_are_against_a_queue_that_agents_pull_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = "simulate --limit 60 --strategy fifo_pull --strategy early_rr --seeds 3 --json"

    assert run(asked.split()) == 0

    rows = json.loads(capsys.readouterr().out)["strategies"]
    assert rows["fifo_pull"]["flow_over_fifo_pull"] == 1
    assert rows["early_rr"]["flow_over_fifo_pull"] == pytest.approx(
        rows["early_rr"]["mean_flow_s"] / rows["fifo_pull"]["mean_flow_s"]
    )


def test_people_get_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "simulate --limit 40 --strategy least_loaded --seeds 1 --equal-agents"

    assert run(arguments.split()) == 0

    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0] == "copilot_agent_2025: 40 tasks at load 0.95, 48 units, equal agents, seeds 1"
    assert lines[1].startswith("times in minutes; no schedule has a mean flow below ")
    assert lines[-2].split()[:3] == ["STRATEGY", "WAIT", "P50"]
    assert lines[-1].split()[0] == "least_loaded"


def test_the_header_says_all_that_was_asked_for_and_what_came_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = "simulate --limit 60 --strategy fit --seeds 1 --slots 2 --gain 2 --learned --ageing 0.4 --blocks 3"
    assert run(asked.split()) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert run([*asked.split(), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    roles = said["units"] // 4
    assert said["units"] == 4 * roles > said["slots"] == 2
    assert (said["learned"], said["ageing"], said["blocks"]) == (True, 0.4, 3)
    assert -1 <= said["strategies"]["fit"]["estimate_rank_correlation"] <= 1
    assert head == (
        f"copilot_agent_2025: 60 tasks at load 0.95, {said['units']} units (2 asked for; each role has 4 or"
        " more), specialists 2x faster, speeds learned, ageing 0.4, 3 blocks of equal work, seeds 1"
    )
    assert "estimate_rank_correlation" in PAGE


def test_a_trace_that_is_none_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("task_id,arrival_s\nx,1\n")

    code = run(["simulate", "--trace", str(path), "--json"])

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert json.loads(err)["error"]["code"] == "invalid_input"
    assert "line 1: the header lacks duration_s, role, category" in err


@pytest.mark.parametrize(
    ("arrivals", "says"),
    [
        (
            (0, 3e9, 6e9),
            "line 2: arrival_s is 6e+09, must be: so early that the task arrives within",
        ),
        ((0, 1, 3e9), "line 2: duration_s is 3e+09, must be: so short that the task ends within"),
    ],
)
def test_what_the_clock_of_a_pool_cannot_tell_is_refused(
    redis_client: redis.Redis, arrivals: tuple[float, ...], says: str
) -> None:
    rows = [task(at, 1 if at < 3e9 else 3e9, "fix") for at in arrivals]
    made = trace(*rows)

    with pytest.raises(InvalidInput) as caught:
        replayed(redis_client, "least_loaded", made, named(agent(1.0)))

    assert str(caught.value).startswith(says)


def test_a_replay_sees_the_one_fast_agent_behind_more_classes_than_a_view_shows() -> None:
    """The guard holds each task back from 299 slow ones, which have more units."""
    slow = [agent(1.0, slots=2 + n, specializations=["feat"]) for n in range(299)]
    made = trace(*(task(1_000 * n, 10) for n in range(12)))

    with EmbeddedRedis() as server, connect(server.url) as client:
        ours = replayed(client, "fit", made, named(*slow, agent(10.0, specializations=["feat"])))

    assert ours.agent == [299] * 12
    assert ours.start_s == pytest.approx(ours.ready_s, abs=ROUNDED_S)


def test_where_a_ratio_is_another_than_that_of_the_means_shown_it_is_explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With parents it is, here; without, and with one seed, it is not."""
    path = tmp_path / "t.csv"
    rows = [f"t{n},{n},{n % 7 + 1},dev,fix,,,," for n in range(30)]
    path.write_text("\n".join([",".join(COLUMNS), *rows]))
    for trace_, is_other in (("", True), (f" --trace {path}", False)):
        asked = f"simulate --limit 60 --strategy fifo_pull --seeds 1{trace_}".split()
        assert run(asked) == 0
        out = capsys.readouterr().out
        assert run([*asked, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        row = said["strategies"]["fifo_pull"]
        of_means = row["mean_flow_s"] / said["bound"]["mean_flow_s"]
        assert is_other == (f"{of_means:.2f}" != f"{row['flow_over_bound']:.2f}")
        assert is_other == ("X BOUND is no FLOW / bound" in out)
