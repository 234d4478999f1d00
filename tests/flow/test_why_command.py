"""`balancer task why` on a pool that `balancer dev` serves: each kind of task that waits, and those that do not."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import structlog

from balancer import Balancer, log
from balancer.ledger import read_why
from balancer.protocol import Heartbeat
from tests.flow.test_cli import Command, balancer
from tests.flow.test_cli_processes import COMMAND, ROOT
from tests.support.factories import boot_of
from tests.support.wait import wait_until
from worker import Agent, Reject, TaskContext

__all__ = ["balancer"]

SETTINGS = """
[pool]
strategy = "fit"
learning = false
retry_delay_s = 0.05
min_health = 0.9
"""


class Stage:
    """A served pool, agents whose tasks do as their category says, and who puts work there."""

    def __init__(
        self, url: str, balancers: subprocess.Popen[str], agents: ExitStack, producer: Balancer
    ) -> None:
        self.url, self.balancers, self._agents, self.producer = url, balancers, agents, producer
        self.over = threading.Event()

    def agent(self, id: str, **facts: Any) -> None:
        """One whose role is the first letter of its id."""
        agent = Agent(id, role=id[0], redis_url=self.url, **facts)

        @agent.task("general")
        def succeed(task: TaskContext) -> str:
            return "done"

        @agent.task("hold")
        def hold(task: TaskContext) -> None:
            while not (self.over.wait(0.02) or task.cancelled.is_set()):
                pass

        @agent.task("fail")
        def fail(task: TaskContext) -> None:
            raise ValueError("no")

        @agent.task("reject")
        def reject(task: TaskContext) -> None:
            raise Reject("not mine")

        self._agents.enter_context(agent)

    def task(self, id: str, **facts: Any) -> str:
        """One whose role is the first letter of its id."""
        return self.producer.submit(id=id, role=id[0], **facts)

    def held(self, id: str, **facts: Any) -> None:
        """A task that an agent holds, until the stage is over."""
        self.task(id, category="hold", **facts)
        wait_until(lambda: self.producer.status(id).state.value == "assigned", f"{id} is held")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """What `balancer dev` serves with these settings. Each test has roles of its own."""
    file = tmp_path_factory.mktemp("dev") / "balancer.toml"
    file.write_text(SETTINGS)
    with ExitStack() as stack:
        dev = subprocess.Popen(
            [*COMMAND, "dev", "--json", "--config", str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        stack.callback(dev.communicate)
        stack.callback(dev.terminate)
        assert dev.stdout is not None
        url = json.loads(dev.stdout.readline())["redis_url"]
        stage = Stage(url, dev, stack, stack.enter_context(Balancer(url)))
        yield stage
        dev.send_signal(signal.SIGCONT)
        stage.over.set()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The agents of this process log elsewhere than where commands print."""
    log.configure(to=io.StringIO())
    yield
    structlog.reset_defaults()


#: Asks why a task is where it is.
Why = Callable[[str], Any]
#: Waits until a task is there for this reason; the answer, which is also told in words.
ComesTo = Callable[[str, str], Any]


@pytest.fixture
def why(balancer: Command, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Why:
    monkeypatch.setenv("BALANCER_REDIS_URL", stage.url)

    def ask(id: str) -> Any:
        answer = balancer("task", "why", id, "--json")
        assert (answer.code, answer.err) == (0, "")
        return answer.data

    return ask


@pytest.fixture
def comes_to(balancer: Command, why: Why) -> ComesTo:
    def wait(id: str, code: str) -> Any:
        wait_until(lambda: why(id)["code"] == code, f"{id} is {code}")
        answer, text = why(id), balancer("task", "why", id).out.splitlines()
        if answer["helps"]:
            assert text.pop(1) == f"-> {answer['helps']}"
        assert (answer["code"], text[1].split()) == (code, ["reason", code])
        assert text[0][0].isupper()
        assert text[0].endswith(".")
        return answer

    return wait


def test_no_agents(stage: Stage, comes_to: ComesTo) -> None:
    stage.task("a-1")
    assert comes_to("a-1", "no_agents")["text"] == "No agent of role a is live."
    stage.producer.cancel("a-1", "enough")
    assert comes_to("a-1", "cancelled")["text"] == "It was cancelled (enough)."


def test_unplaceable_is_also_flagged_where_tasks_and_queues_are_shown(
    balancer: Command, stage: Stage, comes_to: ComesTo
) -> None:
    stage.agent("b1", skills={"gpu": 1})
    stage.task("b-1", requires={"gpu": 3})
    stage.task("b-2", requires={"gpu": 1}, category="hold")
    answer = comes_to("b-1", "unplaceable")
    assert answer["text"] == (
        "No live agent of role b could ever have it: 1 without the skills; it needs gpu 3 (the best has 1)."
    )
    assert (answer["suitable"], answer["candidates"], answer["outlook"]) == (0, [], None)
    shown = balancer("task", "show", "b-1", "--json").data
    why_not = "it needs gpu 3, 1 unit; of those that take work: 1 without the skills"
    assert (shown["unplaceable"], shown["waits"]) == (why_not, f"unplaceable: {why_not}")
    assert balancer("task", "show", "b-2", "--json").data["unplaceable"] is None
    rows = {row["role"]: row for row in balancer("queue", "ls", "--json").data}
    assert (rows["b"]["unplaceable"], rows["b"]["unplaceable_task"]) == (1, "b-1")
    assert "b: 1 pending task unplaceable" in balancer("queue", "ls").err


def test_busy_blocked_paused_and_assigned(stage: Stage, comes_to: ComesTo) -> None:
    stage.agent("c1")
    stage.held("c-0")
    stage.task("c-1")
    stage.task("c-2", priority="low")
    stage.task("d-1", depends_on=("c-0", "c-1"))
    answer = comes_to("c-2", "all_busy")
    assert (answer["position"], answer["excluded"]) == (2, {"full": 1})
    assert answer["text"] == (
        "The one agent that could have it is full: 1 of 1 unit in use; it is number 2 in line."
    )
    assert answer["outlook"]["starts_in"]["low_s"] > 3_600
    assert comes_to("d-1", "blocked")["text"] == (
        "It waits for 2 tasks: c-0 (assigned), c-1 (pending), to complete."
    )
    answer = comes_to("c-0", "assigned")
    assert [(one["agent"], one["holds_it"]) for one in answer["candidates"]] == [("c1", True)]
    assert answer["assignment"]["scores"] == {"speed": 1.0}
    stage.producer.pause_queue("c")
    assert comes_to("c-2", "role_paused")["text"] == "The queue of role c is paused."
    stage.producer.cancel("c-0", "enough")
    comes_to("d-1", "dead")
    stage.producer.resume_queue("c")
    comes_to("c-1", "completed")


def test_scheduled_and_backing_off(stage: Stage, why: Why, comes_to: ComesTo) -> None:
    stage.task("e-0", not_before="2149-01-01T00:00:00Z")
    assert comes_to("e-0", "scheduled")["due_in_s"] > 1e9
    stage.agent("e1")
    stage.task("e-1", category="fail", max_failures=100)
    wait_until(lambda: (why("e-1")["due_in_s"] or 0) > 2, "it fails ever more seldom", 20)
    answer = comes_to("e-1", "backing_off")
    failures = answer["failures"]
    assert answer["text"].startswith(f"Try {failures} of 100 failed; the next one may start in ")
    assert len(answer["tries"]) == min(10, failures)
    assert answer["tries"][0].startswith("failed on e1 after ")


def test_an_agent_that_takes_nothing(stage: Stage, comes_to: ComesTo) -> None:
    stage.agent("g1")
    wait_until(lambda: knows(stage, "g1"), "g1 is known")
    stage.producer.pause_agent("g1")
    stage.task("g-1")
    assert comes_to("g-1", "not_accepting")["excluded"] == {"paused": 1}


def test_given_back_and_failed(stage: Stage, comes_to: ComesTo) -> None:
    stage.agent("h1")
    stage.task("h-1", category="reject")
    answer = comes_to("h-1", "avoided")
    assert (answer["barred"], answer["excluded"]) == (["h1"], {"avoided": 1})
    stage.agent("i2")
    stage.held("i-0")
    stage.agent("i1")
    stage.task("i-1", category="fail")
    answer = comes_to("i-1", "tried")
    assert (answer["barred"], answer["excluded"]) == (["i1"], {"tried": 1, "full": 1})


def test_guarded(balancer: Command, stage: Stage, comes_to: ComesTo) -> None:
    stage.agent("j1", speed=8.0)
    stage.held("j-0")
    stage.task("j-1")
    comes_to("j-1", "all_busy")
    stage.agent("j2", speed=0.5)
    answer = comes_to("j-1", "guarded")
    assert (answer["guard"]["better_units"], answer["guard"]["here_in_s"]) == (1, 7_200)
    assert [(one["agent"], one["guarded"]) for one in answer["candidates"]] == [
        ("j2", True),
        ("j1", False),
    ]
    rows = [line.split() for line in balancer("task", "why", "j-1").out.splitlines()[-3:]]
    assert rows[0] == ["AGENT", "USED", "HEALTH", "SPEED", "REL", "INDEX", "NOW"]
    assert (rows[1][:5], rows[1][-1]) == (["j2", "0/1", "1", "0.5", "0.06"], "guarded")
    assert (rows[2][:5], rows[2][-1]) == (["j1", "1/1", "1", "8", "1.00"], "full")


def test_reserved(stage: Stage, comes_to: ComesTo) -> None:
    stage.agent("k1", max_concurrent=4)
    stage.held("k-0")
    stage.task("k-large", cost=4)
    answer = comes_to("k-large", "all_busy")
    assert (answer["kept_agent"], answer["kept_for"]) == ("k1", "k-large")
    stage.task("k-small", priority="low")
    answer = comes_to("k-small", "reserved")
    assert (answer["kept_agent"], answer["kept_for"]) == ("k1", "k-large")


def test_silent(stage: Stage, comes_to: ComesTo) -> None:
    pool = stage.producer.pool
    facts = {"role": "l", "max_concurrent": 1, "interval_ms": 500, "ttl_ms": 60_000}
    once = Heartbeat(agent="l1", boot=boot_of("l1"), seq=1, **facts)
    pool.client.xadd(pool.keys.heartbeats, once.fields())
    stage.agent("n1", interval_s=0.2, ttl_s=1)
    # Silence is judged against heartbeats of others that were applied, here those of n1.
    wait_until(lambda: (l1 := knows(stage, "l1")) and l1.heartbeat_age_s > 2, "l1 is silent")
    stage.task("l-1")
    assert comes_to("l-1", "health")["excluded"] == {"health": 1}


def test_without_a_balancer(
    stage: Stage, comes_to: ComesTo, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.agent("m1")
    wait_until(lambda: knows(stage, "m1"), "m1 is known")
    pool = stage.producer.pool
    wait_until(
        lambda: int(pool.client.hget(pool.keys.meta, "last_tick_ms") or 0), "a balancer has ticked"
    )
    stage.balancers.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(read_why, "UNSERVED_S", 1e6)  # however long it takes to ask
    try:
        stage.task("m-1")
        stage.task("m-2")
        assert comes_to("m-1", "placing")["goes_to"] == "m1"
        assert comes_to("m-2", "waits_in_line")["text"] == (
            "Others go before it to the 1 free unit that it could have; it is number 2 in line."
        )
        monkeypatch.setattr(read_why, "UNSERVED_S", 0.0)
        assert comes_to("m-1", "unserved")["is_served"] is False
    finally:
        stage.balancers.send_signal(signal.SIGCONT)
    comes_to("m-2", "completed")


def knows(stage: Stage, id: str) -> Any:
    """The agent, as the pool knows it."""
    return next((agent for agent in stage.producer.agents() if agent.id == id), None)


def test_unknown_tasks_and_bad_names_are_refused(
    balancer: Command, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALANCER_REDIS_URL", stage.url)
    unknown = balancer("task", "why", "nobody", "--json")
    assert (unknown.code, unknown.out, unknown.error["code"]) == (3, "", "not_found")
    shown = balancer("task", "show", "nobody", "--json")
    assert unknown.error == shown.error
    assert balancer("task", "why", "no body").code == balancer("task", "show", "no body").code == 2


def test_as_a_process_of_its_own(stage: Stage) -> None:
    stage.task("o-1")
    done = subprocess.run(
        [*COMMAND, "task", "why", "o-1"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=ROOT,
        env={**os.environ, "BALANCER_REDIS_URL": stage.url},
    )
    assert done.stdout.splitlines()[:4] == [
        "No agent of role o is live.",
        "-> start an agent: worker run --role o -- PROGRAM",
        "reason  no_agents",
        "state   pending",
    ]
