"""How long an idle agent waits for work that is just being submitted."""

from __future__ import annotations

import threading
import time

from balancer.client import Balancer
from balancer.core.model import Task
from balancer.protocol import TextRedis, connect, new_id
from benchmarks import fleet
from benchmarks.aims import LATENCY_P50_MS, LATENCY_P99_MS
from benchmarks.harness import Bench
from benchmarks.processes import balance, running
from benchmarks.report import Figure, percentile

AGENTS, RATE = 48, 100


class Agents(threading.Thread):
    """Agents that wait on their inboxes in one blocked XREAD, note when a task is there, and report
    it done.
    """

    def __init__(self, client: TextRedis, inboxes: dict[str, str], completions: str) -> None:
        super().__init__(daemon=True)
        self._client, self._agents, self._completions = client, inboxes, completions
        self.seen: dict[str, float] = {}
        self.stop = False

    def run(self) -> None:
        """Read, note, report."""
        after = dict.fromkeys(self._agents, "0")
        while not self.stop:
            reply = self._client.xread(after, block=200) or {}
            now = time.perf_counter()
            for inbox, entries in reply.items():
                after[inbox] = entries[-1][0]
                for _, task in entries:
                    self.seen[task["task"]] = now
                    done = {"agent": self._agents[inbox], "status": "completed", "v": "1"}
                    done |= {name: task[name] for name in ("task", "attempt", "lease")}
                    self._client.xadd(self._completions, done)


def run(bench: Bench) -> None:
    """Add the percentiles."""
    n, repetitions = bench.pick(800, 250), bench.pick(5, 3)
    with bench.pool() as pool, running(balance, bench.url, pool.name):
        beats = [fleet.heartbeat(i) for i in range(AGENTS)]
        for beat in beats:
            pool.client.xadd(pool.keys.heartbeats, beat.fields())
        inboxes = {pool.keys.inbox(beat.agent): beat.agent for beat in beats}
        agents = Agents(connect(bench.url, block_s=1), inboxes, pool.keys.completions)
        agents.start()
        time.sleep(1)
        with Balancer(bench.url, pool.name) as balancer:
            _paced(balancer, agents, RATE // 2)
            rounds = [_paced(balancer, agents, n) for _ in range(repetitions)]
        agents.stop = True
        agents.join(2)
    aims = {0.5: LATENCY_P50_MS, 0.95: None, 0.99: LATENCY_P99_MS}
    for share, aim in aims.items():
        values = [percentile(round_, share) for round_ in rounds]
        name = f"submit to inbox, idle agents, {RATE}/s, p{100 * share:.0f}"
        bench.add(Figure("latency", name, "ms", values, aim))


def _paced(balancer: Balancer, agents: Agents, n: int) -> list[float]:
    """Submit n tasks at an even pace; milliseconds from before each call until its inbox was read."""
    began: dict[str, float] = {}
    start = time.perf_counter()
    for i in range(n):
        time.sleep(max(0.0, start + i / RATE - time.perf_counter()))
        role, category = fleet.LANES[i % len(fleet.LANES)]
        task = Task(id=new_id(), role=role, category=category, payload=fleet.PAYLOAD)
        began[task.id] = time.perf_counter()
        balancer.submit(task)
    until = time.monotonic() + 10
    while not began.keys() <= agents.seen.keys() and time.monotonic() < until:
        time.sleep(0.01)
    return [1e3 * (agents.seen[task] - at) for task, at in began.items()]
