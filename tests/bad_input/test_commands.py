"""Commands that are typed wrong, addresses that are none, and queues that do not exist."""

from __future__ import annotations

import pytest

from balancer.ledger import Pool
from tests.bad_input.conftest import SECRET, Command, Unchanged, told
from tests.flow.test_cli import NOBODY
from tests.support.factories import assign, beat, submit


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["nonsense"], "nonsense", id="unknown-command"),
        pytest.param(["task", "nonsense"], "nonsense", id="unknown-verb"),
        pytest.param(["task", "ls", "--nonsense"], "--nonsense", id="unknown-option"),
        pytest.param(["task", "ls", "--limit", "-1"], "--limit", id="limit-negative"),
        pytest.param(["task", "ls", "--limit", "0"], "--limit", id="limit-0"),
        pytest.param(["task", "ls", "--limit", "abc"], "abc", id="limit-abc"),
        pytest.param(["task", "ls", "--limit", "nan"], "nan", id="limit-nan"),
        pytest.param(["task", "ls", "--limit", "1e3"], "1e3", id="limit-1e3"),
        pytest.param(["task", "ls", "--limit", "1001"], "1000", id="limit-1001"),
        pytest.param(["agent", "ls", "--limit", "-1"], "--limit", id="limit-of-agents"),
        pytest.param(["queue", "ls", "--limit", "10000000000"], "--limit", id="limit-of-queues"),
        pytest.param(["task", "show"], "Missing argument 'ID'", id="no-id"),
        pytest.param(["submit", "--role", "x", "--wait", "-1"], "--wait", id="wait-negative"),
        pytest.param(["dev", "--port", "70000"], "--port", id="port-70000"),
    ],
)
def test_usage(command: Command, unchanged: Unchanged, arguments: list[str], said: str) -> None:
    with unchanged():
        told(command(*arguments, "--json"), said, kind="usage")
        as_text = command(*arguments)
    assert (as_text.code, as_text.out) == (2, "")
    assert as_text.err.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["task", "ls", "--state", "lost"], "--state: 'lost' is none of scheduled, blocked, pending"),
        (["task", "ls", "--role", "a:b"], "--role: 'a:b' is not a name"),
        (["task", "show", "a:b"], "task id: 'a:b' is not a name"),
        (["task", "show", "job\n"], "is not a name"),
        (["task", "show", ""], "task id: '' is not a name"),
        (["task", "show", "\u0430gent"], "is not a name"),
        (["task", "show", "\x1b[31m"], r"'\x1b[31m' is not a name"),
        (["task", "cancel", "t1", "--reason", "\udcff"], "reason"),
        (["task", "cancel", "*"], "task id: '*' is not a name"),
        (["task", "retry", "a:b"], "task id: 'a:b' is not a name"),
        (["task", "retry"], "ID...: name tasks, or --all"),
        (["task", "retry", "t1", "--role", "x"], "--role, --reason: only with --all"),
        (["task", "retry", "--all", "--reason", "misspelt"], "reason: 'misspelt' is none of failed"),
        (["task", "retry", "--all", "--role", "a*"], "role: 'a*' is not a name"),
        (["task", "reprioritise", "t1", "--priority", "urgent"], "priority: 'urgent' is none of critical"),
        (["task", "reprioritise", "--priority", "high"], "ID...: name at least one task"),
        (["agent", "show", "x" * 65], "is not a name"),
        (["agent", "pause", "{x}"], "agent id: '{x}' is not a name"),
        (["agent", "retire", "a1", "--deadline", "-1"], "deadline_s: -1.0 is not from 0"),
        (["agent", "retire", "a1", "--deadline", "nan"], "deadline_s: nan"),
        (["agent", "retire", "a1", "--deadline", "1e12"], "deadline_s: 1000000000000.0 is not from 0"),
        (["queue", "pause", "a:b"], "role: 'a:b' is not a name"),
        (["queue", "resume", "rq:job"], "role: 'rq:job' is not a name"),
        (["queue", "purge", "a:b", "--yes"], "role: 'a:b' is not a name"),
        (["queue", "purge", "a*"], "role: 'a*' is not a name"),
        (["submit"], "missing role"),
        (["status", "--pool", "a b"], "pool: 'a b' is not a name"),
        (["serve", "--pool", "a:b"], "--pool: 'a:b' is not a name"),
        (["serve", "--strategy", "magic"], "strategy: 'magic'"),
        (["dev", "--dir", "/dev/null/x"], "--dir: cannot use"),
        (["demo", "--agents", "0"], "--agents"),
        (["demo", "--trace", "/nowhere"], "cannot read '/nowhere'"),
        (["simulate", "--trace", "/nowhere"], "--trace: cannot read '/nowhere'"),
        (["simulate", "--trace", "a\0b"], "--trace: cannot read"),
        (["simulate", "--trace", "/"], "--trace: cannot read '/'"),
        (["simulate", "--strategy", "magic"], "--strategy: 'magic' is none of fit, best_match"),
        (["simulate", "--load", "0"], "--load is 0, must be: from 0.01 to 10"),
        (["simulate", "--load", "nan"], "--load is nan"),
        (["simulate", "--slots", "-1"], "--slots is -1"),
        (["simulate", "--gain", "inf"], "--gain is inf"),
        (["simulate", "--limit", "0"], "--limit is 0, must be: from 1"),
        (["simulate", "--blocks", "-1"], "--blocks is -1"),
        (["simulate", "--ageing", "0"], "--ageing is 0, must be: from 0.001 to 100"),
        (["simulate", "--seeds", ""], "--seeds: '' is not a list"),
        (["simulate", "--seeds", "1,1"], "--seeds: '1,1' is not a list of different"),
        (["simulate", "--seeds", "1,x"], "--seeds: '1,x'"),
        (["simulate", "--seeds", "0"], "--seeds: '0'"),
        (["schema", "nonsense"], "nonsense"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_values(
    command: Command, pool: Pool, unchanged: Unchanged, arguments: list[str], said: str
) -> None:
    submit(pool, "t1")
    beat(pool, "a1")
    with unchanged():
        answer = command(*arguments, "--json")
        as_text = command(*arguments)
    assert (answer.code, answer.out, as_text.code) == (2, "", 2)
    assert said in answer.error["message"]
    assert as_text.err.startswith("error: ")


def test_purge_without_yes_says_what_it_would_do(
    command: Command, pool: Pool, unchanged: Unchanged
) -> None:
    submit(pool, "t1", "t2")
    with unchanged():
        told(command("queue", "purge", "dev", "--json"), "2", "--yes", kind="invalid_input")


@pytest.mark.parametrize("verb", ["pause", "resume", "purge"])
def test_a_queue_that_is_unknown(command: Command, unchanged: Unchanged, verb: str) -> None:
    """Work for a role that nobody has had yet is accepted; an order about it is most likely misspelt."""
    yes = ["--yes"] if verb == "purge" else []
    with unchanged():
        told(command("queue", verb, "nobody", *yes, "--json"), "'nobody'", code=3, kind="not_found")
    assert command("submit", "--role", "nobody").code == 0


def test_a_queue_that_is_paused_takes_work_in_and_says_so(command: Command, pool: Pool) -> None:
    submit(pool, "t1")
    assert command("queue", "pause", "dev").code == 0
    answer = command("submit", "--role", "dev", "--id", "t2")
    assert (answer.code, answer.out, answer.err) == (0, "t2\n", "the queue of role dev is paused\n")


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["task", "show", "nobody"], 3, "not_found"),
        (["task", "cancel", "nobody"], 3, "not_found"),
        (["agent", "show", "nobody"], 3, "not_found"),
        (["agent", "pause", "nobody"], 3, "not_found"),
        (["status", "--pool", "elsewhere"], 4, "pool_missing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_is_not_there(
    command: Command, unchanged: Unchanged, arguments: list[str], code: int, kind: str
) -> None:
    with unchanged():
        told(command(*arguments, "--json"), arguments[-1], code=code, kind=kind)


def test_cancelling_what_has_ended(command: Command, pool: Pool, unchanged: Unchanged) -> None:
    from tests.support.factories import complete

    submit(pool, "t1")
    beat(pool, "a1")
    assign(pool, "t1")
    complete(pool, "t1")
    with unchanged():
        told(command("task", "cancel", "t1", "--json"), "completed", code=5, kind="conflict")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        pytest.param(f"redis://u:{SECRET}@", ["no host"], id="no-host"),
        pytest.param(f"redis://:{SECRET}@/0", ["no host"], id="no-host-but-a-database"),
        pytest.param(f"redis://u:p@{SECRET}@h", ["written %40"], id="two-ats"),
        pytest.param(f"http://u:{SECRET}@h", ["the scheme must be one of these"], id="http"),
        pytest.param(f"redis://u:{SECRET}@h:port/0", ["1 to 65535"], id="port-word"),
        pytest.param(f"redis://u:{SECRET}@h:70000", ["1 to 65535"], id="port-70000"),
        pytest.param("redis://h:\uff11\uff12", ["1 to 65535"], id="port-fullwidth"),
        pytest.param("redis://127.0.0.1:9/0?colour=red", ["'colour'"], id="option"),
        pytest.param("redis://\udcff/0", ["not valid Unicode"], id="no-unicode"),
        pytest.param("redis://h\r\nFLUSHALL", ["control characters"], id="newline"),
        pytest.param("", ["at least 1 character"], id="empty"),
    ],
)
@pytest.mark.parametrize("name", ["status", "serve"])
def test_an_address(
    command: Command, unchanged: Unchanged, name: str, address: str, words: list[str]
) -> None:
    with unchanged():
        answer = command(name, "--redis-url", address, "--json")
    told(answer, *words, code=78, kind="configuration")
    assert answer.error["message"].startswith("--redis-url: ")


def test_nobody_is_there(command: Command) -> None:
    answer = command("task", "ls", "--redis-url", NOBODY.replace("//", f"//u:{SECRET}@"), "--json")
    told(answer, code=4, kind="redis_unavailable")
    assert (answer.error["retryable"], "redis://***@127.0.0.1:9/0" in answer.error["hint"]) == (
        True,
        True,
    )


def test_a_wrong_password(
    command: Command, unchanged: Unchanged, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    url = os.environ["BALANCER_REDIS_URL"].replace("unix://", f"unix://nobody:{SECRET}@")
    with unchanged():
        for name in ("status", "submit", "doctor"):
            more = ["--role", "x"] if name == "submit" else []
            answer = command(name, *more, "--redis-url", url, "--json")
            assert answer.code == 77
    assert "WRONGPASS" in answer.out + answer.err
