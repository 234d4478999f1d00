"""An agent in Python: heartbeats, an inbox, handlers, completions. Speaks the public protocol and nothing else."""

from worker.agent import Agent
from worker.context import TaskContext
from worker.errors import AgentEnded, Fenced, Reject, Superseded

__all__ = ["Agent", "AgentEnded", "Fenced", "Reject", "Superseded", "TaskContext"]
