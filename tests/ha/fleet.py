"""A whole pool at one address: a balancer, agents, a producer, and the judgement over what they did."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from balancer import Balancer
from balancer.ledger import Pool
from balancer.ledger.audit import audit
from balancer.protocol import connect
from balancer.service import Service
from tests.support.wait import wait_until
from worker import Agent, TaskContext

#: How long a producer goes on trying, seconds: longer than a failover takes.
DEADLINE_S = 40.0


class Fleet:
    """Two agents and a balancer; a producer in a thread of its own submits until it is told to stop."""

    def __init__(self, url: str, pool: str, producer: Balancer) -> None:
        self.url, self.pool, self.producer = url, pool, producer
        self.accepted: list[str] = []
        #: How often each task was run.
        self.runs: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._produce, daemon=True)
        self.error: Exception | None = None

    def begin(self) -> None:
        """Submit from here on."""
        self._thread.start()

    def end(self) -> None:
        """Submit no more; all that was accepted completes."""
        self._stop.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        assert self.error is None, self.error
        wait_until(self._all_completed, "all accepted tasks are completed", 40)

    def run_task(self, task: TaskContext) -> int:
        """What agents do."""
        self.runs[task.id] += 1
        return 1

    def more(self, count: int = 10, timeout_s: float = DEADLINE_S) -> None:
        """Wait until some more tasks were accepted and run."""
        accepted, run = len(self.accepted), len(self.runs)
        wait_until(
            lambda: len(self.accepted) >= accepted + count and len(self.runs) >= run + count,
            f"{count} more tasks were accepted and run",
            timeout_s,
        )

    def _all_completed(self) -> bool:
        ids = self.accepted
        states = [
            status and status.state.value
            for at in range(0, len(ids), 200)
            for status in self.producer.statuses(ids[at : at + 200])
        ]
        assert None not in states, f"lost: {states.count(None)} of {len(states)} accepted tasks"
        return states.count("completed") == len(states)

    def _produce(self) -> None:
        try:
            while not self._stop.is_set():
                task = f"t{len(self.accepted)}"
                self.accepted.append(self.producer.submit(id=task, role="dev"))
                self._stop.wait(0.005)
        except Exception as error:
            self.error = error


@contextmanager
def fleet(url: str, pool: str) -> Iterator[Fleet]:
    """A pool that runs. When it ends, its books are right."""
    with ExitStack() as stack:
        service = Service(url, pool).start()
        stack.callback(service.stop)
        producer = stack.enter_context(Balancer(url, pool, deadline_s=DEADLINE_S))
        running = Fleet(url, pool, producer)
        for number in (1, 2):
            agent = Agent(
                f"a{number}", role="dev", redis_url=url, pool=pool, max_concurrent=4, interval_s=0.5
            )
            agent.task()(running.run_task)
            agent.start()
            stack.callback(agent.stop, 5)
        yield running
    with connect(url, pool=pool) as client:
        verdict = audit(Pool.open(client, pool))
        assert not verdict.violations, verdict.violations
