"""What this machine and this client do with bare commands: the yardstick for all other figures."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.harness import Bench, interleaved, seconds
from benchmarks.report import RAW_LPUSH, RAW_SCRIPT, Figure

VALUE = "x" * 100
#: About what one assignment needs at least: a queue, an index, a hash, a lease, a stream, a counter.
SEVEN = """
for i = 1, #ARGV do
  local id = ARGV[i]
  redis.call('ZREM', 'raw:pending', id)
  redis.call('HSET', 'raw:task', 'state', 'assigned', 'agent', id)
  redis.call('HINCRBY', 'raw:agent', 'used', 1)
  redis.call('ZADD', 'raw:free', i, id)
  redis.call('HSET', 'raw:held', id, 'lease')
  redis.call('ZADD', 'raw:leases', i, id)
  redis.call('XADD', 'raw:inbox', 'MAXLEN', '~', '1000', '*', 'task', id)
end
return #ARGV
"""


def run(bench: Bench) -> None:
    """Add the raw rates."""
    client, n = bench.client, bench.pick(6_000, 1_500)
    client.flushall()
    sha = client.script_load(SEVEN)
    ids = [f"task-{i}" for i in range(100)]

    def one_by_one(*command: str) -> Callable[[], float]:
        def go() -> float:
            def loop() -> None:
                for i in range(n):
                    client.execute_command(*command, f"{VALUE}{i}")

            rate = n / seconds(loop)
            client.flushall()
            return rate

        return go

    def piped(*command: str) -> Callable[[], float]:
        def go() -> float:
            def loop() -> None:
                for _ in range(4 * n // 64):
                    pipe = client.pipeline(transaction=False)
                    for i in range(64):
                        pipe.execute_command(*command, f"{VALUE}{i}")
                    pipe.execute()

            rate = 4 * n // 64 * 64 / seconds(loop)
            client.flushall()
            return rate

        return go

    def scripts(batch: int) -> Callable[[], float]:
        calls = 4 * n // batch

        def loop() -> None:
            for _ in range(calls):
                client.evalsha(sha, 0, *ids[:batch])

        return lambda: calls * batch / seconds(loop)

    cases = {
        "LPUSH, one by one": one_by_one("LPUSH", "raw"),
        "ZADD, one by one": one_by_one("ZADD", "raw", "1"),
        RAW_LPUSH: piped("LPUSH", "raw"),
        "ZADD, 64 a pipeline": piped("ZADD", "raw", "1"),
        "XADD, 64 a pipeline": piped("XADD", "raw", "*", "field"),
        RAW_SCRIPT: scripts(10),
        "EVALSHA of 7 commands, 100 a call": scripts(100),
    }
    rates = interleaved(list(cases.values()), bench.pick(5, 3))
    for name, values in zip(cases, rates, strict=True):
        bench.add(Figure("raw", name, "/s", values))
    client.flushall()
