"""What operators say through a producer's door: queues, agents, what decides."""

from __future__ import annotations

from typing import Any, TypeVar

from balancer.core.model import Agent, LoadMetrics
from balancer.core.settings import PoolSettings
from balancer.exchanges import agents, configuring, fleet, queues
from balancer.exchanges.blocking import BlockingDriver
from balancer.ledger import read, read_fleet
from balancer.ledger.exchange import Exchange
from balancer.ledger.pool import Pool
from balancer.ledger.read_fleet import RoleQueue

T = TypeVar("T")


class Operating:
    """The calls about a pool as a whole; `Balancer` has them beside those about tasks."""

    _driver: BlockingDriver
    _pool: Pool

    def _ask(self, exchange: Exchange[T]) -> T:
        return self._driver.run(exchange)

    def pause_queue(self, role: str) -> None:
        """Hand out none of a role's work until it is resumed. What agents hold goes on, and new work
        is accepted. Pausing again changes nothing.

        Raises:
            NotFound: the pool has had no task and no agent of this role.
        """
        self._ask(queues.pause(self._pool, role))

    def resume_queue(self, role: str) -> None:
        """Hand out a role's work again. Resuming again changes nothing.

        Raises:
            NotFound: the pool has had no task and no agent of this role.
        """
        self._ask(queues.resume(self._pool, role))

    def purge_queue(self, role: str) -> int:
        """Cancel every task of a role that waits now, for whatever it waits; how many there were.
        What agents hold goes on.

        Raises:
            NotFound: the pool has had no task and no agent of this role.
        """
        return self._ask(queues.purge(self._pool, role))

    def load_metrics(self) -> LoadMetrics:
        """How busy the pool is."""
        return self._ask(read_fleet.load_metrics.steps(self._pool))

    def agents(self, limit: int = read.MOST) -> list[Agent]:
        """Known agents, live ones first; at most `limit`, and 1,000.

        Raises:
            InvalidInput: limit is no whole number from 1 on.
        """
        return self._ask(fleet.known(self._pool, limit))

    def queues(self) -> list[RoleQueue]:
        """Depth, age and capacity of every role, and what in its queue no agent could have."""
        return self._ask(queues.listed(self._pool))

    def pause_agent(self, agent_id: str) -> int:
        """Give an agent nothing new; what it holds it keeps. Returns how many leases that is.

        Raises:
            NotFound: no such agent.
            Conflict: it is retiring.
        """
        return self._ask(agents.pause(self._pool, agent_id))

    def resume_agent(self, agent_id: str) -> int:
        """Take back a pause or a retirement. Returns how many leases the agent holds.

        Raises:
            NotFound: no such agent.
        """
        return self._ask(agents.resume(self._pool, agent_id))

    def retire_agent(self, agent_id: str, deadline_s: float) -> int:
        """Let an agent go: nothing new from now on, its process is told to stop, and what it still
        holds at the deadline goes back into the queue without counting as a failure or a loss. Said
        again it changes nothing, but a shorter deadline counts. Returns how many leases it holds.

        Args:
            agent_id: the agent.
            deadline_s: 0 to 30 days, by the pool's clock.

        Raises:
            InvalidInput: deadline_s is out of bounds.
            NotFound: no such agent.
        """
        return self._ask(agents.retire(self._pool, agent_id, deadline_s))

    def configure(self, **changes: Any) -> PoolSettings:
        """Change what decides in the pool, while it works; the settings as they are now. Balancers hear
        of it within a second, producers with their next call. Where it changes the order of the queue,
        what waits is scored again, some thousands of tasks a second.

        Args:
            changes: settings by their names (docs/configuration.md). Tables are changed key by key;
                None takes a key out, so that its default counts.

        Raises:
            InvalidInput: a setting breaks its rule; nothing was changed.
            Conflict: somebody else changed them in the same moment.
            Misconfigured: the strategy cannot be loaded here.
        """
        return self._ask(configuring.configure(self._pool, changes))
