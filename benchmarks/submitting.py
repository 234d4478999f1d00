"""How fast work gets in: one by one, and in bulk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from balancer.client import Balancer
from balancer.core.model import Task
from balancer.ledger import submit
from balancer.ledger.pool import Pool
from benchmarks import fleet
from benchmarks.aims import SUBMIT_BULK, SUBMIT_ONE_SHARE
from benchmarks.harness import Bench, interleaved, seconds
from benchmarks.report import Figure

#: Tasks of one bulk call.
BULK = 1_000


def run(bench: Bench) -> None:
    """Add the submit rates, and the share of what the same call reaches without our client."""
    with bench.pool() as pool, Balancer(bench.url, pool.name) as balancer:
        source, n, many = fleet.tasks(), bench.pick(1_500, 400), bench.pick(6_000, 2_000)
        nothing = bench.client.script_load("return 1")

        def fields() -> float:
            def loop() -> None:
                for i in range(n):
                    role, category = fleet.LANES[i % len(fleet.LANES)]
                    balancer.submit(role=role, category=category, payload=fleet.PAYLOAD)

            return n / seconds(loop)

        def ledger() -> float:
            made = list(islice(source, n))

            def loop() -> None:
                for task in made:
                    submit.submit(pool, [task])

            return n / seconds(loop)

        def bare(sha: str) -> Callable[[], float]:
            def go() -> float:
                calls = [_arguments(pool, task) for task in islice(source, n)]

                def loop() -> None:
                    for args in calls:
                        bench.client.evalsha(sha, 1, pool.keys.meta, *args)

                return n / seconds(loop)

            return go

        def bulk(size: int) -> Callable[[], float]:
            def go() -> float:
                made = list(islice(source, many))

                def loop() -> None:
                    for at in range(0, many, size):
                        balancer.submit_many(made[at : at + size])

                return many / seconds(loop)

            return go

        cases = [fields, ledger, bare(submit.SCRIPT.sha), bare(nothing), bulk(BULK), bulk(100)]
        rates = interleaved(cases, bench.pick(7, 3))
        names = [
            "Balancer.submit, one by one", "ledger.submit, one by one",
            "bare EVALSHA of the same script", "bare EVALSHA of `return 1`, same arguments",
        ]  # fmt: skip
        for name, values in zip(names, rates, strict=False):
            bench.add(Figure("submit", name, "/s", values))
        shares = [one / raw for one, raw in zip(rates[0], rates[2], strict=True)]
        bench.add(Figure("submit", "Balancer.submit / bare EVALSHA", "x", shares, SUBMIT_ONE_SHARE))
        bench.add(Figure("submit", "submit_many, 1,000 a call", "/s", rates[4], SUBMIT_BULK))
        bench.add(Figure("submit", "submit_many, 100 a call", "/s", rates[5]))


def _arguments(pool: Pool, task: Task) -> Sequence[str | int]:
    """What `ledger.submit` sends for one task, after the script, the number of keys and the key."""
    (call,) = submit.asked(pool, [task])
    return call[4:]
