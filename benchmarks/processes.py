"""The other processes of a benchmark: a balancer, and agents that do nothing as fast as they can."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Event

from balancer.protocol import Keys, connect
from balancer.service import Service
from benchmarks.harness import quiet

SPAWN = multiprocessing.get_context("spawn")


def balance(url: str, pool: str, ready: Event, stop: Event) -> None:
    """A balancer process."""
    quiet()
    service = Service(url, pool).start()
    ready.set()
    stop.wait()
    service.stop()


def carry_out(url: str, pool: str, agents: Sequence[str], ready: Event, stop: Event) -> None:
    """Many agents in one process, on the raw protocol: read all inboxes in one call, report all that
    came in one pipeline.
    """
    client, keys = connect(url, block_s=1), Keys(pool)
    after = {keys.inbox(agent): "0" for agent in agents}
    names = {keys.inbox(agent): agent for agent in agents}
    ready.set()
    while not stop.is_set():
        pipe = client.pipeline(transaction=False)
        for inbox, entries in (client.xread(after, block=200) or {}).items():
            after[inbox] = entries[-1][0]
            for _, task in entries:
                report = {
                    "v": "1", "agent": names[inbox], "task": task["task"],
                    "attempt": task["attempt"], "lease": task["lease"],
                    "status": "completed", "duration_ms": "1", "result": "1",
                }  # fmt: skip
                pipe.xadd(keys.completions, report)
        if len(pipe):
            pipe.execute()


@contextmanager
def running(target: object, *args: object) -> Iterator[None]:
    """One of the above in a process of its own, stopped in the end."""
    ready, stop = SPAWN.Event(), SPAWN.Event()
    process = SPAWN.Process(target=target, args=(*args, ready, stop), daemon=True)  # type: ignore[arg-type]
    process.start()
    try:
        if not ready.wait(30):
            raise RuntimeError("a process of the benchmark did not start")
        yield
    finally:
        stop.set()
        process.join(15)
        if process.is_alive():
            process.kill()
