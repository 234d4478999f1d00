"""Every number of every script, said wrong, straight to the script: what Python let through by mistake ends there.

In Lua `tonumber("nan")` is a number that nothing is larger than: as a capacity it would grant for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from redis.exceptions import ResponseError

from balancer.core.errors import BadArgument, SchemaMismatch
from balancer.core.names import new_nonce
from balancer.core.settings import PoolSettings
from balancer.ledger import Pool, role_set
from balancer.ledger import beat as beats
from balancer.ledger import commit as commits
from balancer.ledger import settle as settles
from balancer.ledger import submit as submits
from balancer.ledger import view as views
from balancer.ledger.agent_set import Verb, agent_set
from balancer.ledger.configure import configure
from balancer.ledger.exchange import Arg, Call, translated
from balancer.ledger.gc import gc
from balancer.ledger.pool import INIT
from balancer.ledger.reclaim import reclaim
from balancer.ledger.script import SCHEMA, Script, every_script
from balancer.ledger.tick import tick
from balancer.ledger.timeout import timeout
from balancer.protocol import Keys
from tests.bad_input.conftest import Unchanged
from tests.support.factories import (
    Clock,
    beat_entry,
    completion_entry,
    dump,
    heartbeat,
    later,
    make_task,
    populate,
    proposal,
)

#: No number here, however other readers of numbers take them.
NO_NUMBERS = (
    "nan",
    "NaN",
    "-nan",
    "inf",
    "-inf",
    "0x10",
    "1_000",
    "\uff11\uff12",
    "1e3",
    "1.5",
    "",
    " 1",
    "1 ",
    "1\n",
    "+1",
    "1" * 400,
)
HUGE = (str(2**53), str(10**16), str(10**30))


class Recorder(Pool):
    """Notes what its calls say."""

    def __init__(self, of: Pool) -> None:
        super().__init__(of.client, of.name, of.genesis, of.settings, of.clock)
        self.said: list[tuple[Script, list[Arg]]] = []

    def call(self, script: Script, args: Sequence[Arg] = ()) -> Call:
        self.said.append((script, list(args)))
        return super().call(script, args)


class Numbers(NamedTuple):
    """A good call of a script, where its numbers stand, and more values that those do not take."""

    call: Callable[[Recorder], object]
    at: dict[int, tuple[str, ...]]


def _submit(pool: Recorder) -> object:
    plain, asks = make_task("n1"), make_task("n2", max_wait_s=5, not_before=later(9))
    return submits.submit(pool, [plain, asks])


CALLS = {
    "agent_set": Numbers(lambda p: agent_set(p, "a1", Verb.RETIRE, 5.0), {2: ("-1", "2592000001")}),
    "beat": Numbers(
        lambda p: beats.beat(p, [beat_entry(p, heartbeat("a3"))], caught_up=True),
        {1: ("0", "101"), 6: ("-1",), 15: ("-1", "1001", "1000000000"), 17: ("-1", "1001")},
    ),
    "commit": Numbers(lambda p: commits.commit(p, [proposal("pending", "a1")]), {}),
    "configure": Numbers(
        lambda p: configure(p, PoolSettings(strategy="fit")),
        {0: ("0", "-1"), 5: ("-1", "1000000001"), 7: ("-1", "1000000001")},
    ),
    "gc": Numbers(gc, {0: ("-1",), 1: ("-1", "1000000001")}),
    "reclaim": Numbers(lambda p: reclaim(p, "a1"), {1: ("0", "-1", "101")}),
    "role_set": Numbers(lambda p: role_set.purge(p, "dev"), {3: ("-1",)}),
    "settle": Numbers(
        lambda p: settles.settle(p, [completion_entry(p, "assigned")]),
        {0: ("-1", "86400000001"), 1: ("-1", "86400000001"), 2: ("-1", "1000001"), 3: ("-1", "2"), 12: ("-1",)},
    ),
    "submit": Numbers(
        _submit,
        {0: ("0", "-1", "201"), 4: ("0", "-1", "1001"), 6: ("0", "-1", "1000000000001"), 8: ("0", "-1", "2"),
            13: ("-1", "1001", "9")},
    ),
    "tick": Numbers(
        tick,
        {0: ("-1",), 1: ("-1",), 2: ("999",), 3: ("999",), 4: ("-1",), 5: ("-1",), 6: ("0", "1001")},
    ),
    "timeout": Numbers(timeout, {0: ("-1",), 1: ("-1",), 2: ("1000001",), 3: ("-1", "86400001")}),
    "view": Numbers(
        lambda p: views.Viewer(p).view(),
        {0: ("-1", "1001"), 1: ("0", "129", "1000000000"), 3: ("0", "60001"), 4: ("-1", str(2**48))},
    ),
}  # fmt: skip
#: Scripts whose arguments hold no number.
WITHOUT = {
    "audit",
    "audit_agents",
    "audit_tasks",
    "cancel",
    "due",
    "expire",
    "recount",
    "release",
    "reprioritise",
    "rescore",
    "retire",
    "retry",
    "unlock",
}


def test_every_script_is_here() -> None:
    assert CALLS.keys() | WITHOUT | {"init"} == {script.name for script in every_script()}


@pytest.fixture
def populated(virtual_pool: Pool) -> Pool:
    populate(virtual_pool)
    return virtual_pool


def recorded(pool: Pool, name: str) -> tuple[Script, list[Arg]]:
    """A good call of the script, as its wrapper makes it; its effect is taken as it comes."""
    recorder = Recorder(pool)
    CALLS[name].call(recorder)
    return next(said for said in recorder.said if said[0].name == name)


def refused(pool: Pool, script: Script, args: list[Arg], at: int, value: object) -> None:
    with pytest.raises(BadArgument) as error:
        pool.run(script, [*args[:at], value, *args[at + 1 :]])  # type: ignore[list-item]
    assert "traceback" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in CALLS if CALLS[name].at])
def test_a_number_in_no_form_but_digits(populated: Pool, unchanged: Unchanged, name: str) -> None:
    script, args = recorded(populated, name)
    with unchanged():
        for at, bounds in CALLS[name].at.items():
            assert str(args[at]).lstrip("-").isdigit(), f"argument {at} is {args[at]!r}"
            for value in (*NO_NUMBERS, *HUGE, *bounds):
                refused(populated, script, args, at, value)


#: A packed argument of a script: where it stands, and what it may not be.
PACKED = {
    "beat": (9, ["nan|5000|", "15000|nan|", "1e9|5000|", "0x10|5000|",
        "604800001|5000|", "-1|5000|", "15000", "", "\uff11|1|"]),
    "commit": (4, ["nan|best_match", "1e3|best_match", "-1|best_match",
        "0x10|best_match", f"{2**53}|best_match",
        "|best_match", "60000", "60000|a b", "60000|'..x..'"]),
    "submit": (9, ["medium|nan|1000|ab", "medium|3|1e3|ab", "medium|3|0x1|ab",
        "medium|3|inf|ab", f"medium|{'9' * 30}|1000|ab", f"medium|3|{'9' * 30}|ab",
        "medium|101|1000|ab", "urgent|3|1000|ab", "medium|3|1000|0|ab",
        "medium|3|2592000001|ab", "medium|3|1000|", "medium|3|1000|x y", "", "|||ab"]),
}  # fmt: skip


@pytest.mark.parametrize("name", PACKED)
def test_a_number_within_a_packed_argument(
    populated: Pool, unchanged: Unchanged, name: str
) -> None:
    script, args = recorded(populated, name)
    at, values = PACKED[name]
    assert "|" in str(args[at])
    with unchanged():
        for value in values:
            refused(populated, script, args, at, value)


def test_a_number_within_the_options_of_a_task(populated: Pool, unchanged: Unchanged) -> None:
    script, args = recorded(populated, "submit")
    at = next(at for at, arg in enumerate(args) if str(arg).startswith("fail|0|5000|"))
    with unchanged():
        for value in (
            "fail|nan|0||0", "fail|0|nan||0", "fail|0|0||nan", "fail|1e3|0||0", "fail|0|0x10||0",
            f"fail|{2**53}|0||0", f"fail|0|{'9' * 30}||0",
            f"fail|0|0||{2**53}", "fail|-1|0||0", "fail|0|0|{p}:meta|0", "fail|0|0|not hex|0",
            "|0|0||0", "fail|0|0|", "x",
        ):  # fmt: skip
            refused(populated, script, args, at, value)


def test_what_a_producer_says_of_the_effort(populated: Pool, unchanged: Unchanged) -> None:
    recorder = Recorder(populated)
    submits.submit(recorder, [make_task("n1", complexity=3, group="shop", prefer_agent="a1")])
    [(script, args)] = recorder.said
    at = next(at for at, arg in enumerate(args) if str(arg).endswith("|a1|600000"))
    with unchanged():
        for value in (
            "nan|m|||a1|600000", "0|m|||a1|600000", "1000000000001|m|||a1|600000", "1e3|m|||a1|600000",
            "60000|x|||a1|600000", "60000||||a1|600000", "60000|m|not hex||a1|600000",
            "60000|m|0123456789abc0123456789abc||a1|600000", "60000|m|||a b|600000",
            f"60000|m|||{'a' * 65}|600000", "60000|m|||{p}:meta|600000", "60000|m|||a1|nan",
            "60000|m|||a1|2592000001", "60000|m|||a1|", "60000|m|||a1", "60000", "|m|||a1|1",
        ):  # fmt: skip
            refused(populated, script, args, at, value)


@pytest.mark.parametrize("value", ["nan", "inf", "1e3", "0x3", "", "2.0", "\uff11"])
def test_the_version_of_the_caller(populated: Pool, unchanged: Unchanged, value: str) -> None:
    """Nothing compares with "nan": a pool of any version would be taken."""
    head = populated.head()
    head[1] = value
    populated.head = lambda: head  # type: ignore[method-assign]
    with unchanged(), pytest.raises(SchemaMismatch):
        populated.run(Script("tick"), [1, 1, 1_000, 1_000, 0, 0, 850])


@pytest.mark.parametrize("value", [*NO_NUMBERS, "-1", "1000000001", *HUGE])
@pytest.mark.parametrize("bound", ["max_cost", "max_pending", "max_cost:dev"])
def test_a_bound_of_a_new_pool(redis_client: Any, clock: Clock, bound: str, value: str) -> None:
    """With "nan" as its bound, a queue would never be full."""
    meta = Keys("new").meta
    head: list[Arg] = [new_nonce(), SCHEMA, "virtual", "{}", "load", "head_start|0|3|2|1|0"]
    before = dump(redis_client)
    with pytest.raises(ResponseError, match=f"BAD_ARG {bound}: ") as error:
        redis_client.eval(INIT.text, 1, meta, *head, "max_cost", 5, bound, value)
    assert isinstance(translated(error.value), BadArgument)
    assert dump(redis_client) == before


def test_no_grant_beyond_what_is_left_however_often_it_is_asked(populated: Pool) -> None:
    """A capacity that is no number does not become one: the agent keeps the units that it had."""
    script, args = recorded(populated, "beat")
    for value in NO_NUMBERS:
        refused(populated, script, args, 15, value)
    submits.submit(populated, [make_task(f"n{n}") for n in range(5)])
    outcomes = [
        answer.outcome.value
        for answer in commits.commit(populated, [proposal(f"n{n}", "a3") for n in range(5)])
    ]
    assert outcomes == ["assigned"] + ["full"] * 4


#: What would end a text, a key or a command, were it ever put into one unquoted.
HOSTILE = [
    "'..redis.call('FLUSHALL')..'",
    "]] redis.call('FLUSHALL') --",
    "{p}:meta",
    "a b\r\nFLUSHALL\r\n",
    "a\x00b",
    "%s%d",
    "*",
    ":",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_are_data(populated: Pool, text: str) -> None:
    """Whatever people and agents write is kept as it is, in its own key, and changes nothing else."""
    from balancer.ledger.cancel import cancel

    before = dump(populated.client)
    submits.submit(
        populated,
        [
            make_task(
                "n1",
                payload=text,
                description=text,
                dedup_key=text.replace("\x00", "").replace("\r\n", "") or "k",
            )
        ],
    )
    cancel(populated, ["n1"], text)
    entry = completion_entry(populated, "assigned", "failed", error=text, result="")
    assert settles.settle(populated, [entry]).outcomes == [settles.Outcome.RETRY]
    after = dump(populated.client)
    new = {key.partition("}:")[2].partition(":")[0] for key in after.keys() - before.keys()}
    assert new == {"task", "body", "dedup", "result", "hist"}
    assert populated.client.hget(populated.keys.task("n1"), "reason") == text
    assert {key for key in after if key.startswith("wb:{p}:meta")} == {"wb:{p}:meta"}
