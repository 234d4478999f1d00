"""A program as an agent: what it is given, what its end means, and that nothing it started outlives its lease."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from balancer.embedded import EmbeddedRedis
from balancer.protocol import CommandInput, Completion, Mode, Status, TextRedis, connect
from tests.flow.agent_rig import AGENT, POOL, Rig, frozen, process, until_threads_ended
from tests.support.wait import wait_until
from worker import Agent
from worker.command import Command
from worker.guard import Guard


@pytest.fixture
def rig(redis_server: EmbeddedRedis, redis_client: TextRedis) -> Iterator[Rig]:
    yield Rig(redis_server.url, redis_client)
    until_threads_ended()


@pytest.fixture
def guard() -> Iterator[Guard]:
    guard = Guard()
    yield guard
    guard.close()


def script(directory: Path, text: str, *, name: str = "do-it.sh") -> str:
    """A shell script that may be executed; its path."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def agent_of(
    rig: Rig, guard: Guard, *words: str, kill_after_s: float = 30.0, **facts: Any
) -> Agent:
    agent = rig.agent(**facts)
    agent.task()(Command(words, guard, agent_id=AGENT, pool=POOL, kill_after_s=kill_after_s))
    return agent


def run_once(rig: Rig, guard: Guard, *words: str, **granted: Any) -> Completion:
    """How one task ended."""
    agent = agent_of(rig, guard, *words)
    with agent:
        rig.until_started()
        rig.grant(agent.boot, **granted)
        [done] = rig.until_completed()
    return done


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def pids_in(path: Path, count: int = 1) -> list[int]:
    """The process numbers that a script wrote there, one a line."""

    def written() -> list[str]:
        return path.read_text().splitlines() if path.exists() else []

    wait_until(lambda: len(written()) >= count, f"{count} processes began")
    return [int(line) for line in written()]


def test_the_task_is_on_stdin_and_its_ids_are_in_the_environment(
    rig: Rig, guard: Guard, tmp_path: Path
) -> None:
    program = script(tmp_path, f'env > {tmp_path}/env; echo "$@" > {tmp_path}/words; cat')
    done = run_once(
        rig,
        guard,
        program,
        "a b",
        "$HOME",
        cost=2,
        body='{"description":"d\\u00e4","payload":{"n":[1,null]}}',
    )
    assert (done.status, done.error) == (Status.COMPLETED, "")
    given = CommandInput.model_validate_json(done.result)
    assert given.model_dump() == {
        "v": "1", "id": "t1", "attempt": 1, "lease": done.lease, "agent": AGENT, "pool": POOL,
        "role": "developer", "category": "feature", "priority": "medium", "cost": 2,
        "timeout_ms": 60_000, "description": "dä", "payload": {"n": [1, None]},
    }  # fmt: skip
    lines = (tmp_path / "env").read_text().splitlines()
    assert {line for line in lines if line.startswith(("BALANCER_TASK", "BALANCER_A", "BALANCER_PO"))} == {
        "BALANCER_TASK_ID=t1", "BALANCER_TASK_ATTEMPT=1", "BALANCER_TASK_CATEGORY=feature",
        f"BALANCER_AGENT_ID={AGENT}", f"BALANCER_POOL={POOL}",
    }  # fmt: skip
    assert (tmp_path / "words").read_text() == "a b $HOME\n"


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        ('echo \'{"a": [1, "ä"]}\'', (Status.COMPLETED, '{"a":[1,"ä"]}', "")),
        ("printf 'two\\nlines\\n\\n'", (Status.COMPLETED, '"two\\nlines"', "")),
        ("exit 0", (Status.COMPLETED, "", "")),
        ("echo null", (Status.COMPLETED, "", "")),
        ("echo NaN", (Status.COMPLETED, '"NaN"', "")),
        ("printf '\\377'", (Status.COMPLETED, '"\ufffd"', "")),
        ("echo lost; echo why >&2; exit 3", (Status.FAILED, "", "exit code 3: why")),
        ("exit 1", (Status.FAILED, "", "exit code 1")),
        ("echo busy >&2; exit 75", (Status.REJECTED, "", "exit code 75: busy")),
        ("echo last >&2; kill -KILL $$", (Status.FAILED, "", "killed by SIGKILL: last")),
        ("exec <&-; sleep 0; exit 0", (Status.COMPLETED, "", "")),
    ],
)
def test_what_its_end_means(
    rig: Rig, guard: Guard, tmp_path: Path, text: str, ending: tuple[Status, str, str]
) -> None:
    body = json.dumps(
        {"payload": "x" * 60_000}
    )  # more than a pipe holds, for those who do not read it
    done = run_once(rig, guard, script(tmp_path, text), body=body)
    assert (done.status, done.result, done.error) == ending


@pytest.mark.parametrize(
    ("bytes_", "result"),
    [
        (4_094, '"' + "x" * 4_094 + '"'),
        (5_000, '{"dropped": "too_large", "bytes": 5002}'),
        (3_000_000, '{"dropped":"too_large","bytes":3000000}'),
    ],
)
def test_a_large_output_is_drained_and_dropped(
    rig: Rig, guard: Guard, tmp_path: Path, bytes_: int, result: str
) -> None:
    program = script(tmp_path, f"head -c {bytes_} /dev/zero | tr '\\0' x")
    done = run_once(rig, guard, program)
    assert (done.status, done.result) == (Status.COMPLETED, result)


def test_the_end_of_a_long_stderr_is_the_error(rig: Rig, guard: Guard, tmp_path: Path) -> None:
    program = script(
        tmp_path, "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo the reason >&2; exit 9"
    )
    done = run_once(rig, guard, program)
    assert done.status is Status.FAILED
    assert done.error.startswith("exit code 9: xxx")
    assert done.error.endswith("x" * 100 + "the reason")
    assert 1_800 < len(done.error) <= 2_048


def test_a_script_without_its_first_line_says_so(rig: Rig, guard: Guard, tmp_path: Path) -> None:
    program = tmp_path / "bare"
    program.write_text("echo hello\n")
    program.chmod(0o755)
    done = run_once(rig, guard, str(program))
    assert done.status is Status.FAILED
    assert done.error == (
        f"cannot start {program}: Exec format error (a script needs a first line such as #!/bin/sh)"
    )


#: A program that says who it is, has a child, and ends when it is asked to.
FAMILY = "echo $$ >> {0}/pids; (echo $(exec sh -c 'echo $PPID') >> {0}/pids; sleep 60) & wait"
#: The same, but nobody in it listens to SIGTERM.
DEAF_FAMILY = "trap '' TERM; " + FAMILY


def test_a_run_timeout_ends_the_whole_group(rig: Rig, guard: Guard, tmp_path: Path) -> None:
    agent = agent_of(rig, guard, script(tmp_path, FAMILY.format(tmp_path)), max_concurrent=1)
    with agent:
        rig.until_started()
        rig.grant(agent.boot, timeout_ms=300)
        pids = pids_in(tmp_path / "pids", 2)
        [done] = rig.until_completed()
        wait_until(lambda: not any(map(is_running, pids)), "all of it has ended")
    assert (done.status, done.error) == (Status.FAILED, "run timeout")


def test_what_does_not_listen_is_killed_and_keeps_its_unit_until_then(
    rig: Rig, guard: Guard, tmp_path: Path
) -> None:
    program = script(tmp_path, DEAF_FAMILY.format(tmp_path))
    agent = agent_of(rig, guard, program, max_concurrent=1, kill_after_s=0.5)
    with agent:
        rig.until_started()
        rig.grant(agent.boot, timeout_ms=200)
        first = pids_in(tmp_path / "pids", 2)
        rig.until_completed()
        assert all(map(is_running, first))
        rig.grant(agent.boot, "t2", timeout_ms=200)
        second = pids_in(tmp_path / "pids", 4)[2:]
        assert not any(map(is_running, first)), "t2 began beside t1"
        rig.until_completed(2)
        wait_until(lambda: not any(map(is_running, second)), "all of it has ended")


@pytest.mark.parametrize("text", [FAMILY, "trap 'exit 0' TERM; " + FAMILY], ids=["dies", "says 0"])
def test_a_task_that_is_cancelled_is_ended_and_said_to_be(
    rig: Rig, guard: Guard, tmp_path: Path, text: str
) -> None:
    agent = agent_of(rig, guard, script(tmp_path, text.format(tmp_path)))
    with agent:
        rig.until_started()
        nonce = rig.grant(agent.boot)
        pids = pids_in(tmp_path / "pids", 2)
        rig.client.xadd(
            rig.inbox, {"v": 1, "kind": "cancel", "task": "t1", "attempt": 1, "lease": nonce}
        )
        [done] = rig.until_completed()
        wait_until(lambda: not any(map(is_running, pids)), "all of it has ended")
    assert (done.status, done.result, done.error) == (Status.CANCELLED, "", "")


def test_a_lease_that_is_taken_back_ends_it_and_nothing_is_said(
    rig: Rig, guard: Guard, tmp_path: Path
) -> None:
    agent = agent_of(rig, guard, script(tmp_path, FAMILY.format(tmp_path)))
    with agent:
        rig.until_started()
        nonce = rig.grant(agent.boot)
        pids = pids_in(tmp_path / "pids", 2)
        rig.revoke(nonce)
        wait_until(lambda: not any(map(is_running, pids)), "all of it has ended")
    assert rig.completions() == []


def test_what_it_leaves_behind_is_killed_with_its_end(
    rig: Rig, guard: Guard, tmp_path: Path
) -> None:
    program = script(tmp_path, f"sleep 60 & echo $! > {tmp_path}/pids; echo 1")
    done = run_once(rig, guard, program)
    [pid] = pids_in(tmp_path / "pids")
    wait_until(lambda: not is_running(pid), "what it left has ended")
    assert (done.status, done.result) == (Status.COMPLETED, "1")


def test_one_that_left_the_group_does_not_hold_the_task_up(
    rig: Rig, guard: Guard, tmp_path: Path
) -> None:
    """It has the pipes open, for ever."""
    program = script(tmp_path, f"setsid sleep 60 & echo $! > {tmp_path}/pids; sleep 0; echo 1")
    done = run_once(rig, guard, program)
    assert (done.status, done.result) == (Status.COMPLETED, "1")
    with suppress(ProcessLookupError):
        os.kill(pids_in(tmp_path / "pids")[0], signal.SIGKILL)


def test_several_run_at_once(rig: Rig, guard: Guard, tmp_path: Path) -> None:
    """Each waits for the others: one alone would never end."""
    program = script(
        tmp_path,
        f"echo $$ >> {tmp_path}/pids\nuntil [ $(wc -l < {tmp_path}/pids) -ge 8 ]; do :; done",
    )
    agent = agent_of(rig, guard, program, max_concurrent=8)
    with agent:
        rig.until_started()
        for number in range(8):
            rig.grant(agent.boot, f"t{number}")
        done = rig.until_completed(8)
    assert {one.status for one in done} == {Status.COMPLETED}


@contextmanager
def worker(rig: Rig, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`worker run` with these, against the rig."""
    running = subprocess.Popen(
        [sys.executable, "-m", "worker", "run", "--redis-url", rig.url, "--pool", POOL, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    with running:
        try:
            yield running
        finally:
            running.kill()


def options(*more: str) -> list[str]:
    return ["--id", AGENT, "--role", "developer", "--capacity", "4", *more]


@pytest.mark.parametrize(
    ("code", "status", "event"),
    [
        (7, Status.FAILED, "task_failed"),
        (75, Status.REJECTED, "task_rejected"),
    ],
)
def test_sigterm_finishes_what_runs_and_payloads_are_never_logged(
    rig: Rig, tmp_path: Path, code: int, status: Status, event: str
) -> None:
    program = script(
        tmp_path,
        f"echo $$ >> {tmp_path}/pids; read task; echo $task >&2; read -r go < {tmp_path}/go; exit $go",
    )
    os.mkfifo(tmp_path / "go")
    with worker(
        rig,
        *options("--category", "feature", "--category", "bug", "--skills", "python:3,go:1"),
        *("--speed", "1.5", "--speeds", "bug:2"),
        "--",
        program,
    ) as running:
        rig.until_started()
        start = rig.starts()[0]
        rig.grant(start.boot, body='{"payload":"HIDDEN","description":"HIDDEN"}')
        pids_in(tmp_path / "pids")
        running.send_signal(signal.SIGTERM)
        wait_until(lambda: rig.modes()[-1] is Mode.STOPPING, "it says that it stops")
        assert rig.completions() == []
        (tmp_path / "go").write_text(f"{code}\n")
        output, _ = running.communicate(timeout=20)
    assert running.returncode == 0, output
    [done] = rig.completions()
    assert done.status is status
    assert done.error.startswith(f"exit code {code}: {{")
    assert "HIDDEN" in done.error
    assert "HIDDEN" not in output
    said = {entry["event"]: entry for entry in map(json.loads, output.splitlines())}
    assert said[event]["reason"] == f"exit code {code}"
    assert rig.modes()[-1] is Mode.STOPPED
    assert (start.agent, start.role, start.max_concurrent) == (AGENT, "developer", 4)
    assert start.specializations == ("feature", "bug")
    assert (start.skills, start.speed, start.speeds) == ({"python": 3, "go": 1}, 1.5, {"bug": 2})


#: One that leaves its group, and its child with it.
LEAVER = "echo $$ >> {0}/pids; setsid sh -c 'echo $$ >> {0}/pids; sleep 60; true' & wait"


@pytest.mark.parametrize("text", [FAMILY, DEAF_FAMILY, LEAVER], ids=["listens", "deaf", "leaves"])
def test_nothing_outlives_a_worker_that_is_killed(rig: Rig, tmp_path: Path, text: str) -> None:
    with worker(rig, *options(), "--", script(tmp_path, text.format(tmp_path))) as running:
        rig.until_started()
        rig.grant(rig.starts()[0].boot)
        pids = pids_in(tmp_path / "pids", 2)
        assert all(map(is_running, pids))
        running.kill()
        wait_until(lambda: not any(map(is_running, pids)), "all of it has ended")
    assert rig.completions() == []


def test_a_guardian_that_was_killed_is_replaced(rig: Rig, tmp_path: Path) -> None:
    program = script(tmp_path, FAMILY.format(tmp_path))
    with worker(rig, *options(), "--", program) as running:
        rig.until_started()
        boot = rig.starts()[0].boot
        rig.grant(boot)
        first = pids_in(tmp_path / "pids", 2)
        [guardian] = [pid for pid in children(running.pid) if pid not in first]
        os.kill(guardian, signal.SIGKILL)
        wait_until(lambda: not is_running(guardian), "the guardian is dead")
        rig.grant(boot, "t2")
        pids = pids_in(tmp_path / "pids", 4)
        known = {guardian, *pids}
        wait_until(lambda: set(children(running.pid)) - known, "there is another guardian")
        running.kill()
        wait_until(lambda: not any(map(is_running, pids)), "all of it has ended")


def children(pid: int) -> list[int]:
    return [
        int(number)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for number in (task / "children").read_text().split()
    ]


#: As `worker run`, with a short TTL.
FENCED = """
import sys
from worker import Agent
from worker.command import Command
from worker.guard import Guard

url, ttl_s, program = sys.argv[1:]
agent = Agent("builder-1", role="developer", redis_url=url, pool="p", interval_s=0.1, ttl_s=float(ttl_s))
agent.task()(Command([program], Guard(), agent_id="builder-1", pool="p"))
agent.run()
"""


@pytest.mark.parametrize(
    ("text", "ends"), [(FAMILY, False), (DEAF_FAMILY, True)], ids=["listens", "deaf"]
)
def test_redis_out_of_reach_for_a_ttl_ends_it(tmp_path: Path, text: str, ends: bool) -> None:
    """The worker goes on under a new boot if its programs listen, and ends with them if one does not."""
    with EmbeddedRedis() as server, connect(server.url) as client:
        rig = Rig(server.url, client)
        with process(FENCED, rig.url, "1", script(tmp_path, text.format(tmp_path))) as running:
            rig.until_started()
            rig.grant(rig.starts()[0].boot)
            pids = pids_in(tmp_path / "pids", 2)
            with frozen(server):
                wait_until(lambda: not any(map(is_running, pids)), "all of it has ended")
                if ends:
                    assert running.wait(10) == 4
            if not ends:
                wait_until(lambda: len(rig.starts()) == 2, "a new boot began")
            assert rig.completions() == []
