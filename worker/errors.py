"""How an agent can end against its will; and what a handler raises to send a task elsewhere."""

from __future__ import annotations


class Reject(Exception):
    """Raised by a handler: this agent will not do the task. It goes back to its place in the queue, neither as a
    failure nor as a loss, and for a while to other agents first. The text is told to the balancer.
    """


class AgentEnded(Exception):
    """The agent had to end. `exit_code` is what its process should end with."""

    exit_code = 1


class Superseded(AgentEnded):
    """Another process has started under this agent's id: it holds the leases now."""

    exit_code = 3


class CommandEnded(Exception):
    """A program that ran for a task did not complete it. What it said goes to the balancer, and never into a log: it
    may repeat what the task carries.
    """

    def __init__(self, reason: str, said: str = "") -> None:
        super().__init__(f"{reason}: {said}" if said else reason)
        self.reason = reason


class CommandFailed(CommandEnded):
    """It failed."""


class CommandRejected(CommandEnded, Reject):
    """It rejected the task, by its exit code."""


class Fenced(AgentEnded):
    """No heartbeat was accepted for almost a TTL, and work did not stop when told to: it may be running twice."""

    exit_code = 4
