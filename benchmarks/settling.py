"""How fast completions take effect: through the script's wrapper, and through the consumer."""

from __future__ import annotations

from collections.abc import Callable

from balancer.ledger import settle
from balancer.ledger.pool import Pool
from balancer.loops.consumer import CompletionConsumer
from balancer.protocol import read_completion
from balancer.protocol.keys import GROUP
from benchmarks import fleet
from benchmarks.harness import Bench, interleaved, seconds
from benchmarks.report import Figure, median

AGENTS = 1_000


def run(bench: Bench) -> None:
    """Add the rates and Redis' share of them."""
    n = bench.pick(4_000, 1_000)
    with bench.pool() as pool:
        fleet.join(pool, [fleet.heartbeat(i) for i in range(AGENTS)])
        consumer = CompletionConsumer(pool, bench.client, "bench")
        redis: dict[str, list[float]] = {"wrapper": [], "consumer": []}

        def timed(name: str, call: Callable[[], object]) -> float:
            before = bench.clock.script_us()
            took = seconds(call)
            redis[name].append((bench.clock.script_us() - before) / n)
            return n / took

        def wrapper() -> float:
            _report(pool, n)
            rows = pool.client.xreadgroup(GROUP, "bench", {pool.keys.completions: ">"}, count=n)
            entries = [(entry, fields) for page in rows.values() for entry, fields in page]
            made = [settle.CompletionEntry(entry, read_completion(f)) for entry, f in entries]

            def loop() -> None:
                for at in range(0, n, settle.CAP):
                    settle.settle(pool, made[at : at + settle.CAP])

            return timed("wrapper", loop)

        def through_consumer() -> float:
            _report(pool, n)

            def loop() -> None:
                left = n
                while left > 0:
                    left -= len(consumer.step())

            return timed("consumer", loop)

        rates = interleaved([wrapper, through_consumer], bench.pick(5, 3))
    for name, values in zip(redis, rates, strict=True):
        label = f"completions through the {name}, {settle.CAP} a call"
        bench.add(Figure("settle", label, "/s", values, parts={"Redis us": median(redis[name])}))


def _report(pool: Pool, n: int) -> None:
    """Leases whose completions lie in the stream."""
    fleet.fill(pool, n)
    pipe = pool.client.pipeline(transaction=False)
    for lease in fleet.assign(pool, n):
        pipe.xadd(pool.keys.completions, fleet.completion(lease).fields())
    pipe.execute()
