"""Which fault hits whom, and when: a pure function of the seed. "When" is how many tasks have ended by then."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.roster import AGENTS, BALANCERS, PRODUCER, TTL_S


class Kind(StrEnum):
    """What is done to the victim."""

    KILL = "kill"
    """SIGKILL; it is started again after `lasts_s`."""
    STOP = "stop"
    """SIGSTOP, and SIGCONT after `lasts_s`."""
    TERM = "term"
    """SIGTERM: it gives back what it cannot finish, and is started again."""
    REPLACE = "replace"
    """SIGSTOP, and a second process under the same id; the first goes on after `lasts_s`, a zombie."""
    CUT_CLIENTS = "cut_clients"
    """CLIENT KILL of every connection."""
    FLUSH_SCRIPTS = "flush_scripts"
    """SCRIPT FLUSH."""
    CUT_REPLIES = "cut_replies"
    """Of the producer's next requests, the replies are cut after Redis did what they ask."""


REDIS = "redis"
#: Longer than a TTL by so much, at least and at most, seconds: the work is with others by then.
BEYOND_S = (0.8, 2.5)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Args:
        at: it hits when this many tasks have ended.
        lasts_s: how long the victim is stopped, or stays down; for CUT_REPLIES, how many replies.
    """

    at: int
    kind: Kind
    victim: str
    lasts_s: float

    @property
    def is_signal(self) -> bool:
        """Whether it is a SIGKILL or a SIGSTOP of an agent or a balancer."""
        is_hard = self.kind in (Kind.KILL, Kind.STOP, Kind.REPLACE)
        return is_hard and self.victim not in (REDIS, PRODUCER)


@dataclass(frozen=True, slots=True)
class Profile:
    """How much of each."""

    tasks: int
    kill_agent: int
    stop_agent: int
    freeze_agent: int
    """Stopped for longer than its TTL."""
    replace_agent: int
    term_agent: int
    kill_balancer: int
    term_balancer: int
    stop_balancer: int
    freeze_balancer: int
    kill_redis: int
    kill_producer: int
    cut_clients: int
    flush_scripts: int
    cut_replies: int


FULL = Profile(
    tasks=20_000, kill_agent=42, stop_agent=12, freeze_agent=14, replace_agent=8, term_agent=10,
    kill_balancer=20, term_balancer=4, stop_balancer=8, freeze_balancer=4, kill_redis=4, kill_producer=4,
    cut_clients=8, flush_scripts=6, cut_replies=12,
)  # fmt: skip
SHORT = Profile(
    tasks=2_400, kill_agent=8, stop_agent=2, freeze_agent=3, replace_agent=2, term_agent=2,
    kill_balancer=4, term_balancer=1, stop_balancer=2, freeze_balancer=1, kill_redis=1, kill_producer=1,
    cut_clients=2, flush_scripts=2, cut_replies=3,
)  # fmt: skip


def make_schedule(seed: int, profile: Profile) -> tuple[Fault, ...]:
    """The faults of this seed, by the moment at which they hit."""
    draw = random.Random(f"schedule {seed}")
    agents = [agent.id for agent in AGENTS]
    # A careless zombie is the harder test: every second one that is replaced is such a one.
    replaced = agents + [agent.id for agent in AGENTS if agent.is_careless]
    frozen_s = (TTL_S + BEYOND_S[0], TTL_S + BEYOND_S[1])
    kinds: list[tuple[int, Kind, list[str], tuple[float, float]]] = [
        (profile.kill_agent, Kind.KILL, agents, (0.0, 0.0)),
        (profile.stop_agent, Kind.STOP, agents, (0.1, 1.2)),
        (profile.freeze_agent, Kind.STOP, agents, frozen_s),
        (profile.replace_agent, Kind.REPLACE, replaced, (0.5, 4.0)),
        (profile.term_agent, Kind.TERM, agents, (0.0, 0.0)),
        (profile.kill_balancer, Kind.KILL, list(BALANCERS), (0.0, 1.0)),
        (profile.term_balancer, Kind.TERM, list(BALANCERS), (0.0, 0.0)),
        (profile.stop_balancer, Kind.STOP, list(BALANCERS), (0.1, 1.0)),
        (profile.freeze_balancer, Kind.STOP, list(BALANCERS), (2.0, 6.0)),
        (profile.kill_redis, Kind.KILL, [REDIS], (0.0, 1.0)),
        (profile.kill_producer, Kind.KILL, [PRODUCER], (0.0, 0.5)),
        (profile.cut_clients, Kind.CUT_CLIENTS, [REDIS], (0.0, 0.0)),
        (profile.flush_scripts, Kind.FLUSH_SCRIPTS, [REDIS], (0.0, 0.0)),
        (profile.cut_replies, Kind.CUT_REPLIES, [PRODUCER], (1.0, 3.0)),
    ]
    faults = []
    for count, kind, victims, (least, most) in kinds:
        for number in range(count):
            # Spread over the run, each kind for itself; the producer is done before the last tasks have ended.
            last = 0.75 if victims == [PRODUCER] else 0.93
            share = 0.02 + (last - 0.02) * (number + draw.random()) / count
            lasts_s = round(draw.uniform(least, most), 3)
            if kind is Kind.KILL and victims is agents and draw.random() < 0.5:
                # Every second one stays away until it was found lost.
                lasts_s = round(draw.uniform(*frozen_s), 3)
            if kind is Kind.CUT_REPLIES:
                lasts_s = float(round(lasts_s))
            faults.append(Fault(round(share * profile.tasks), kind, draw.choice(victims), lasts_s))
    return tuple(sorted(faults, key=lambda fault: (fault.at, fault.kind, fault.victim)))
