"""Several drainers at one pool: what they get done together, and how much they get in each other's
way.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from balancer.core.planner import Proposal
from balancer.ledger.pool import Pool
from balancer.loops.drainer import Drainer
from balancer.protocol import connect
from benchmarks import fleet
from benchmarks.harness import Bench, quiet
from benchmarks.report import Figure

AGENTS, WAITING = 1_000, 1_000
SPAWN = multiprocessing.get_context("spawn")
#: When a drainer last assigned something, what it assigned, what was rejected.
Answer = tuple[float, int, int]


def drain(url: str, rounds: int, start: Barrier, answers: Queue[Answer]) -> None:
    """One drainer process: drain the queue to its end, once a round."""
    quiet()
    client, waiting = connect(url), connect(url, block_s=1)
    pool = Pool.open(client, "bench")
    drainer = Drainer(pool, waiting)
    never = threading.Event()
    for _ in range(rounds):
        start.wait()
        assigned = rejected = 0
        last = time.monotonic()
        while True:
            done = drainer.step()
            assigned, rejected = assigned + done.assigned, rejected + done.rejected
            if done.assigned:
                last = time.monotonic()
            if not done.busy and not done.more:
                break
            drainer.wait(never)
        answers.put((last, assigned, rejected))


def run(bench: Bench) -> None:
    """Add the rates of one and of four drainers."""
    rounds = bench.pick(20, 4)
    for drainers in (1, 4):
        with bench.pool() as pool:
            fleet.join(pool, [fleet.heartbeat(i) for i in range(AGENTS)])
            rates, rejected = _race(bench, pool, drainers, rounds)
        name = f"{drainers} drainer{'s' * (drainers > 1)}, {AGENTS:,} agents, {WAITING:,} waiting"
        parts = {"rejected %": 100 * rejected / (rejected + WAITING * len(rates))}
        bench.add(Figure("drainers", name, "/s", rates, parts=parts))


def _race(bench: Bench, pool: Pool, drainers: int, rounds: int) -> tuple[list[float], int]:
    start: Barrier = SPAWN.Barrier(drainers + 1)
    answers: Queue[Answer] = SPAWN.Queue()
    processes = [
        SPAWN.Process(target=drain, args=(bench.url, rounds + 1, start, answers), daemon=True)
        for _ in range(drainers)
    ]
    for process in processes:
        process.start()
    rates, rejected = [], 0
    for at in range(rounds + 1):
        fleet.fill(pool, WAITING)
        start.wait(60)
        began = time.monotonic()
        done = [answers.get(timeout=60) for _ in range(drainers)]
        if at:  # the first round warms up
            rates.append(WAITING / (max(end for end, _, _ in done) - began))
            rejected += sum(lost for _, _, lost in done)
        fleet.finish(pool, _open_leases(pool))
    for process in processes:
        process.join(10)
    return rates, rejected


def _open_leases(pool: Pool) -> list[Proposal]:
    tasks = pool.client.zrange(pool.keys.leases, 0, -1)
    pipe = pool.client.pipeline(transaction=False)
    for task in tasks:
        pipe.hmget(pool.keys.task(task), ["agent", "nonce"])
    rows = zip(tasks, pipe.execute(), strict=True)
    return [Proposal(task, agent, nonce, 1, 0.0, {}, "") for task, (agent, nonce) in rows]
