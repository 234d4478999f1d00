"""A handler that runs a program for each task: the task as JSON on stdin, exit code and stdout as the result."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from balancer.protocol import EXIT_REJECTED, MAX_RESULT_BYTES, CommandInput
from worker.context import TaskContext
from worker.errors import CommandFailed, CommandRejected
from worker.guard import Guard
from worker.logs import say
from worker.program import Program

#: What is read of stdout, bytes: JSON may be written with more space than its result takes.
KEEP_STDOUT = 16 * MAX_RESULT_BYTES
#: What is kept of stderr, bytes; with the exit code before it, it fits an error text.
KEEP_STDERR = 1_900
#: How long after SIGTERM what does not end is killed, seconds.
KILL_AFTER_S = 2.0


class Command:
    """Runs the same words for every task, without a shell."""

    def __init__(
        self,
        words: Sequence[str],
        guard: Guard,
        *,
        agent_id: str,
        pool: str,
        kill_after_s: float = KILL_AFTER_S,
    ) -> None:
        """See the arguments.

        Args:
            words: the program, as found on PATH or by its path, and its arguments.
            guard: told of each process group.
            agent_id: whose tasks they are.
            pool: its name.
            kill_after_s: how long it may take to end once it was asked to.

        Raises:
            ValueError: there is no such program, or it may not be executed.
        """
        self._words = (executable(words[0]), *words[1:])
        self._guard = guard
        self._agent_id = agent_id
        self._pool = pool
        self._kill_after_s = kill_after_s

    async def __call__(self, task: TaskContext) -> Any:
        """What the program printed, as JSON or text.

        Raises:
            CommandFailed: it did not exit with 0.
            CommandRejected: it exited with EXIT_REJECTED.
            asyncio.CancelledError: it was stopped, and has ended.
        """
        stop = asyncio.Event()
        running = asyncio.ensure_future(self._run(task, stop))
        # Told to stop, even twice, this ends only when the program has: its units are not free before.
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError:
                stop.set()
        if stop.is_set():
            running.exception()
            raise asyncio.CancelledError
        return running.result()

    async def _run(self, task: TaskContext, stop: asyncio.Event) -> Any:
        program = await self._started(task)
        try:
            self._guard.watch(program.group)
            # Only now: a program that reads nothing because the worker died just here has no task to do.
            program.tell(self._input(task).line())
            await _first(program.ended(), stop.wait())
            if stop.is_set():
                await program.terminate(self._kill_after_s)
        finally:
            program.kill()  # what it left running must not outlive its lease
            await program.ended()
            self._guard.forget(program.group)
            await program.drained()
            program.close()
        return _outcome(program, task)

    async def _started(self, task: TaskContext) -> Program:
        try:
            return await Program.start(
                self._words, self._environment(task), KEEP_STDOUT, KEEP_STDERR
            )
        except OSError as error:
            reason = f"cannot start {self._words[0]}: {error.strerror or error}"
            if error.errno == errno.ENOEXEC:
                reason += " (a script needs a first line such as #!/bin/sh)"
            raise CommandFailed(reason) from None

    def _input(self, task: TaskContext) -> CommandInput:
        return CommandInput(
            id=task.id,
            attempt=task.attempt,
            lease=task.lease,
            agent=self._agent_id,
            pool=self._pool,
            role=task.role,
            category=task.category,
            priority=task.priority,
            cost=task.cost,
            timeout_ms=round(1_000 * task.timeout_s),
            description=task.description,
            payload=task.payload,
        )

    def _environment(self, task: TaskContext) -> dict[str, str]:
        return (
            os.environ
            | self._guard.environment
            | {
                "BALANCER_POOL": self._pool,
                "BALANCER_AGENT_ID": self._agent_id,
                "BALANCER_TASK_ID": task.id,
                "BALANCER_TASK_ATTEMPT": str(task.attempt),
                "BALANCER_TASK_CATEGORY": task.category,
            }
        )


def executable(name: str) -> str:
    """Where the program is.

    Raises:
        ValueError: there is no such program, or it may not be executed.
    """
    found = shutil.which(name)
    if found:
        return found
    if os.path.dirname(name) and os.path.exists(name):
        what = "is a directory" if os.path.isdir(name) else f"may not be executed: chmod +x {name}"
        raise ValueError(f"{name!r} {what}")
    raise ValueError(
        f"there is no program {name!r} " + ("here" if os.path.dirname(name) else "on PATH")
    )


def read_output(output: bytes) -> Any:
    """JSON if it is JSON that can be sent on, else text without its last line breaks; None if there is nothing."""
    text = output.decode(errors="replace")
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        return value
    return text.rstrip("\r\n") or None


def _outcome(program: Program, task: TaskContext) -> Any:
    if program.exit_code:
        ended = CommandRejected if program.exit_code == EXIT_REJECTED else CommandFailed
        said = program.stderr.decode(errors="replace").strip()
        raise ended(_ending(program.exit_code), said)
    if program.stdout_bytes > KEEP_STDOUT:
        marker = {"dropped": "too_large", "bytes": program.stdout_bytes}
        say(task.log.warning, "result_dropped", **marker)
        return marker
    return read_output(program.stdout)


def _ending(exit_code: int) -> str:
    if exit_code > 0:
        return f"exit code {exit_code}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"killed by signal {-exit_code}"


async def _first(*waits: Any) -> None:
    """Wait until one of them is done, and drop the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
