"""The balancers of a pool, as they show themselves: each holds a consumer name, and writes into it how its loops do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from balancer.protocol.connect import TextRedis
from balancer.protocol.keys import Keys

#: How long a consumer name stays taken after its process died, milliseconds.
NAME_MS = 30_000
#: Consumer names there are; more replicas than this share nothing and wait.
NAMES = 64
#: Stands among the loops of a sign before a version of the settings; no loop has this name.
_UNABLE = "unable"


class Replica(NamedTuple):
    """One balancer process. `age_s` is how old its word is; `loops` are seconds since each loop last succeeded."""

    consumer: str
    host: str
    pid: int
    age_s: float
    loops: dict[str, float]
    #: The version of the settings by which it cannot work: it cannot load their strategy. None where it can.
    unable_ver: int | None = None

    @property
    def silent_s(self) -> float:
        """Seconds since the slowest loop last succeeded, as far as is known."""
        return max(self.loops.values(), default=0.0)

    @property
    def slowest(self) -> str:
        """The loop that last succeeded the longest ago."""
        return max(self.loops, key=lambda name: self.loops[name], default="")


def sign(token: str, loops: Mapping[str, float], unable_ver: int | None = None) -> str:
    """What a balancer writes into its consumer name: who it is, milliseconds since each loop last succeeded, and the
    version of the settings by which it cannot work, if it cannot.
    """
    words = [f"{name}:{round(1000 * age_s)}" for name, age_s in loops.items()]
    if unable_ver is not None:
        words.append(f"{_UNABLE}:{unable_ver}")
    return " ".join([token, *words])


def is_of(written: str, token: str) -> bool:
    """Whether a sign is that of this process."""
    return written == token or written.startswith(f"{token} ")


def replicas(client: TextRedis, keys: Keys) -> list[Replica]:
    """The balancers that hold a consumer name now, in one round trip."""
    pipe = client.pipeline(transaction=False)
    for ask in asks(keys):
        pipe.execute_command(*ask)
    return read_replicas(pipe.execute())


def asks(keys: Keys) -> list[tuple[str, str]]:
    """What to ask for them: two commands a consumer name."""
    names = [keys.consumer(slot) for slot in range(NAMES)]
    return [(word, name) for name in names for word in ("GET", "PTTL")]


def read_replicas(answers: Sequence[Any]) -> list[Replica]:
    """Those of the answers to `asks`."""
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
        said = {name: int(number) for name, number in pairs}
        unable_ver = said.pop(_UNABLE, None)
        ages = {name: silent_ms / 1000 + age_s for name, silent_ms in said.items()}
        return Replica(consumer, host, int(pid), age_s, ages, unable_ver)
    except ValueError:
        return None
