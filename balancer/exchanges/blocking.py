"""Drives exchanges with threads: a call blocks the thread that made it. One thread reads for all who
wait, one more calls their callbacks.
"""

from __future__ import annotations

import queue
import threading

import structlog

from balancer.exchanges.opening import PatientRound
from balancer.exchanges.watching import BLOCK_S, CLOSE_S, Callback, Deliver, Ended, Watch, closed
from balancer.inputs import check_seconds
from balancer.ledger.exchange import Asks, Exchange, T, drive
from balancer.ledger.pool import PoolRef
from balancer.ledger.read_tasks import TaskStatus
from balancer.protocol.address import parse_address
from balancer.protocol.connect import connect

log = structlog.get_logger("balancer")


class BlockingDriver:
    """Carries exchanges to one Redis. Safe to share between threads.

    Args:
        url: where Redis is.
        pool: name of the pool; a Cluster is asked for the node that owns it.
        deadline_s: how long a round trip is tried while Redis cannot answer.

    Raises:
        Misconfigured: the address breaks a rule.
    """

    def __init__(self, url: str, pool: str, deadline_s: float) -> None:
        check_seconds("deadline_s", deadline_s)
        self._url, self._name, self._deadline_s = url, pool, deadline_s
        self._wait_replicas = parse_address(url).wait_replicas
        self.client = connect(url, pool=pool)
        self.watch = Watch(self._start)
        self._due: queue.SimpleQueue[tuple[Callback, TaskStatus] | None] = queue.SimpleQueue()
        self._caller: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def run(self, exchange: Exchange[T]) -> T:
        """The answer of an exchange.

        Raises:
            Unavailable: it was closed.
        """
        self.check_open()
        return drive(self.client, exchange, self._round)

    def check_open(self) -> None:
        """Raises Unavailable where it was closed: the client itself would connect anew."""
        if self._closed:
            raise closed()

    def signal(self) -> threading.Event:
        """What a call waits for."""
        return threading.Event()

    def deliver_to(self, callback: Callback) -> Deliver:
        """What hands the end of a task over to the thread that calls callbacks."""

        def deliver(ended: Ended) -> None:
            if not isinstance(ended, TaskStatus):
                log.warning("callback_dropped", text=str(ended)[:200])
                return
            with self._lock:
                if self._caller is None or not self._caller.is_alive():
                    self._caller = threading.Thread(
                        target=self._call, name="balancer-callbacks", daemon=True
                    )
                    self._caller.start()
            self._due.put((callback, ended))

        return deliver

    def close(self) -> None:
        """Give the connections back. Callbacks of tasks that have ended are called first. A reader that
        blocks ends within BLOCK_S.
        """
        self.watch.close()
        if self._caller and self._caller is not threading.current_thread():
            self._due.put(None)
            self._caller.join(CLOSE_S)
        self._closed = True  # not before: callbacks that are due may ask something
        self.client.close()

    def _round(self, asks: Asks) -> PatientRound:
        return PatientRound(asks, self._deadline_s, self._wait_replicas)

    def _start(self, pool: PoolRef) -> None:
        threading.Thread(
            target=self._listen, args=(pool,), name="balancer-waits", daemon=True
        ).start()

    def _listen(self, pool: PoolRef) -> None:
        with connect(self._url, pool=self._name, block_s=BLOCK_S) as reader:
            drive(reader, self.watch.listen(pool))

    def _call(self) -> None:
        while (due := self._due.get()) is not None:
            callback, status = due
            try:
                callback(status)
            except BaseException:  # sys.exit() would end this thread, and with it all that is due
                log.exception("callback_failed", task_id=status.id)
