"""A producer's door with the verbs of the two documents that this project grew from: assign by
hand, count by hand, ask who carries how much. docs/seeds.md maps them line by line.

A count is a lease here. Opening one checks what a balancer checks, closing one frees its unit once,
and both are right beside any number of balancers that drain the same queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from balancer.client import Balancer
from balancer.core.errors import Conflict, InvalidInput, NoAgent, NoIdleAgent, NotFound
from balancer.core.model import Agent, Assignment, TaskState
from balancer.core.workload import WorkloadStats, workload_stats
from balancer.direct import Direct
from balancer.exchanges import fleet
from balancer.exchanges.opening import DEADLINE_S
from balancer.inputs import check_count, check_ids
from balancer.ledger import read_fleet
from balancer.ledger import settle as settling
from balancer.ledger.commit import Outcome
from balancer.ledger.leases import leases_of
from balancer.ledger.read_tasks import TaskStatus
from balancer.protocol.events import Status
from balancer.retry import answered

P = ParamSpec("P")
T = TypeVar("T")

#: Tasks that one `rebalance` looks at unless told otherwise, and the most.
REBALANCED, MOST_REBALANCED = 10, 128
#: How often a choice that another balancer overtook is made again.
TRIES = 3
_GRANTED = (Outcome.ASSIGNED, Outcome.ALREADY)
#: Why a named agent does not get a task, in words.
_NO_ROOM = {
    Outcome.FULL: "it has no room for the task now",
    Outcome.NOT_ACCEPTING: "it takes nothing new",
}


class WorkloadBalancer(Balancer):
    """A `Balancer` that also assigns and counts by hand. Every call is safe to repeat, but a
    `track_completion` that names no task: it settles one more.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        pool: str | None = None,
        *,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """See Balancer."""
        super().__init__(redis_url, pool, deadline_s=deadline_s)
        self._deadline_s = deadline_s
        self._direct = Direct(self.pool)

    def assign_task(self, task_id: str) -> Assignment:
        """Choose the best agent for a pending task and open the lease. A task that is assigned
        already keeps its agent.

        Raises:
            NotFound: no such task.
            Conflict: it is neither pending nor assigned.
            NoAgent: the fleet is empty, or has no agent of the task's role.
            NoIdleAgent: no agent of the role has room for it; it stays in the queue.
        """
        for _ in range(TRIES):
            task = self._task(task_id)
            if task.state is TaskState.ASSIGNED and task.assignment:
                return task.assignment
            if task.state is not TaskState.PENDING:
                raise Conflict(
                    f"task {task_id!r} is {task.state.value}; only a pending task can be assigned"
                )
            proposal = self._patiently(self._direct.choose, task)
            if proposal is None:
                raise self._nobody(task)
            self._patiently(self._direct.grant, [proposal])
        raise NoIdleAgent(
            f"no idle agents for role {task.role!r}: others were faster {TRIES} times"
        )

    def rebalance(self, limit: int = REBALANCED) -> list[Assignment]:
        """Assign the first pending tasks of the queue, at most `limit` (1 to 128), as far as there
        is room. What runs is left alone.

        Raises:
            InvalidInput: limit is out of bounds.
        """
        check_count("limit", limit, MOST_REBALANCED)
        made: list[Assignment] = []
        for _ in range(TRIES):
            proposals = self._patiently(self._direct.first, limit - len(made))
            outcomes = self._patiently(self._direct.grant, proposals)
            granted = [p.task for p, o in zip(proposals, outcomes, strict=True) if o in _GRANTED]
            statuses = self.statuses(granted)
            made += [task.assignment for task in statuses if task and task.assignment]
            if len(made) == limit or not proposals:
                break
        return made

    def track_assignment(self, agent_id: str, task_id: str) -> Assignment:
        """Open a lease of this task on this agent, whatever a strategy would choose. When the agent
        holds the task already, nothing changes.

        Raises:
            NotFound: no such task, or no such agent.
            Conflict: the task is not pending, or on another agent.
            NoAgent: the agent is of another role.
            NoIdleAgent: the agent has no room for it, or takes nothing new.
        """
        check_ids([agent_id], "agent")
        task = self._task(task_id)
        if task.state is TaskState.PENDING:
            agent = self._agent(agent_id)
            if agent.role != task.role:
                raise NoAgent(
                    f"agent {agent_id!r} has role {agent.role!r}, task {task_id!r} is for {task.role!r}"
                )
            proposal = self._direct.by_hand(task, agent)
            (outcome,) = self._patiently(self._direct.grant, [proposal])
            if outcome in _NO_ROOM:
                raise NoIdleAgent(f"agent {agent_id!r}: {_NO_ROOM[outcome]}")
            task = self._task(task_id)
        if (
            task.state is not TaskState.ASSIGNED
            or task.assignment is None
            or task.agent != agent_id
        ):
            where = f" on {task.agent!r}" if task.state is TaskState.ASSIGNED else ""
            raise Conflict(
                f"task {task_id!r} is {task.state.value}{where}; only a pending task can be assigned"
            )
        return task.assignment

    def track_completion(self, agent_id: str, task_id: str | None = None) -> bool:
        """Settle a lease of this agent as completed: of this task, or the one it has held longest.
        False when it holds no such lease; then nothing changes, so no count falls below zero.
        """
        check_ids([agent_id], "agent")
        if task_id is not None:
            check_ids([task_id])
        leases = self._ask(leases_of.steps(self.pool, agent_id))
        open_ = [lease for lease in leases if task_id in (None, lease.task)]
        return (
            bool(open_) and self._patiently(self._direct.settle, open_[:1], Status.COMPLETED) == 1
        )

    def reset_workload(self, agent_id: str) -> int:
        """Take all leases of an agent back; how many. The tasks keep their places in the queue, and
        none counts a failure or a loss.
        """
        check_ids([agent_id], "agent")
        leases = self._ask(leases_of.steps(self.pool, agent_id))
        pages = [leases[at : at + settling.CAP] for at in range(0, len(leases), settling.CAP)]
        return sum(self._patiently(self._direct.settle, page, Status.RELEASED) for page in pages)

    def get_workload(self, agent_id: str) -> int:
        """How many tasks an agent holds; 0 for one that nobody knows."""
        check_ids([agent_id], "agent")
        (agent,) = self._ask(read_fleet.agents_by_id.steps(self.pool, [agent_id]))
        return agent.current_tasks if agent else 0

    def get_total_workload(self) -> int:
        """How many tasks all agents hold."""
        return self._ask(fleet.running(self.pool))

    def get_idle_agents(self, role: str | None = None) -> list[Agent]:
        """Live agents that hold nothing, of one role or of all, by name."""
        if role is not None:
            check_ids([role], "role")
        return self._ask(fleet.idle(self.pool, role))

    def get_agents_by_role(self, role: str) -> list[Agent]:
        """All known agents of a role, by name."""
        check_ids([role], "role")
        return self._ask(fleet.of_role(self.pool, role))

    def get_roles_needed(self) -> list[str]:
        """Roles that have waiting tasks (pending, blocked, scheduled or between two tries) and no
        live agent, by name.
        """
        return self._ask(fleet.roles_needed(self.pool))

    def stats(self) -> WorkloadStats:
        """Who carries how much: total, per agent, maximum, busiest, average."""
        found = self._ask(fleet.everyone(self.pool))
        return workload_stats(
            (agent.id, agent.current_tasks)
            for agent in found
            if agent.current_tasks or agent.activity != "stopped"
        )

    def _task(self, task_id: str) -> TaskStatus:
        if not task_id:
            raise InvalidInput(f"task id: {task_id!r}: there is no task to assign")
        return self.status(task_id)

    def _agent(self, agent_id: str) -> Agent:
        (agent,) = self._ask(read_fleet.agents_by_id.steps(self.pool, [agent_id]))
        if agent is None:
            raise NotFound(f"agent {agent_id!r}: there is no such agent in pool {self.pool.name!r}")
        return agent

    def _nobody(self, task: TaskStatus) -> NoAgent:
        """Why nobody was found: the fleet is empty, the role has no agent, or none of them has room."""
        rows = self.queues()
        if not any(row.agents for row in rows):
            return NoAgent(f"no agents in pool {self.pool.name!r}")
        if not any(row.agents for row in rows if row.role == task.role):
            return NoAgent(f"no agents available for role {task.role!r}")
        return NoIdleAgent(f"no idle agents for role {task.role!r} with room for {task.cost}")

    def _patiently(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._driver.check_open()
        return answered(lambda: call(*args, **kwargs), self._deadline_s)
