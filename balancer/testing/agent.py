"""An agent in virtual time: the handlers of a real one, called one after the other in this thread."""

from __future__ import annotations

from typing import Any

import structlog

from balancer.protocol import InboxKind, Keys, Mode, Status, TextRedis, new_nonce
from balancer.testing.driver import finished
from worker import Agent, Reject
from worker.executor import ANY, describe_error, encode_result, is_async
from worker.lease import Lease, Phase, read_lease


class VirtualAgent:
    """Speaks the agents' protocol: heartbeats, inbox, completions.

    Args:
        agent: what it declares, and its handlers.
        takes_s: how long each try takes, by the pool's clock; its handler is called at the end.
    """

    def __init__(self, agent: Agent, takes_s: float, client: TextRedis, keys: Keys) -> None:
        self.declaration = agent.declaration.model_copy(update={"boot": new_nonce()})
        self._handlers, self._takes_s = agent.handlers, takes_s
        self._client, self._keys = client, keys
        self._log = structlog.get_logger("worker").bind(agent_id=self.id)
        self._tries: dict[str, Lease] = {}
        self._retires = False
        self._known = set(self._read_inbox()[0])  # to be resumed
        self._seq, self._beaten_ms = 0, -1

    @property
    def id(self) -> str:
        """The agent."""
        return self.declaration.agent

    def beat(self, now_ms: int, number: int, mode: Mode = Mode.RUNNING) -> bool:
        """Say that it is there, once in each moment.

        Args:
            now_ms: the pool's time; the entry's id follows it.
            number: tells the heartbeats of one moment apart.
            mode: what it says of itself.
        """
        if now_ms == self._beaten_ms and mode is Mode.RUNNING:
            return False
        self._seq, self._beaten_ms = self._seq + 1, now_ms
        if self._retires and mode is Mode.RUNNING:
            mode = Mode.STOPPING
        said = {"seq": self._seq, "start": self._seq == 1, "mode": mode, "held": (*self._known,)}
        beat = self.declaration.model_copy(update=said)
        self._client.xadd(self._keys.heartbeats, beat.fields(), id=f"{now_ms}-{number}")
        return True

    def work(self, now_s: float) -> int:
        """Begin what is new in the inbox, end what has taken its time or is cancelled; how many began
        or ended.
        """
        inbox, cancelled = self._read_inbox()
        for nonce in self._tries.keys() - inbox.keys():
            self._tries.pop(nonce).interrupt()
        begun = [lease for nonce, lease in inbox.items() if nonce not in self._tries]
        for lease in begun:
            lease.began_s = now_s
            self._tries[lease.nonce] = lease
        for nonce in cancelled & self._tries.keys():
            self._tries[nonce].is_cancelled = True
            self._tries[nonce].interrupt()
        over = [lease for lease in self._running() if self._ends_s(lease) <= now_s]
        for lease in over:
            self._end(lease, now_s)
        self._known = set(self._tries)
        return len(begun) + len(over)

    @property
    def is_done(self) -> bool:
        """Whether it was told to retire, and holds nothing any more."""
        return self._retires and not self._tries

    def next_end_s(self) -> float:
        """When the next try will have taken its time."""
        return min(map(self._ends_s, self._running()), default=float("inf"))

    def _running(self) -> list[Lease]:
        return [lease for lease in self._tries.values() if lease.phase is not Phase.REPORTED]

    def _ends_s(self, lease: Lease) -> float:
        return lease.began_s if lease.is_cancelled else lease.began_s + self._takes_s

    def _end(self, lease: Lease, now_s: float) -> None:
        if lease.phase is not Phase.FINISHED:  # it was unreadable
            status, result, error = self._called(lease)
            lease.end(status, result, error, now_s)
        self._client.xadd(self._keys.completions, lease.completion.fields())
        lease.phase = Phase.REPORTED

    def _called(self, lease: Lease) -> tuple[Status, str, str]:
        category = lease.task.category
        handler = self._handlers.get(category) or self._handlers.get(ANY)
        if handler is None:
            return Status.FAILED, "", f"no handler for category {category!r} on this agent"
        try:
            result: Any = handler(lease.context)
            if is_async(handler):
                result = finished(result)
        except Reject as why:
            return Status.REJECTED, "", str(why)
        except (Exception, SystemExit) as error:
            return Status.FAILED, "", describe_error(error)
        return Status.COMPLETED, encode_result(result)[0], ""

    def _read_inbox(self) -> tuple[dict[str, Lease], set[str]]:
        """Its leases by nonce, and the nonces of those that are cancelled."""
        leases: dict[str, Lease] = {}
        cancelled: set[str] = set()
        for entry, fields in self._client.xrange(self._keys.inbox(self.id)):
            kind = fields.get("kind", InboxKind.TASK)
            if kind == InboxKind.TASK:
                lease = read_lease(self.id, entry, fields, self._log)
                leases[lease.nonce] = lease
            elif kind == InboxKind.CANCEL:
                cancelled.add(fields["lease"])
            elif kind == InboxKind.RETIRE:
                self._retires = True
        return leases, cancelled
