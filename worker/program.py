"""One run of a program in a process group of its own: what it says is kept within bounds, its pipes never block it."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import Self, cast

#: How long what a program wrote may take to arrive once it has ended, seconds. A process that left the group can hold
#: the pipes open for ever.
DRAIN_S = 1.0


class Program(asyncio.SubprocessProtocol):
    """Started by `start`; `close` must follow, whatever happens."""

    def __init__(self, keep_stdout: int, keep_stderr: int) -> None:
        """Keeps that many bytes: the first of stdout, the last of stderr."""
        loop = asyncio.get_running_loop()
        self._keep_stdout, self._keep_stderr = keep_stdout, keep_stderr
        self._exited: asyncio.Future[None] = loop.create_future()
        self._drained: asyncio.Future[None] = loop.create_future()
        self._open = {1, 2}
        self._transport: asyncio.SubprocessTransport
        self.stdout = self.stderr = b""
        self.stdout_bytes = 0

    @classmethod
    async def start(
        cls, words: tuple[str, ...], environment: dict[str, str], keep_stdout: int, keep_stderr: int
    ) -> Self:
        """Start it, without a shell.

        Raises:
            OSError: it cannot be started.
        """
        loop = asyncio.get_running_loop()
        transport, program = await loop.subprocess_exec(
            lambda: cls(keep_stdout, keep_stderr), *words, env=environment, start_new_session=True
        )
        program._transport = transport
        return program

    @property
    def group(self) -> int:
        """Its process group, whose number is that of its first process."""
        return self._transport.get_pid()

    @property
    def exit_code(self) -> int:
        """Of the first process, once `ended` has said so; the negative number of the signal that killed it."""
        return cast(int, self._transport.get_returncode())

    def tell(self, line: bytes) -> None:
        """Write to its stdin and close that. What it does not read is dropped when it ends."""
        stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        stdin.write(line)
        stdin.close()

    async def ended(self) -> None:
        """Wait until the first process has ended."""
        await asyncio.shield(self._exited)

    async def drained(self) -> None:
        """Wait until all that it wrote is here, or DRAIN_S."""
        await asyncio.wait({self._drained}, timeout=DRAIN_S)

    async def terminate(self, kill_after_s: float) -> None:
        """Ask the whole group to end; kill what is left of it later."""
        self._signal(signal.SIGTERM)
        # Whoever still cleans up holds its pipes, most likely. The group itself cannot be asked: the dead whom nobody
        # has buried count as members.
        await asyncio.wait({self._exited, self._drained}, timeout=kill_after_s)
        self.kill()
        await self.ended()

    def kill(self) -> None:
        """Kill what there is of the group."""
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """Let go of the pipes."""
        self._transport.close()

    def _signal(self, number: int) -> None:
        # The group's number is not given to another one as soon as this: process numbers go round.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.group, number)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """What it wrote."""
        if fd == 1:
            self.stdout_bytes += len(data)
            self.stdout += data[: self._keep_stdout - len(self.stdout)]
        else:
            self.stderr = (self.stderr + data)[-self._keep_stderr :]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """It closed a pipe, or nobody is left who holds it."""
        self._open.discard(fd)
        if not self._open and not self._drained.done():
            self._drained.set_result(None)

    def process_exited(self) -> None:
        """Its first process ended."""
        if not self._exited.done():
            self._exited.set_result(None)
