"""An agent is let go by its operator, with all that takes part: client, balancer, a real agent."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import pytest

from balancer import Balancer, log
from balancer.core.model import Admin
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.service import Service
from tests.support.wait import wait_until
from worker import Agent, TaskContext


@pytest.fixture
def operator(redis_server: EmbeddedRedis, pool: Pool) -> Iterator[Balancer]:
    log.configure(to=io.StringIO())
    service = Service(redis_server.url, pool.name, tick_s=0.05, sweep_s=0.1).start()
    with Balancer(redis_server.url, pool.name) as balancer:
        yield balancer
    service.stop()


class Held:
    """A handler that ends when it is let, or when it is told to stop."""

    def __init__(self) -> None:
        self.began, self.opened = threading.Event(), threading.Event()

    def __call__(self, task: TaskContext) -> str:
        self.began.set()
        while not self.opened.wait(0.02) and not task.cancelled.is_set():
            pass
        return "done"


def agent_of(url: str, name: str, handler: Held) -> Agent:
    agent = Agent(name, role="dev", redis_url=url, pool="p", interval_s=0.1, ttl_s=30.0)
    agent.task()(handler)
    agent.start()
    return agent


def admin(operator: Balancer, name: str) -> Admin:
    return next(agent.admin for agent in operator.agents() if agent.id == name)


def test_an_agent_finishes_what_it_holds_and_is_gone(
    operator: Balancer, redis_server: EmbeddedRedis
) -> None:
    handler = Held()
    agent = agent_of(redis_server.url, "old", handler)
    task = operator.submit(role="dev")
    assert handler.began.wait(10)

    assert operator.retire_agent("old", 60) == 1
    waits = operator.submit(role="dev")
    handler.opened.set()

    assert agent.wait(10)
    assert operator.wait(task, 10).state == "completed"
    wait_until(lambda: admin(operator, "old") is Admin.RETIRED, "the pool has let it go")
    assert operator.status(waits).state == "pending"


def test_at_the_deadline_its_work_goes_to_another_uncounted(
    operator: Balancer, redis_server: EmbeddedRedis
) -> None:
    stuck, free = Held(), Held()
    old = agent_of(redis_server.url, "old", stuck)
    task = operator.submit(role="dev", max_failures=1)
    assert stuck.began.wait(10)
    new = agent_of(redis_server.url, "new", free)

    operator.retire_agent("old", 0.2)

    assert free.began.wait(10)
    free.opened.set()
    done = operator.wait(task, 10)
    assert (done.state, done.agent, done.attempt) == ("completed", "new", 2)
    assert (done.losses, done.failures) == (0, 0)
    assert old.wait(10), "what was taken back is stopped, and the agent ends"
    assert new.stop(10)
