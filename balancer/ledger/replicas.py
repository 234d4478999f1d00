"""The balancers of a pool, as they show themselves: each holds a consumer name, and writes into it how its loops do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from balancer.protocol.connect import TextRedis
from balancer.protocol.keys import Keys

#: How long a consumer name stays taken after its process died, milliseconds.
NAME_MS = 30_000
#: Consumer names there are; more replicas than this share nothing and wait.
NAMES = 64


class Replica(NamedTuple):
    """One balancer process. `age_s` is how old its word is; `loops` are seconds since each loop last succeeded."""

    consumer: str
    host: str
    pid: int
    age_s: float
    loops: dict[str, float]

    @property
    def silent_s(self) -> float:
        """Seconds since the slowest loop last succeeded, as far as is known."""
        return max(self.loops.values(), default=0.0)

    @property
    def slowest(self) -> str:
        """The loop that last succeeded the longest ago."""
        return max(self.loops, key=lambda name: self.loops[name], default="")


def sign(token: str, loops: Mapping[str, float]) -> str:
    """What a balancer writes into its consumer name: who it is, and milliseconds since each loop last succeeded."""
    return " ".join([token, *(f"{name}:{round(1000 * age_s)}" for name, age_s in loops.items())])


def is_of(written: str, token: str) -> bool:
    """Whether a sign is that of this process."""
    return written == token or written.startswith(f"{token} ")


def replicas(client: TextRedis, keys: Keys) -> list[Replica]:
    """The balancers that hold a consumer name now, in one round trip."""
    pipe = client.pipeline(transaction=False)
    for slot in range(NAMES):
        pipe.get(keys.consumer(slot))
        pipe.pttl(keys.consumer(slot))
    answers = pipe.execute()
    found = (
        _read(f"c{slot}", written, left_ms)
        for slot, (written, left_ms) in enumerate(zip(answers[::2], answers[1::2], strict=True))
        if written and left_ms > 0
    )
    return [replica for replica in found if replica is not None]


def _read(consumer: str, written: str, left_ms: int) -> Replica | None:
    """What a sign says; None when it is not one of ours."""
    age_s = max(0.0, (NAME_MS - left_ms) / 1000)
    try:
        host, pid, _, *loops = written.split()
        pairs = (part.split(":") for part in loops)
        ages = {name: int(silent_ms) / 1000 + age_s for name, silent_ms in pairs}
        return Replica(consumer, host, int(pid), age_s, ages)
    except ValueError:
        return None
