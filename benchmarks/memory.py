"""What a waiting task takes up in Redis."""

from __future__ import annotations

from balancer.ledger.pool import Pool
from benchmarks import fleet
from benchmarks.aims import WAITING_BYTES
from benchmarks.harness import Bench
from benchmarks.report import Figure


def run(bench: Bench) -> None:
    """Add the bytes per waiting task; the events stream, which is capped, is told apart."""
    n = bench.pick(100_000, 25_000)
    with bench.pool() as pool:
        fleet.fill(pool, len(fleet.LANES))
        before, events_before = _used(pool), _size(pool, pool.keys.events)
        fleet.fill(pool, n)
        events = _size(pool, pool.keys.events) - events_before
        whole = _used(pool) - before
        sample = pool.client.zrandmember(pool.keys.pending("dev"), 200)
        hashes = sum(_size(pool, pool.keys.task(task)) for task in sample) / len(sample)
        bodies = sum(_size(pool, pool.keys.body(task)) for task in sample) / len(sample)
        zsets = [pool.keys.pending(role) for role in fleet.CATEGORIES]
        zsets += pool.client.keys(f"{pool.keys.prefix}lane:*")
        queues = sum(_size(pool, key) for key in zsets) / (n + len(fleet.LANES))
    parts = {"task hash": hashes, "body": bodies, "queue and lane": queues}
    value = (whole - events) / n
    parts["key table"] = value - sum(parts.values())
    name = f"bytes per waiting task, {n:,} of 100 B, without events"
    bench.add(Figure("memory", name, "B", [value], WAITING_BYTES, parts))
    bench.add(Figure("memory", "the same with its entry in the capped events", "B", [whole / n]))


def _used(pool: Pool) -> int:
    return int(pool.client.info("memory")["used_memory"])


def _size(pool: Pool, key: str) -> int:
    return int(pool.client.memory_usage(key, samples=0) or 0)
