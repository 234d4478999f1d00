"""A task that breaks a rule, through each door of a producer: Python, asyncio, a line of JSON, options."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import pytest

from balancer import AsyncBalancer, Balancer, BalancerError, Conflict, InvalidInput, Refused
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from tests.bad_input.conftest import Command, Unchanged, told
from tests.support.factories import assign, beat, complete, make_task, submit

NAN, INF = float("nan"), float("inf")

#: Row of the table, the fields, what the error says.
ROWS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("task-id-empty", {"id": ""}, ("id: ''", "is not a name")),
    ("task-id-65", {"id": "x" * 65}, ("id: 'xxx", "at most 64")),
    ("task-id-colon", {"id": "a:b"}, ("id: 'a:b'", "is not a name")),
    ("task-id-braces", {"id": "{x}y"}, ("id: '{x}y'", "is not a name")),
    ("task-id-newline", {"id": "job\n"}, (r"id: 'job\n'", "is not a name")),
    ("task-id-nul", {"id": "a\x00"}, (r"id: 'a\x00'", "is not a name")),
    ("task-id-cyrillic", {"id": "\u0430gent"}, ("id: '\u0430gent'", "is not a name")),
    ("task-id-dots", {"id": "../../etc"}, ("id: '../../etc'", "is not a name")),
    ("task-id-star", {"id": "*"}, ("id: '*'", "is not a name")),
    ("task-id-int", {"id": 7}, ("id: '7'", "string")),
    ("task-id-null", {"id": None}, ("id: 'None'", "string")),
    ("task-id-surrogate", {"id": "\ud800"}, (r"id: '\ud800'", "Unicode")),
    ("nan", {"payload": [NAN]}, ("NaN", "finite")),
    ("infinity", {"payload": {"a": INF}}, ("payload", "finite")),
    ("depth-33", {"payload": json.loads("[" * 33 + "]" * 33)}, ("payload", "deeper than 32")),
    ("int-2^53", {"payload": {"n": [2**53]}}, ("payload.n.0", "2^53")),
    ("surrogate", {"payload": "\ud800"}, ("payload", "not valid Unicode")),
    ("surrogate-key", {"payload": {"\ud800": 1}}, ("payload", "Unicode")),
    ("surrogate-description", {"description": "a\ud800"}, (r"description: 'a\ud800'", "Unicode")),
    ("payload-64-kib", {"payload": ["x" * 16_000] * 5}, ("payload", "at most 65536")),
    ("payload-string", {"payload": "x" * 16_385}, ("payload", "16385", "at most 16384")),
    ("payload-keys", {"payload": {str(n): n for n in range(1_001)}}, ("payload", "1000 keys")),
    ("description-16-kib", {"description": "x" * 16_385}, ("description", "at most 16384")),
    ("unknown-field", {"rule": "x"}, ("rule: unknown field", "did you mean 'role'?")),
    ("role-missing", {"role": ...}, ("missing role",)),
    ("priority-word", {"priority": "urgent"}, ("priority: 'urgent'", "'critical', 'high', 'medium' or 'low'")),
    ("priority-negative", {"priority": -1}, ("priority: '-1'", "'low'")),
    ("priority-fraction", {"priority": 1.5}, ("priority: '1.5'", "'low'")),
    ("priority-true", {"priority": True}, ("priority: 'True'", "'low'")),
    ("max-failures-0", {"max_failures": 0}, ("max_failures: '0'", "greater than or equal to 1")),
    ("max-failures-10^9", {"max_failures": 10**9}, ("max_failures: '1000000000'", "100")),
    ("max-failures-null", {"max_failures": None}, ("max_failures: 'None'", "integer")),
    ("max-failures-true", {"max_failures": True}, ("max_failures: 'True'", "integer")),
    ("max-failures-text", {"max_failures": "\uff11\uff12"}, ("max_failures: '\uff11\uff12'", "integer")),
    ("cost-0", {"cost": 0}, ("cost: '0'", "greater than or equal to 1")),
    ("cost-10^9", {"cost": 10**9}, ("cost: '1000000000'", "1000")),
    ("cost-true", {"cost": True}, ("cost: 'True'", "integer")),
    ("cost-text", {"cost": "1_000"}, ("cost: '1_000'", "integer")),
    ("cost-nan", {"cost": "nan"}, ("cost: 'nan'", "integer")),
    ("cost-fraction", {"cost": 1.5}, ("cost: '1.5'", "integer")),
    ("timeout-0", {"run_timeout_s": 0}, ("run_timeout_s: '0'", "greater than or equal to 1")),
    ("timeout-negative", {"run_timeout_s": -5}, ("run_timeout_s: '-5'", "equal to 1")),
    ("timeout-1e12", {"run_timeout_s": 1e12}, ("run_timeout_s: '1000000000000.0'", "2592000")),
    ("timeout-true", {"run_timeout_s": True}, ("run_timeout_s: 'True'", "number")),
    ("timeout-text", {"run_timeout_s": "1_000"}, ("run_timeout_s: '1_000'", "number")),
    ("timeout-null", {"run_timeout_s": None}, ("run_timeout_s: 'None'", "number")),
    ("max-wait-true", {"max_wait_s": True}, ("max_wait_s: 'True'", "number")),
    ("max-wait-text", {"max_wait_s": "30"}, ("max_wait_s: '30'", "number")),
    ("max-wait-0", {"max_wait_s": 0}, ("max_wait_s: '0'", "0.001")),
    ("not-before-naive", {"not_before": "2026-11-27T13:00:00"}, ("not_before: '2026", "with a zone")),
    ("not-before-9999", {"not_before": "9999-01-01T00:00:00Z"}, ("not_before", "beyond the year 2200")),
    ("not-before-number", {"not_before": 1764248400}, ("not_before: '1764248400'", "is not a time")),
    ("expires-first", {"not_before": "2150-01-01T00:00Z", "expires_at": "2149-01-01T00:00Z"},
        ("expires_at", "could never start")),
    ("dedup-key-empty", {"dedup_key": ""}, ("dedup_key: ''", "at least 1")),
    ("dedup-key-long", {"dedup_key": "k" * 257}, ("dedup_key", "at most 256")),
    ("dedup-key-newline", {"dedup_key": "a\nb"}, (r"dedup_key: 'a\nb'", "control character")),
    ("policy-word", {"on_parent_failure": "maybe"}, ("on_parent_failure: 'maybe'", "'fail', 'skip' or 'run'")),
    ("depends-on-self", {"id": "t", "depends_on": ["t"]}, ("depends_on: \"['t']\" names the task itself",)),
    ("depends-on-twice", {"depends_on": ["known", "known"]}, ("depends_on", "named twice")),
    ("depends-on-text", {"depends_on": "known"}, ("depends_on: 'known'", "tuple")),
    ("depends-on-bad", {"depends_on": ["a b"]}, ("depends_on.0: 'a b'", "is not a name")),
    ("depends-on-10001", {"depends_on": [f"p{n}" for n in range(10_001)]}, ("depends_on", "at most 1000")),
    ("role-star", {"role": "a*"}, ("role: 'a*'", "is not a name")),
    ("role-rq", {"role": "rq:job"}, ("role: 'rq:job'", "is not a name")),
    ("role-newline", {"role": "dev\n"}, (r"role: 'dev\n'", "is not a name")),
    ("role-null", {"role": None}, ("role: 'None'", "string")),
    ("requires-name", {"requires": {"a b": 1}}, ("requires:", "'a b' is not a name")),
    ("requires-lua", {"requires": {'a"],redis.call("FLUSHALL"),["': 1}}, ("requires", "is not a name")),
    ("requires-0", {"requires": {"go": 0}}, ("requires.go: '0'", "equal to 1")),
    ("requires-101", {"requires": {"go": 101}}, ("requires.go: '101'", "equal to 100")),
    ("requires-true", {"requires": {"go": True}}, ("requires.go: 'True'", "integer")),
    ("requires-fraction", {"requires": {"go": 1.5}}, ("requires.go: '1.5'", "integer")),
    ("requires-text", {"requires": {"go": "3"}}, ("requires.go: '3'", "integer")),
    ("requires-list", {"requires": ["go"]}, ("requires: \"['go']\"", "dictionary")),
    ("requires-17", {"requires": {f"s{n}": 1 for n in range(17)}}, ("requires", "at most 16")),
    ("complexity-0", {"complexity": 0}, ("complexity: '0'", "equal to 1")),
    ("complexity-6", {"complexity": 6}, ("complexity: '6'", "equal to 5")),
    ("complexity-true", {"complexity": True}, ("complexity: 'True'", "integer")),
    ("complexity-fraction", {"complexity": 2.5}, ("complexity: '2.5'", "integer")),
    ("complexity-text", {"complexity": "3"}, ("complexity: '3'", "integer")),
    ("estimate-0", {"estimate_s": 0}, ("estimate_s: '0'", "0.001")),
    ("estimate-negative", {"estimate_s": -1}, ("estimate_s: '-1'", "0.001")),
    ("estimate-1e12", {"estimate_s": 1e12}, ("estimate_s: '1000000000000.0'", "2592000")),
    ("estimate-true", {"estimate_s": True}, ("estimate_s: 'True'", "number")),
    ("estimate-text", {"estimate_s": "60"}, ("estimate_s: '60'", "number")),
    ("group-empty", {"group": ""}, ("group: ''", "at least 1")),
    ("group-129", {"group": "g" * 129}, ("group: 'ggg", "at most 128")),
    ("group-newline", {"group": "a\nb"}, (r"group: 'a\nb'", "control character")),
    ("group-number", {"group": 5}, ("group: '5'", "string")),
    ("group-surrogate", {"group": "\ud800"}, (r"group: '\ud800'", "Unicode")),
    ("feature-name", {"features": {"a b": 1}}, ("features:", "'a b' is not a name")),
    ("feature-list", {"features": {"a": [1]}}, ("features.a: '[1]'", "neither a text, nor a number")),
    ("feature-null", {"features": {"a": None}}, ("features.a: 'None'", "neither a text, nor a number")),
    ("feature-2^53", {"features": {"a": 2**53}}, ("features.a: '9007199254740992'", "is not a number from")),
    ("feature-infinity", {"features": {"a": INF}}, ("features.a: 'inf'", "is not a number from")),
    ("feature-129", {"features": {"a": "x" * 129}}, ("features.a: 'xxx", "at most 128")),
    ("feature-nul", {"features": {"a": "x\x00"}}, (r"features.a: 'x\x00'", "control character")),
    ("feature-surrogate", {"features": {"a": "\ud800"}}, (r"features.a: '\ud800'", "Unicode")),
    ("features-17", {"features": {f"f{n}": 1 for n in range(17)}}, ("features", "at most 16")),
    ("features-number", {"features": 5}, ("features: '5'", "dictionary")),
    ("prefer-agent-colon", {"prefer_agent": "a:b"}, ("prefer_agent: 'a:b'", "is not a name")),
    ("prefer-agent-pipe", {"prefer_agent": "a|9"}, ("prefer_agent: 'a|9'", "is not a name")),
    ("prefer-for-0", {"prefer_for_s": 0}, ("prefer_for_s: '0'", "0.001")),
    ("prefer-for-1e12", {"prefer_for_s": 1e12}, ("prefer_for_s: '1000000000000.0'", "2592000")),
    ("prefer-for-null", {"prefer_for_s": None}, ("prefer_for_s: 'None'", "number")),
    ("category-call", {"category": "__import__('os')"}, ("category", "is not a name")),
    ("category-lua", {"category": "'..redis.call('FLUSHALL')..'"}, ("category", "is not a name")),
]  # fmt: skip
#: What only Python can say.
PYTHON_ROWS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("timeout-nan", {"run_timeout_s": NAN}, ("run_timeout_s: 'nan'", "finite")),
    ("estimate-nan", {"estimate_s": NAN}, ("estimate_s: 'nan'", "finite")),
    ("prefer-for-inf", {"prefer_for_s": INF}, ("prefer_for_s: 'inf'", "finite")),
    ("feature-nan", {"features": {"a": NAN}}, ("features.a: 'nan'", "is not a number from")),
    ("feature-bytes", {"features": {"a": b"x"}}, ("features.a", "neither a text, nor a number")),
    ("timeout-inf", {"run_timeout_s": INF}, ("run_timeout_s: 'inf'", "finite")),
    ("not-before-date", {"not_before": date(2026, 11, 27)}, ("not_before", "is not a time")),
    ("not-before-naive-datetime", {"not_before": datetime(2026, 11, 27)}, ("not_before", "zone")),  # noqa: DTZ001
    ("task-id-bytes", {"id": b"t"}, ("id: \"b't'\"", "string")),
    ("payload-bytes", {"payload": b"x"}, ("payload", "bytes is not JSON")),
    ("payload-set", {"payload": {"a": {1}}}, ("payload.a: set is not JSON",)),
    ("payload-key", {"payload": {5: 1}}, ("payload: key 5 is not a string",)),
    ("field-number", {5: 1}, ("5",)),  # type: ignore[dict-item]
]  # fmt: skip


def fields(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in ({"role": "dev"} | row).items() if value is not ...}


@pytest.fixture
def known(pool: Pool) -> Pool:
    """A pool that knows a task already."""
    submit(pool, "known")
    return pool


@pytest.fixture
def producer(redis_server: EmbeddedRedis, known: Pool) -> Iterator[Balancer]:
    with Balancer(redis_server.url, "p") as balancer:
        yield balancer


@pytest.mark.parametrize(
    ("row", "words"), [pytest.param(*rest, id=id_) for id_, *rest in ROWS + PYTHON_ROWS]
)
def test_in_python(
    producer: Balancer, unchanged: Unchanged, row: dict[str, Any], words: tuple[str, ...]
) -> None:
    with unchanged():
        with pytest.raises(InvalidInput) as one:
            producer.submit(fields(row))
        with pytest.raises(InvalidInput, match=r"^task 1: ") as many:
            producer.submit_many([make_task("good"), fields(row)])
    for word in words:
        said = word.replace("NaN", "nan")
        assert said in str(one.value)
        assert said in str(many.value)
    assert str(one.value).isprintable()


@pytest.mark.parametrize(("row", "words"), [pytest.param(*rest, id=id_) for id_, *rest in ROWS])
def test_in_a_line_of_json(
    command: Command, known: Pool, unchanged: Unchanged, row: dict[str, Any], words: tuple[str, ...]
) -> None:
    """A bad line stores nothing, and neither do the good ones before it."""
    line = json.dumps(fields(row)).replace("Infinity", "1e400")
    with unchanged():
        answer = command(
            "submit", "--file", "-", "--json", stdin=f'{{"role": "dev"}}\n{line}'.encode()
        )
    told(answer, "stdin, line 2: ", *words)


def test_asyncio_says_the_same(
    redis_server: EmbeddedRedis, known: Pool, unchanged: Unchanged
) -> None:
    async def submit_all() -> list[str]:
        said = []
        async with AsyncBalancer(redis_server.url, "p") as producer:
            for _, row, _ in ROWS:
                with pytest.raises(InvalidInput) as error:
                    await producer.submit(fields(row))
                said.append(str(error.value))
        return said

    with unchanged():
        said = asyncio.run(submit_all())
    for text, (id_, _, words) in zip(said, ROWS, strict=True):
        assert all(word.replace("NaN", "nan") in text for word in words), id_


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--id", ""], ["id: ''", "is not a name"]),
        (["--id", "job\n"], ["is not a name"]),
        (["--id", "\u0430gent"], ["is not a name"]),
        (["--cost", "0"], ["cost: '0'"]),
        (["--max-failures", "101"], ["max_failures: '101'"]),
        (["--priority", "urgent"], ["priority: 'urgent'"]),
        (["--run-timeout", "nan"], ["run_timeout_s: 'nan'"]),
        (["--run-timeout", "1e12"], ["run_timeout_s: '1000000000000.0'"]),
        (["--max-wait", "0"], ["max_wait_s: '0.0'"]),
        (["--max-wait", "nan"], ["max_wait_s: 'nan'"]),
        (["--id", "t", "--depends-on", "t"], ["names the task itself"]),
        (["--dedup-key", ""], ["dedup_key: ''"]),
        (["--dedup-key", "a\nb"], ["holds a control character"]),
        (["--dedup-key", "k" * 257], ["at most 256"]),
        (["--not-before", "tomorrow"], ["not_before: 'tomorrow' is not a time"]),
        (["--not-before", "1764248400"], ["'1764248400' is not a time"]),
        (["--not-before", "2026-11-27T13:00:00"], ["with a zone"]),
        (["--expires-at", "2026-13-27T13:00:00Z"], ["expires_at: '2026-13"]),
        (["--expires-at", "9999-01-01T00:00:00Z"], ["beyond the year 2200"]),
        (["--on-parent-failure", "maybe"], ["'fail', 'skip' or 'run'"]),
        (["--description", "\udcff"], ["description", "Unicode"]),
        (["--block", "-1"], ["block_s: -1.0 is not from 0 to 86400"]),
        (["--block", "inf"], ["block_s: inf"]),
        (["--payload", "{"], ["payload: '{' is not JSON"]),
        (["--payload", '{"a": NaN}'], ["NaN is not JSON"]),
        (["--payload", "[1e999]"], ["inf is not a finite number"]),
        (["--payload", "9007199254740993"], ["2^53"]),
        (["--payload", "9" * 5000], ["payload: "]),
        (["--payload", '{"a": 1, "a": 2}'], ["key 'a' stands twice"]),
        (["--payload", r'"\ud800"'], ["lone surrogate"]),
        (["--payload", "[" * 100_000], ["nested too deep"]),
        (["--payload", "1", "--file", "f"], ["--payload"]),
        (["--payload", "-", "--file", "f"], ["--payload"]),
        (["--payload", "-", "--wait", "1"], ["--wait"]),
        (["--payload", "-", "--block", "1"], ["--block"]),
        (["--payload", "-", "--id", "t"], ["--id: 't'"]),
        (["--payload", "-", "--dedup-key", "k"], ["--dedup-key: 'k'"]),
        (["--file", "/nowhere"], ["cannot read '/nowhere': No such file"]),
        (["--file", "/"], ["cannot read '/'"]),
        (["--role", "{x}y"], ["role: '{x}y' is not a name"]),
        (["--require", "python:x"], ["--require: 'python:x' is not a skill and a level such as python:3"]),
        (["--require", "python:"], ["--require: 'python:'"]),
        (["--require", "python:1.5"], ["--require: 'python:1.5'"]),
        (["--require", "python:\uff11"], ["--require: "]),
        (["--require", "python:101"], ["requires.python: '101'"]),
        (["--require", "a b:1"], ["'a b' is not a name"]),
        (["--require", ""], ["'' is not a name"]),
        (["--require", "go:1", "--require", "go:2"], ["--require: 'go' is named twice"]),
        (["--feature", "files"], ["--feature: 'files' is not a name and a value such as files=12"]),
        (["--feature", "=1"], ["'' is not a name"]),
        (["--feature", "a=1", "--feature", "a=2"], ["--feature: 'a' is named twice"]),
        (["--feature", "a=9007199254740992"], ["features.a: '9007199254740992'"]),
        (["--feature", "a=\udcff"], ["features.a", "Unicode"]),
        (["--complexity", "6"], ["complexity: '6'"]),
        (["--estimate", "nan"], ["estimate_s: 'nan'"]),
        (["--estimate", "0"], ["estimate_s: '0.0'"]),
        (["--group", ""], ["group: ''"]),
        (["--prefer-agent", "a:b"], ["prefer_agent: 'a:b' is not a name"]),
        (["--prefer-for", "inf"], ["prefer_for_s: 'inf'"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)  # fmt: skip
def test_in_options(
    command: Command, pool: Pool, unchanged: Unchanged, options: list[str], words: list[str]
) -> None:
    with unchanged():
        told(command("submit", "--role", "dev", *options, "--json"), *words)
        as_text = command("submit", "--role", "dev", *options)
    assert as_text.code == 2
    assert as_text.err.startswith("error: ")


@pytest.mark.parametrize("value", ["1.5", "nan", "0x10", "\uff11\uff12x", "1e3", "", "\u0661x"])
@pytest.mark.parametrize("option", ["--cost", "--max-failures", "--complexity"])
def test_a_whole_number_is_one(
    command: Command, pool: Pool, unchanged: Unchanged, option: str, value: str
) -> None:
    with unchanged():
        told(command("submit", "--role", "dev", option, value, "--json"), option, kind="usage")


@pytest.mark.parametrize(
    ("value", "said"),
    [(5, "5"), ("x", "'x'"), ([1], "[1]"), ('{"role": "dev"}', "role"), (b"x", "b'x'")],
    ids=repr,
)
def test_what_is_no_task_at_all(
    producer: Balancer, unchanged: Unchanged, value: Any, said: str
) -> None:
    with unchanged():
        with pytest.raises(InvalidInput, match=r"^task: .* neither a Task nor a mapping") as error:
            producer.submit(value)
        with pytest.raises(InvalidInput, match=r"^task 0: task: "):
            producer.submit_many([value])
        with pytest.raises(InvalidInput, match=r"^tasks: 5 is not a list"):
            producer.submit_many(5)  # type: ignore[arg-type]
    assert said in str(error.value)


# --- what the pool alone can know ---


def test_the_same_again_is_a_duplicate(
    producer: Balancer, command: Command, unchanged: Unchanged
) -> None:
    with unchanged():
        assert producer.submit(id="known", role="dev") == "known"
        assert command("submit", "--id", "known", "--role", "dev").out == "known\n"


def test_the_same_id_for_another_task_is_a_conflict(
    producer: Balancer, command: Command, unchanged: Unchanged
) -> None:
    with unchanged():
        with pytest.raises(Conflict, match=r"'known'.* names another task already"):
            producer.submit(id="known", role="dev", payload=1)
        other = ("submit", "--id", "known", "--role", "dev", "--payload", "1", "--json")
        told(command(*other), "'known'", "another task", code=5, kind="conflict")


def test_a_parent_that_is_not_there_is_refused(
    producer: Balancer, command: Command, unchanged: Unchanged
) -> None:
    with unchanged():
        with pytest.raises(Refused, match="depends_on: there is no task 'nope'"):
            producer.submit(role="dev", depends_on=["nope"])
        answer = command("submit", "--role", "dev", "--depends-on", "nope", "--json")
        told(answer, "depends_on", "'nope'", code=6, kind="refused")


@pytest.mark.parametrize(
    ("policy", "state", "reason"),
    [
        ("fail", "dead", "parent_failed"),
        ("skip", "cancelled", "parent_failed"),
        ("run", "pending", ""),
    ],
)
def test_a_parent_that_is_dead_already(
    producer: Balancer, known: Pool, policy: str, state: str, reason: str
) -> None:
    beat(known)
    submit(known, make_task("dead", max_failures=1))
    assign(known, "dead")
    assert complete(known, "dead", "failed") == "dead"
    child = producer.submit(role="dev", depends_on=["dead"], on_parent_failure=policy)
    status = producer.status(child)
    assert (status.state.value, status.reason) == (state, reason)


def test_a_cost_that_no_agent_may_carry(
    redis_server: EmbeddedRedis, pool: Pool, unchanged: Unchanged
) -> None:
    pool.client.hset(pool.keys.settings, "max_cost:dev", 2)
    with unchanged(), Balancer(redis_server.url, "p") as producer, pytest.raises(Refused) as error:
        producer.submit(role="dev", cost=3)
    assert "cost: above the role's max_cost of 2" in str(error.value)


# --- many at once ---


def test_no_tasks_at_all_are_none(
    producer: Balancer, command: Command, unchanged: Unchanged
) -> None:
    with unchanged():
        assert producer.submit_many([]) == []
        assert command("submit", "--file", "-").err == "no tasks\n"


def test_more_lines_than_a_file_may_hold(
    command: Command, pool: Pool, unchanged: Unchanged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balancer.cli.intake.MAX_TASKS", 3)
    with unchanged():
        answer = command("submit", "--file", "-", "--json", stdin=b'{"role": "dev"}\n' * 4)
    told(answer, "stdin: more than 3 tasks; split it")


def test_a_cycle_within_a_call(producer: Balancer, command: Command, unchanged: Unchanged) -> None:
    ring = [
        {"id": "a", "role": "dev", "depends_on": ["b"]},
        {"id": "b", "role": "dev", "depends_on": ["a"]},
    ]
    lines = "\n".join(map(json.dumps, ring)).encode()
    with unchanged():
        with pytest.raises(InvalidInput, match=r"depends_on: a cycle: [ab] -> [ab] -> [ab]"):
            producer.submit_many(ring)
        told(command("submit", "--file", "-", "--json", stdin=lines), "depends_on: a cycle: ")


def test_every_error_is_one_of_ours() -> None:
    assert all(issubclass(kind, BalancerError) for kind in (InvalidInput, Conflict, Refused))
