"""Does to the processes what the schedule says, and undoes what has to be undone later."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from balancer.demo.fleet import Child, Fleet
from balancer.embedded import EmbeddedRedis
from tests.chaos.schedule import REDIS, Fault, Kind
from tests.support.proxy import Proxy

#: How long a replaced process goes on beside its successor after it was woken, seconds.
ZOMBIE_S = 2.5
#: Scripts are what the producer's writes are made of.
WRITES = b"EVALSHA"


class Faults:
    """The schedule, and what of it is under way."""

    def __init__(
        self,
        schedule: tuple[Fault, ...],
        *,
        fleet: Fleet,
        children: Mapping[str, Child],
        server: EmbeddedRedis,
        proxy: Proxy,
        client: Any,
    ) -> None:
        self._left = list(schedule)
        self._fleet, self._children = fleet, children
        self._server, self._proxy, self._client = server, proxy, client
        #: What is to be done later: when, and what.
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._zombies: list[Child] = []
        #: What was done, with the wall clock in milliseconds.
        self.fired: list[tuple[Fault, int]] = []

    def step(self, ended: int) -> None:
        """Do what is due. One whose victim is down waits until it is up again."""
        now = time.monotonic()
        for due in [due for due in self._later if due[0] <= now]:
            self._later.remove(due)
            due[1]()
        for fault in [fault for fault in self._left if fault.at <= ended]:
            child = self._children.get(fault.victim)
            if child is None or child.is_up:
                self._hit(fault, child)
                self._left.remove(fault)
                self.fired.append((fault, round(time.time() * 1_000)))

    def are_over(self) -> bool:
        """Whether everything was done, and undone."""
        return not self._left and not self._later

    def summary(self) -> str:
        """What was done so far, in words."""
        counts = Counter(fault.kind.value for fault, _ in self.fired)
        return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())) or "no faults"

    def stop(self) -> None:
        """Undo at once what is under way: nobody stays stopped, no zombie is left."""
        for child in [*self._children.values(), *self._zombies]:
            with suppress(ProcessLookupError):
                child.signal(signal.SIGCONT)
        for zombie in self._zombies:
            self._bury(zombie)

    def _hit(self, fault: Fault, child: Child | None) -> None:
        if fault.kind is Kind.KILL:
            self._kill(fault, child)
        elif fault.kind is Kind.CUT_REPLIES:
            self._proxy.cut_replies(round(fault.lasts_s), WRITES)
        elif fault.kind is Kind.FLUSH_SCRIPTS:
            self._client.script_flush()
        elif fault.kind is Kind.CUT_CLIENTS:
            self._client.client_kill_filter(_type="normal", skipme=True)
        elif child is None:
            raise AssertionError(fault)
        elif fault.kind is Kind.TERM:
            child.signal(signal.SIGTERM)
        else:
            child.signal(signal.SIGSTOP)
            if fault.kind is Kind.REPLACE:
                child = self._replace(child)
                self._at(fault.lasts_s + ZOMBIE_S, lambda: self._bury(child))
            self._at(fault.lasts_s, lambda: child.signal(signal.SIGCONT))

    def _kill(self, fault: Fault, child: Child | None) -> None:
        if child is None:
            assert fault.victim == REDIS
            self._server.kill()
            # Nobody else starts it: the rest goes on without, as in an outage.
            time.sleep(fault.lasts_s)
            self._server.restart()
            return
        child.down = fault.lasts_s > 0
        child.signal(signal.SIGKILL)
        if child.down:
            self._at(fault.lasts_s, lambda: setattr(child, "down", False))

    def _replace(self, child: Child) -> Child:
        """A second process under the same name takes over; the first one is a zombie from now on."""
        zombie = Child(f"{child.name} (zombie)", child.module, child.said, child.log)
        zombie.process, child.process = child.process, None
        self._zombies.append(zombie)
        return zombie

    def _bury(self, zombie: Child) -> None:
        with suppress(ValueError):
            self._zombies.remove(zombie)
        if zombie.process is not None:
            zombie.signal(signal.SIGKILL)
            zombie.reap()

    def _at(self, in_s: float, do: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + in_s, do))
