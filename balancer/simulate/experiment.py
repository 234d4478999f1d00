"""The same tasks and agents under one strategy after another, and what became of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from balancer.core.errors import InvalidInput
from balancer.core.settings import STRATEGY_NAMES, PoolSettings
from balancer.embedded import EmbeddedRedis
from balancer.protocol import TextRedis, connect
from balancer.simulate.bound import Bound, lower_bound
from balancer.simulate.correlation import rank_correlation
from balancer.simulate.figures import Figures, figures, mean
from balancer.simulate.fleet import GAIN, SLOTS, make_fleet
from balancer.simulate.ledger import replay
from balancer.simulate.load import scaled_arrivals
from balancer.simulate.pure import POLICIES, run_pure
from balancer.simulate.trace import Trace

#: What every strategy is held against: a queue that agents pull from.
BASELINE = "fifo_pull"

#: Is told how many more tasks have ended.
Tell = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What stays the same for all strategies.

    Raises:
        InvalidInput: a value is out of its bounds.
    """

    #: Offered work / what a blind queue gets out of the fleet: arrivals are stretched until it is this.
    load: float = 0.95
    #: Units over all agents.
    slots: int = SLOTS
    #: How many times faster an agent does its specializations.
    gain: float = GAIN
    #: All agents as fast as each other, at everything.
    equal_agents: bool = False
    #: Agents say what they are specialized in, not how fast they are.
    learned: bool = False
    #: The pool's `ageing`; None: as it is by default.
    ageing: float | None = None

    def __post_init__(self) -> None:
        _check("load", self.load, 0.01, 10)
        _check("slots", self.slots, 1, 10_000)
        _check("gain", self.gain, 0.1, 10)
        _check("ageing", self.ageing, 0.001, 100)

    def settings(self, strategy: str, seed: int) -> PoolSettings:
        """Of the pool that a strategy is replayed in."""
        more = {} if self.ageing is None else {"ageing": self.ageing}
        return PoolSettings(strategy=strategy, seed=seed, **more)


class Outcome(NamedTuple):
    """What one fleet made of the trace, by strategy."""

    bound: Bound
    #: Of all agents: a role has some, however few were asked for.
    units: int
    figures: dict[str, Figures]
    #: Rank correlation of expected and true duration, of strategies of a pool.
    foresight: dict[str, float]


def check_strategies(names: Iterable[str]) -> None:
    """Refuse what is neither a strategy of a pool nor a policy of the pure simulation.

    Raises:
        InvalidInput: it names the strategy and those there are.
    """
    for name in names:
        if name not in POLICIES and name not in STRATEGY_NAMES and ":" not in name:
            known = ", ".join([*STRATEGY_NAMES, *POLICIES])
            raise InvalidInput(
                f"--strategy: {name[:80]!r} is none of {known}, nor a class as package.module:Class"
            )


def simulate(
    trace: Trace,
    scenario: Scenario,
    strategies: Sequence[str],
    seed: int,
    tell: Tell = lambda _more: None,
) -> Outcome:
    """Replay the trace under each strategy, with the fleet and the arrivals of this seed.

    Raises:
        InvalidInput: there is no such strategy, or no such load.
        ServerMissing: a strategy of a pool needs a redis-server.
    """
    fleet = make_fleet(trace, scenario.slots, scenario.gain, scenario.equal_agents, seed)
    arrivals = scaled_arrivals(trace, fleet, scenario.load)
    bound = lower_bound(trace, arrivals, fleet)
    found: dict[str, Figures] = {}
    foresight: dict[str, float] = {}
    with ExitStack() as stack:
        client: TextRedis | None = None
        for name in dict.fromkeys((BASELINE, *strategies)):
            if name in POLICIES:
                run = run_pure(name, trace, arrivals, fleet, seed)
                tell(len(trace))
            else:
                if client is None:
                    client = stack.enter_context(connect(stack.enter_context(EmbeddedRedis()).url))
                client.flushall()
                settings = scenario.settings(name, seed)
                run, estimate_s = replay(
                    client, settings, trace, arrivals, fleet, learned=scenario.learned, tell=tell
                )
                foresight[name] = _foresight(trace, arrivals, estimate_s)
            found[name] = figures(trace, arrivals, run, bound)
    return Outcome(bound, sum(agent.slots for agent in fleet.agents), found, foresight)


def _foresight(trace: Trace, arrivals: Sequence[float], estimate_s: Sequence[float]) -> float:
    """Of the second half by arrival: before it, much had to be learned first."""
    late = sorted(range(len(trace)), key=lambda task: arrivals[task])[len(trace) // 2 :]
    return rank_correlation(
        [estimate_s[task] for task in late], [trace.size_s[task] for task in late]
    )


def document(
    trace: Trace,
    scenario: Scenario,
    strategies: Sequence[str],
    seeds: Sequence[int],
    outcomes: Sequence[Outcome],
) -> dict[str, Any]:
    """What is told of the outcomes, one a seed: means over them."""
    bounds = [outcome.bound for outcome in outcomes]
    rows = {
        name: _means([_row(outcome, name) for outcome in outcomes])
        for name in (BASELINE, *strategies)
    }
    blind_s = rows[BASELINE]["mean_flow_s"]
    return {
        "trace": trace.name,
        "tasks": len(trace),
        "load": scenario.load,
        "slots": scenario.slots,
        "units": outcomes[0].units,
        "gain": scenario.gain,
        "equal_agents": scenario.equal_agents,
        "learned": scenario.learned,
        "ageing": scenario.ageing,
        "seeds": list(seeds),
        "bound": {
            "mean_flow_s": mean([bound.mean_flow_s for bound in bounds]),
            "weighted_flow_s": mean([bound.weighted_flow_s for bound in bounds]),
            "makespan_s": mean([bound.makespan_s for bound in bounds]),
        },
        "strategies": {
            name: rows[name] | {f"flow_over_{BASELINE}": rows[name]["mean_flow_s"] / blind_s}
            for name in dict.fromkeys(strategies)
        },
    }


def _row(outcome: Outcome, name: str) -> dict[str, Any]:
    return asdict(outcome.figures[name]) | {
        "estimate_rank_correlation": outcome.foresight.get(name)
    }


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        name: None if value is None else mean([row[name] for row in rows])
        for name, value in rows[0].items()
    }


def _check(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not (math.isfinite(value) and least <= value <= most):
        raise InvalidInput(f"--{name} is {value:g}, must be: from {least:g} to {most:g}")
