"""Every Redis key of a pool, in one place. The Lua side has the same table in prelude.lua; a test
compares them.
"""

from __future__ import annotations

from balancer.core.names import is_name

#: Name of the consumer group on both event streams.
GROUP = "balancer"


class Keys:
    """Key names of one pool. The braces are the Redis Cluster hash tag: a pool lives in one slot."""

    def __init__(self, pool: str) -> None:
        if not is_name(pool):
            raise ValueError(
                f"pool: {pool!r} is not a name (letters, digits, '.', '_', '-'; at most 64)"
            )
        self.prefix = prefix = f"wb:{{{pool}}}:"
        self.meta = f"{prefix}meta"  # HASH
        self.settings = f"{prefix}settings"  # HASH
        self.roles = f"{prefix}roles"  # SET
        self.lanedef = f"{prefix}lanedef"  # HASH
        self.laneref = f"{prefix}laneref"  # HASH
        self.scheduled = f"{prefix}scheduled"  # ZSET due_us
        self.expiry = f"{prefix}expiry"  # ZSET moment_us
        self.blocked = f"{prefix}blocked"  # ZSET accepted_us
        self.release = f"{prefix}release"  # ZSET ended_us
        self.rescore = f"{prefix}rescore"  # HASH
        self.failed = f"{prefix}failed"  # ZSET due_us
        self.leases = f"{prefix}leases"  # ZSET timeout_us
        self.completed = f"{prefix}completed"  # ZSET ended_us
        self.dead = f"{prefix}dead"  # ZSET ended_us
        self.cancelled = f"{prefix}cancelled"  # ZSET ended_us
        self.classdef = f"{prefix}classdef"  # HASH
        self.classn = f"{prefix}classn"  # HASH
        self.alive = f"{prefix}alive"  # ZSET beat_ms
        self.gone = f"{prefix}gone"  # ZSET since_ms
        self.agent_timers = f"{prefix}agent_timers"  # ZSET due_ms
        self.pool = f"{prefix}pool"  # HASH
        self.heartbeats = f"{prefix}heartbeats"  # STREAM
        self.completions = f"{prefix}completions"  # STREAM
        self.events = f"{prefix}events"  # STREAM
        self.rejected = f"{prefix}rejected"  # STREAM
        self.wake = f"{prefix}wake"  # LIST
        self.drain_lock = f"{prefix}drain_lock"  # STRING
        self.est = f"{prefix}est"  # HASH
        self.est_old = f"{prefix}est_old"  # HASH

    def task(self, task_id: str) -> str:
        """HASH: state and facts of one task."""
        return f"{self.prefix}task:{task_id}"

    def body(self, task_id: str) -> str:
        """STRING: JSON of description and payload."""
        return f"{self.prefix}body:{task_id}"

    def result(self, task_id: str) -> str:
        """STRING: JSON of result or error."""
        return f"{self.prefix}result:{task_id}"

    def hist(self, task_id: str) -> str:
        """LIST: the last tries that did not complete, one line each."""
        return f"{self.prefix}hist:{task_id}"

    def parents(self, task_id: str) -> str:
        """SET: parents that are still open."""
        return f"{self.prefix}parents:{task_id}"

    def children(self, task_id: str) -> str:
        """ZSET accepted_us: tasks that wait for this one."""
        return f"{self.prefix}children:{task_id}"

    def dedup(self, key_hash: str) -> str:
        """STRING: id of the task that was submitted under a dedup key. Named by the key's hash: what
        users write never becomes a key.
        """
        return f"{self.prefix}dedup:{key_hash}"

    def pending(self, role: str) -> str:
        """ZSET ready_us: all pending tasks of a role. Its size is the queue depth (autoscalers may
        read it).
        """
        return f"{self.prefix}pending:{role}"

    def lane(self, lane_id: str) -> str:
        """ZSET order_us: pending tasks of one lane."""
        return f"{self.prefix}lane:{lane_id}"

    def lanes(self, role: str) -> str:
        """ZSET head order_us: lanes of a role that are not empty."""
        return f"{self.prefix}lanes:{role}"

    def agent(self, agent_id: str) -> str:
        """HASH: declaration and counters of one agent."""
        return f"{self.prefix}agent:{agent_id}"

    def held(self, agent_id: str) -> str:
        """HASH: nonce -> lease record."""
        return f"{self.prefix}held:{agent_id}"

    def inbox(self, agent_id: str) -> str:
        """STREAM: the agent's open leases."""
        return f"{self.prefix}inbox:{agent_id}"

    def free(self, class_id: str) -> str:
        """ZSET rank: accepting agents of a class with units left."""
        return f"{self.prefix}free:{class_id}"

    def turn(self, class_id: str) -> str:
        """ZSET turn: the same agents, in the order that the pool's strategy asks for."""
        return f"{self.prefix}turn:{class_id}"

    def free_units(self, role: str) -> str:
        """ZSET free units: classes of a role with something free."""
        return f"{self.prefix}fc:{role}"

    def capacity(self, role: str) -> str:
        """ZSET units: classes of a role with agents that accept work, free or busy."""
        return f"{self.prefix}capacity:{role}"

    def role(self, role: str) -> str:
        """HASH: counters of one role."""
        return f"{self.prefix}role:{role}"

    def consumer(self, slot: int) -> str:
        """STRING: who uses this consumer name."""
        return f"{self.prefix}consumer:{slot}"
