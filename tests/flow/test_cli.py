"""The `balancer` command against a real Redis, in this process: what it prints, and how it ends."""

from __future__ import annotations

import io
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog

from balancer import Balancer, log
from balancer.cli import run
from balancer.core.names import new_id
from balancer.embedded import EmbeddedRedis
from balancer.ledger.pool import Pool
from balancer.protocol.connect import connect
from balancer.service import Service
from tests.ledger.test_pace_ends import fail
from tests.support.factories import assign, beat, complete, make_task, submit
from worker import Agent, TaskContext

#: Nobody listens on the discard port.
NOBODY = "redis://127.0.0.1:9/0"


class Answer(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The same, a document a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> Any:
        """What it said on stderr, as JSON."""
        return json.loads(self.err)["error"]


Command = Callable[..., Answer]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def pool(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A new pool that nobody serves, named by the environment."""
    monkeypatch.setenv("BALANCER_REDIS_URL", server.url)
    monkeypatch.setenv("BALANCER_POOL", name := new_id())
    monkeypatch.delenv("NO_COLOR", raising=False)
    with connect(server.url) as client:
        yield Pool.create(client, name)


@pytest.fixture
def balancer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command; `stdin` is what it may read."""

    def run_it(*arguments: str, stdin: bytes = b"") -> Answer:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run(arguments)
        answer = Answer(code, *capsys.readouterr())
        assert "Traceback" not in answer.err
        return answer

    return run_it


@pytest.fixture
def served(pool: Pool, server: EmbeddedRedis) -> Iterator[Pool]:
    """The pool with a balancer and one agent: `feature` succeeds, `bug` fails."""
    agent = Agent(
        "builder-1", role="developer", max_concurrent=2, redis_url=server.url, pool=pool.name
    )

    @agent.task("feature")
    def build(task: TaskContext) -> dict[str, Any]:
        return {"built": task.payload}

    @agent.task("bug")
    def fix(task: TaskContext) -> None:
        raise ValueError("no idea \x1b[31m")

    log.configure(to=io.StringIO())
    service = Service(server.url, pool.name, tick_s=0.05, sweep_s=0.1).start()
    try:
        with agent:
            yield pool
    finally:
        service.stop()
        structlog.reset_defaults()


def test_submit_prints_the_id_and_repeating_it_changes_nothing(
    balancer: Command, pool: Pool
) -> None:
    first = balancer("submit", "--role", "developer", "--id", "t-1", "--payload", '{"n": 1}')
    again = balancer(
        "submit", "--role", "developer", "--id", "t-1", "--payload", '{"n": 1}', "--json"
    )
    other = balancer(
        "submit", "--role", "developer", "--id", "t-1", "--payload", '{"n": 2}', "--json"
    )
    assert first == Answer(0, "t-1\n", "")
    assert (again.code, again.data) == (0, {"id": "t-1"})
    assert (other.code, other.out, other.error["code"]) == (5, "", "conflict")
    assert balancer("task", "show", "t-1", "--json").data["body"] == {"payload": {"n": 1}}


def test_what_a_task_needs_and_how_much_work_it_is(balancer: Command, pool: Pool) -> None:
    options = (
        "--require", "python:3", "--require", "go", "--complexity", "4", "--group", "my shop", "--feature", "files=12",
        "--feature", "share=-0.5", "--feature", "ci=true", "--feature", 'version="12"', "--feature", "language=go=1",
        "--prefer-agent", "a1", "--prefer-for", "90",
    )  # fmt: skip
    task = balancer("submit", "--role", "dev", "--id", "t1", *options).out.strip()
    features = {"files": 12, "share": -0.5, "ci": True, "version": "12", "language": "go=1"}
    line = {
        "id": "t1", "role": "dev", "requires": {"python": 3, "go": 1}, "complexity": 4, "group": "my shop",
        "features": features, "prefer_agent": "a1", "prefer_for_s": 90,
    }  # fmt: skip
    again = balancer("submit", "--file", "-", "--json", stdin=json.dumps(line).encode())
    assert again.data["outcome"] == "duplicate"

    status = balancer("task", "show", task, "--json").data
    assert status["requires"] == {"go": 1, "python": 3}
    assert (status["prefer_agent"], status["prefer_for_s"], status["tried"]) == ("a1", 90, [])
    beat(pool, "a1", skills={"python": 3, "go": 1})
    assign(pool, task, "a1")
    assert complete(pool, task, "failed") == "retry"
    shown = balancer("task", "show", task).out
    assert "requires  go 1, python 3" in " ".join(shown.split(" ")).replace("   ", "  ")
    assert balancer("task", "show", task, "--json").data["tried"] == ["a1"]


def test_an_estimate_is_an_option(balancer: Command, pool: Pool) -> None:
    task = balancer("submit", "--role", "dev", "--estimate", "90.5").out.strip()
    assert pool.client.hget(pool.keys.task(task), "e").split("|")[-1] == "90500"


def test_an_agent_shows_its_skills_and_speeds(balancer: Command, pool: Pool) -> None:
    beat(pool, "a1", skills={"python": 3, "go": 1}, speed=1.5, speeds={"bug": 2.25})
    beat(pool, "a2")
    first, other = balancer("agent", "ls", "--json").data
    assert first["skills"] == {"go": 1, "python": 3}
    assert first["speeds"] == {"": 1.5, "bug": 2.25}
    assert (other["skills"], other["speeds"]) == ({}, {})
    shown = balancer("agent", "show", "a1").out
    assert "go 1, python 3" in shown
    assert "1.5, bug 2.25" in shown


def test_an_agent_that_fails_too_often_is_said_to(balancer: Command, pool: Pool) -> None:
    beat(pool, "good")
    beat(pool, "bad")
    assert "of its last" not in balancer("agent", "show", "bad").out
    fail(pool, "bad", "f", 20)

    out = balancer("agent", "show", "bad").out
    assert "0 % of its last 20 tries; gets no work while others could have it" in out
    assert "live, failing" in out
    assert "learned speeds   not used while its tries fail" in out
    assert "learned speeds   -" in balancer("agent", "show", "good").out
    shown = balancer("agent", "show", "bad", "--json").data
    assert (shown["success"], shown["tries"], shown["gate"]) == (0.0, 20, "shut")
    assert "failing" in balancer("agent", "ls").out
    assert balancer("agent", "show", "good", "--json").data["gate"] == ""
    balancer("submit", "--id", "t1", "--role", "dev")
    assert balancer("task", "why", "t1", "--json").data["excluded"] == {"failing": 1}


def test_figures_that_say_nothing_are_not_spelled_out(balancer: Command, pool: Pool) -> None:
    """A task that took next to nothing where an hour was expected, and one of which next to nothing is known."""
    beat(pool, "a1")
    submit(pool, "t1")
    assign(pool, "t1")
    complete(pool, "t1", duration_ms=1)
    assert balancer("queue", "ls").out.split()[-1] == ">x1000"
    submit(pool, "t2")
    pool.client.hset(pool.keys.task("t2"), "e", "6660000|31536000000|1|3600000")
    rows = [line.split("  ", 1) for line in balancer("task", "show", "t2").out.splitlines()]
    assert [text.strip() for name, text in rows if name == "expected"] == [
        "111 min, or much more, from 1 finished task; such tasks miss it by >x1000"
    ]
    assert balancer("task", "show", "t2", "--json").data["effort"]["p90_s"] == 31_536_000


def test_a_run_timeout_may_follow_from_the_estimate(balancer: Command, pool: Pool) -> None:
    assert balancer("configure", "--set", "run_timeout_factor=2").code == 0
    beat(pool, "a1", max_concurrent=9)
    for n in range(20):
        submit(pool, f"known{n}")
        assign(pool, f"known{n}")
        complete(pool, f"known{n}", duration_ms=100_000)
        if n == 9:
            few = balancer("submit", "--role", "dev").out.strip()
    task = balancer("submit", "--role", "dev").out.strip()
    said = balancer("submit", "--role", "dev", "--run-timeout", "86400").out.strip()

    facts = [pool.client.hget(pool.keys.task(id_), "d") or "" for id_ in (task, few, said)]
    assert [text.split("|")[2] for text in facts] == ["0", "0", "86400000"]
    shown = [balancer("task", "show", id_, "--json").data["effort"] for id_ in (task, few, said)]
    assert [one["run_timeout_by"] for one in shown] == ["estimate", "default", "task"]
    assert shown[0]["run_timeout_s"] == pytest.approx(2 * shown[0]["p90_s"], abs=0.01)
    assert [one["run_timeout_s"] for one in shown[1:]] == [86_400, 86_400]
    rows = [balancer("task", "show", id_).out for id_ in (task, few, said)]
    assert "by what nine of ten such tasks take" in rows[0]
    assert "24 h, as too little is known" in rows[1]
    assert "24 h\n" in rows[2].split("timeout")[1]


def test_every_field_of_a_task_is_an_option(balancer: Command, pool: Pool) -> None:
    parent = balancer("submit", "--role", "developer").out.strip()
    options = "--role developer --category bug --priority high --cost 3 --max-failures 7 --run-timeout 9.5"
    answer = balancer("submit", *options.split(), "--description", "héé", "--depends-on", parent)
    status = balancer("task", "show", answer.out.strip(), "--json").data
    expected = {"state": "blocked", "role": "developer", "category": "bug", "priority": "high"}
    assert expected.items() <= status.items()
    assert (status["cost"], status["max_failures"], status["body"]) == (
        3,
        7,
        {"description": "héé"},
    )
    assert pool.client.hget(pool.keys.task(status["id"]), "d").split("|")[2] == "9500"


def test_wait_shows_what_became_of_it(balancer: Command, served: Pool) -> None:
    good = balancer(
        "submit",
        "--role",
        "developer",
        "--category",
        "feature",
        "--payload",
        "[1]",
        "--wait",
        "20",
        "--json",
    )
    assert (good.code, good.data["state"], good.data["result"]) == (
        0,
        "completed",
        {"result": {"built": [1]}},
    )
    bad = balancer(
        "submit", "--role", "developer", "--category", "bug", "--max-failures", "1", "--wait", "20"
    )
    assert bad.code == 1
    assert "state     dead" in bad.out
    assert "no idea \\x1b[31m" in bad.out  # an agent's words, harmless
    never = balancer("submit", "--role", "reviewer", "--wait", "0", "--json")
    assert (never.code, never.error["code"], never.error["retryable"]) == (7, "timeout", True)
    assert never.error["hint"] == f"balancer task show {never.error['task_id']}"
    shown = balancer("task", "show", never.error["task_id"], "--json").data
    assert (shown["waits"], shown["waits_for"]) == ("no live agent of role reviewer", [])


def test_what_a_task_waits_for(balancer: Command, pool: Pool) -> None:
    def waits(id_: str) -> str:
        lines = balancer("task", "show", id_).out.splitlines()
        return "".join(line.partition("  ")[2].strip() for line in lines if line[:5] == "waits")

    with Balancer() as client:
        parents = [client.submit(id=f"p{n:02}", role="developer") for n in range(22)]
        client.submit(id="two", role="developer", depends_on=parents[:2])
        client.submit(id="many", role="developer", depends_on=parents)
        client.cancel("p05")
    assert waits("two") == "for p00, p01"
    shown = balancer("task", "show", "many", "--json").data
    assert (len(shown["waits_for"]), shown["waits_for_count"]) == (20, 22)
    assert waits("many").endswith(" and 2 more")
    assert waits("p05") == ""
    assert waits("p00") == "no live agent of role developer"
    beat(pool, "a", role="developer", max_concurrent=2)
    assert waits("p00") == (
        "in line: 0 of 2 units of role developer are used; balancer task why p00 says why"
        " (21 tasks of this role pending)"
    )
    assign(pool, "p00", "a")
    assign(pool, "p01", "a")
    assert waits("p02") == "all 2 units of role developer are used (19 tasks of this role pending)"
    assert "\ngranted   20" in balancer("task", "show", "p00").out


def test_empty_lists_say_so(balancer: Command, pool: Pool) -> None:
    for noun in ("task", "agent", "queue"):
        answer = balancer(noun, "ls")
        assert (answer.code, answer.err) == (0, f"no {noun.replace('queue', 'role')}s\n")
        assert balancer(noun, "ls", "--json") == Answer(0, "[]\n", "")


def test_version_is_an_option_too(balancer: Command) -> None:
    assert balancer("--version").out.split()[0] == "balancer"


def test_bulk_from_a_file(balancer: Command, pool: Pool, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text(
        '{"id": "a"}\n\n{"id": "b", "role": "reviewer", "depends_on": ["a"], "payload": 1}\n'
    )
    answer = balancer("submit", "--role", "developer", "--file", str(file))
    assert answer == Answer(0, "a\nb\n", "1 accepted, 1 blocked\n")
    again = balancer(
        "submit", "--role", "developer", "--file", "-", "--json", stdin=file.read_bytes()
    )
    assert [line["outcome"] for line in again.lines] == ["duplicate", "duplicate"]
    assert balancer("task", "show", "b", "--json").data["role"] == "reviewer"


def test_bulk_of_payloads_on_stdin(balancer: Command, pool: Pool) -> None:
    answer = balancer("submit", "--role", "developer", "--payload", "-", stdin='1\n"é"\n'.encode())
    bodies = [balancer("task", "show", id_, "--json").data["body"] for id_ in answer.out.split()]
    assert bodies == [{"payload": 1}, {"payload": "é"}]


def test_bulk_says_which_tasks_were_not_taken(balancer: Command, pool: Pool) -> None:
    balancer("submit", "--role", "developer", "--id", "a")
    lines = b'{"id": "a", "role": "other"}\n{"id": "c", "role": "developer"}\n'
    conflict = balancer("submit", "--file", "-", stdin=lines)
    assert (conflict.code, conflict.out) == (5, "c\n")
    assert "task a: conflict (pending)" in conflict.err
    refused = balancer("submit", "--role", "x", "--file", "-", stdin=b'{"depends_on": ["nobody"]}')
    assert (refused.code, refused.out) == (6, "")
    assert "unknown_parent (nobody)" in refused.err


def test_a_bad_line_stores_nothing(balancer: Command, pool: Pool) -> None:
    answer = balancer("submit", "--file", "-", stdin=b'{"role": "x"}\n{"role": "x", "cost": 0}\n')
    assert answer.code == 2
    assert "stdin, line 2: cost: '0'" in answer.err
    assert balancer("task", "ls", "--json").data == []


def test_task_ls_is_bounded_and_narrowed(balancer: Command, pool: Pool) -> None:
    for id_, role in (("a", "developer"), ("b", "reviewer"), ("c", "developer")):
        balancer("submit", "--role", role, "--id", id_)
    balancer("task", "cancel", "c", "--reason", "no need")

    def ids(*options: str) -> list[str]:
        return [task["id"] for task in balancer("task", "ls", "--json", *options).data]

    assert ids() == ["a", "b", "c"]
    assert ids("--role", "developer") == ["a", "c"]
    assert ids("--state", "cancelled", "--state", "dead") == ["c"]
    assert ids("--limit", "2") == ["a", "b"]
    text = balancer("task", "ls", "--limit", "2")
    assert text.out.splitlines()[0].split()[:4] == ["ID", "STATE", "AGE", "ROLE"]
    assert len(text.out.splitlines()) == 3
    assert text.err.startswith("the first 2;")


def test_cancel(balancer: Command, pool: Pool) -> None:
    id_ = balancer("submit", "--role", "developer").out.strip()
    assert balancer("task", "cancel", id_) == Answer(0, "", f"cancelled {id_}\n")
    again = balancer("task", "cancel", id_, "--json")
    assert again.data == {"id": id_, "state": "cancelled", "cancelling": False}
    assert balancer("task", "cancel", "nobody").code == 3


def test_a_finished_task_cannot_be_cancelled(balancer: Command, served: Pool) -> None:
    balancer("submit", "--role", "developer", "--category", "feature", "--id", "t", "--wait", "20")
    answer = balancer("task", "cancel", "t", "--json")
    assert (answer.code, answer.error["code"]) == (5, "conflict")


def test_what_ops_look_at(balancer: Command, served: Pool) -> None:
    balancer("submit", "--role", "developer", "--category", "feature", "--wait", "20")
    balancer("submit", "--role", "reviewer")
    with Balancer() as client:
        load = client.load_metrics()
    status = balancer("status", "--json").data
    assert status["total_capacity"] == load.total_capacity == 2
    assert (status["pool"], status["queued_tasks"]) == (served.name, 1)
    assert [role["role"] for role in status["roles"]] == ["developer", "reviewer"]
    assert "0 of 2 units used (0%)" in balancer("status").out
    assert [row["pending"] for row in balancer("queue", "ls", "--json").data] == [0, 1]
    assert (
        balancer("queue", "ls", "--limit", "1").err
        == "the first 1 of 2 roles; --limit shows more\n"
    )
    assert [row["id"] for row in balancer("agent", "ls", "--json").data] == ["builder-1"]
    assert balancer("agent", "ls", "--role", "reviewer", "--json").data == []
    assert balancer("agent", "show", "builder-1", "--json").data["tasks"] == []
    assert "0 of 2 units used, 2 free" in balancer("agent", "show", "builder-1").out
    assert balancer("agent", "show", "nobody").code == 3


def test_audit(balancer: Command, pool: Pool) -> None:
    balancer("submit", "--role", "developer")
    clean = balancer("audit", "--json")
    assert (clean.code, clean.data["clean"], clean.data["exact"], clean.data["tasks"]) == (
        0,
        True,
        True,
        1,
    )
    assert balancer("audit").out.startswith("clean (1 task and 0 agents; exact")
    pool.client.hincrby(pool.keys.pool, "accepted", 1)
    broken = balancer("audit")
    assert broken.code == 1
    assert "2 tasks were accepted, 1 were found" in broken.out
    assert balancer("audit", "--json").data["violations"] >= 1


def test_redis_away(balancer: Command) -> None:
    began = time.monotonic()
    answer = balancer("task", "ls", "--redis-url", NOBODY.replace("//", "//u:secret@"), "--json")
    assert time.monotonic() - began < 8
    assert (answer.code, answer.error["code"], answer.error["retryable"]) == (
        4,
        "redis_unavailable",
        True,
    )
    assert "redis://***@127.0.0.1:9/0" in answer.error["hint"]
    assert "secret" not in answer.err


def test_no_such_pool(balancer: Command, pool: Pool) -> None:
    answer = balancer("status", "--pool", "elsewhere")
    assert answer.code == 4
    assert "there is no pool 'elsewhere'" in answer.err
    assert "hint: start `balancer serve --pool elsewhere`" in answer.err


def test_interrupted_is_130(balancer: Command, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Balancer, "wait", interrupt)
    assert balancer("submit", "--role", "x", "--wait", "9").code == 130


def test_a_fault_of_ours_is_one_line(
    balancer: Command, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(Balancer, "queues", fail)
    answer = balancer("queue", "ls")
    assert answer.code == 1
    assert answer.err.splitlines()[0] == "error: ZeroDivisionError: oh"


def test_whatever_an_error_says_its_passwords_are_struck_out(
    balancer: Command, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("at redis://u:secret@h:1/0 \x1b[31m")

    monkeypatch.setattr(Balancer, "queues", fail)
    for form in ((), ("--json",)):
        answer = balancer("queue", "ls", *form)
        assert "secret" not in answer.err
        assert "redis://***@h:1/0" in answer.err
        assert "\x1b" not in answer.err


class Terminal(io.StringIO):
    """Somebody's screen."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_tables_have_colours_on_a_terminal_only(
    balancer: Command, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    balancer("submit", "--role", "developer", "--priority", "critical")

    def shown() -> str:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        assert run(["task", "ls"]) == 0
        return terminal.getvalue()

    assert "\x1b[" in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in shown()


def test_without_redis_server_dev_says_loudly_what_stands_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from balancer.cli.dev import own_redis

    monkeypatch.setattr("balancer.embedded.find_server", lambda: None)
    with own_redis(None, None) as (redis, url), connect(url) as client:
        assert redis.is_fake
        assert client.ping()
    assert "NO REDIS SERVER WAS FOUND" in capsys.readouterr().err
    assert run(["dev", "--port", "7000"]) == 2


def test_agent_pause_resume_retire(balancer: Command, pool: Pool) -> None:
    beat(pool, "a1", max_concurrent=2)
    assert "a1 paused; it holds 0 tasks" in balancer("agent", "pause", "a1").err
    assert "live, paused" in balancer("agent", "ls").out
    assert balancer("agent", "resume", "a1", "--json").data == {
        "agent": "a1", "is": "resumed", "held": 0,
    }  # fmt: skip
    assert balancer("agent", "retire", "a1", "--deadline", "60").code == 0
    assert "live, retiring in" in balancer("agent", "show", "a1").out
    shown = balancer("agent", "show", "a1", "--json").data
    assert (shown["admin"], shown["available"]) == ("retiring", False)
    refused = balancer("agent", "pause", "a1", "--json")
    assert refused.error["code"] == "conflict"
    missing = balancer("agent", "retire", "ghost")
    assert missing.code != 0
    assert "there is no such agent" in missing.err
    assert "deadline_s" in balancer("agent", "retire", "a1", "--deadline", "-1").err


COMMANDS = [
    *("config show", "config check", "config init", "doctor", "health"),
    *("dev", "serve", "demo", "submit", "status", "audit", "version"),
    *(
        "task ls",
        "task show",
        "task cancel",
        "agent ls",
        "agent show",
        "agent pause",
        "agent resume",
        "agent retire",
        "queue ls",
        "queue pause",
        "queue resume",
        "queue purge",
    ),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_json(balancer: Command, command: str) -> None:
    answer = balancer(*command.split(), "--help")
    assert answer.code == 0
    assert f"  balancer {command}" in answer.out.partition("Example")[2]
    assert "--json" in answer.out


def test_the_help_lists_every_command(balancer: Command) -> None:
    for arguments in ((), ("--help",)):
        answer = balancer(*arguments)
        assert answer.code == 0
        assert all(f"\n  {command.split()[0]} " in answer.out for command in COMMANDS)
    assert "cancel" in balancer("task").out


def test_version(balancer: Command) -> None:
    assert set(balancer("version", "--json").data) == {"balancer", "python", "redis-py"}


def test_commands_that_are_printed_say_again_which_pool(
    balancer: Command, pool: Pool, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed works as it is: flags that were given are repeated, an address with a password is not."""
    submit(pool, "t1", make_task("t2", depends_on=("t1",)))
    beat(pool, "a1")
    # The environment needs no repeating.
    assert balancer("task", "why", "t2").out.splitlines()[1] == "-> balancer task why t1"
    monkeypatch.setenv("BALANCER_POOL", "another")
    flags = ("--pool", pool.name)
    told = balancer("task", "why", "t2", *flags).out.splitlines()[1].split()
    assert told == ["->", "balancer", "task", "why", *flags, "t1"]
    assert balancer(*told[2:]).code == 0
    assert f"balancer task why --pool {pool.name} t1 says why" in (
        balancer("task", "show", "t1", *flags).out
    )
    monkeypatch.delenv("BALANCER_REDIS_URL")
    both = ("--redis-url", server.url, *flags)
    url = shlex.quote(server.url)
    late = shlex.split(
        balancer("submit", "--role", "dev", "--wait", "0", *both, "--json").error["hint"]
    )
    assert late[:-1] == ["balancer", "task", "show", *both]
    assert balancer(*late[1:]).code == 0
    missing = balancer("task", "why", "t1", "--redis-url", server.url, "--pool", "nobody")
    assert f"`balancer serve --redis-url {url} --pool nobody`" in missing.err
    start = balancer("submit", "--role", "ops", *both)
    assert start.code == 0
    started = f"worker run --redis-url {url} --pool {pool.name} --role ops -- PROGRAM"
    assert started in balancer("queue", "ls", *both).err
