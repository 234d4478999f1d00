"""Building blocks of the tests: tasks, agents, the calls of a task's life, a pool's whole state as plain data."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from balancer.core.errors import BadArgument, SafeStop, SchemaMismatch
from balancer.core.lanes import Lane, lane_definition, read_lane
from balancer.core.model import Task
from balancer.core.planner import Planner, Proposal
from balancer.ledger import Pool
from balancer.ledger import beat as beats
from balancer.ledger import commit as commits
from balancer.ledger import settle as settles
from balancer.ledger import submit as submits
from balancer.ledger.backoff import WHOLE
from balancer.ledger.event import Event
from balancer.ledger.exchange import Arg
from balancer.ledger.script import SCHEMA, Script
from balancer.ledger.view import Viewer
from balancer.protocol import Completion, Heartbeat, Status, TextRedis

#: The time at which a virtual pool's clock starts, microseconds.
NOW_US = 1_760_000_000_000_000
NOW_MS = NOW_US // 1000
#: Stands in `changes` where a field, a member or a key was removed.
GONE = "gone"
#: Facts that are learned, in the form of `changes`.
RENEWED = re.compile(r"task:\S+ e")
LEARNED = re.compile(r"(est|est_old) |agent:\S+ (pace|learned)|role:\S+ service_")

_numbers = itertools.count(1)
State = dict[str, Any]


class Clock:
    """The clock of a virtual pool."""

    def __init__(self, now_us: int = NOW_US) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us

    def advance(self, seconds: float) -> None:
        self.now_us += round(seconds * 1_000_000)


def nonce(of: object) -> str:
    """A nonce or boot id that is the same for the same argument."""
    return hashlib.md5(str(of).encode(), usedforsecurity=False).hexdigest()


def boot_of(agent: str, number: int = 1) -> str:
    return nonce(f"{agent} boot {number}")


# --- a task's life, one call each ---


def later(seconds: float) -> datetime:
    """A time so long after a virtual clock's start."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=NOW_US, seconds=seconds)


def make_task(id: str = "t1", role: str = "dev", **facts: Any) -> Task:
    return Task(id=id, role=role, **facts)


def submit(pool: Pool, *tasks: Task | str) -> list[str]:
    """Outcomes of submitting tasks; a bare id stands for a task with nothing special."""
    items = [make_task(task) if isinstance(task, str) else task for task in tasks]
    return [answer.outcome.value for answer in submits.submit(pool, items)]


def heartbeat(agent: str = "a1", boot: int = 1, **facts: Any) -> Heartbeat:
    """One unit, no specializations, the next sequence number."""
    defaults = {"role": "dev", "max_concurrent": 1, "specializations": (), "seq": next(_numbers)}
    return Heartbeat(agent=agent, boot=boot_of(agent, boot), **(defaults | facts))


def beat_entry(pool: Pool, beat: Heartbeat) -> beats.BeatEntry:
    """The heartbeat as it stands in the stream. In a virtual pool the entry's id follows the pool's clock."""
    entry = pool.client.xadd(pool.keys.heartbeats, beat.fields(), id=_next_id(pool))
    return beats.BeatEntry(entry, beat)


def beat(
    pool: Pool, agent: str = "a1", boot: int = 1, *, caught_up: bool = True, **facts: Any
) -> str:
    """Outcome of one heartbeat, sent and applied."""
    entry = beat_entry(pool, heartbeat(agent, boot, **facts))
    return beats.beat(pool, [entry], caught_up=caught_up)[0].value


def _next_id(pool: Pool) -> str:
    if pool.clock is None:
        return "*"
    info = pool.client.xinfo_stream(pool.keys.heartbeats)
    ms, number = (int(part) for part in info["last-generated-id"].split("-"))
    now_ms = pool.clock() // 1000
    return f"{now_ms}-0" if now_ms > ms else f"{ms}-{number + 1}"


def proposal(task: str = "t1", agent: str = "a1", lease: object = None, **changes: Any) -> Proposal:
    key = nonce(f"lease {next(_numbers)}" if lease is None else lease)
    wish = Proposal(task, agent, key, 1, 60.0, {"load": 1.0}, "best_match")
    return wish._replace(**changes)


def commit(pool: Pool, *proposals: Proposal) -> list[str]:
    return [answer.outcome.value for answer in commits.commit(pool, proposals)]


def assign(pool: Pool, task: str = "t1", agent: str = "a1", lease: object = None) -> str:
    """Assign this task to this agent; the lease's nonce."""
    wish = proposal(task, agent, lease)
    assert commit(pool, wish) == ["assigned"]
    return wish.nonce


def plan(pool: Pool, **kwargs: int) -> list[Proposal]:
    return Planner(pool.settings).plan(Viewer(pool).view(), **kwargs)


def drain(pool: Pool) -> dict[str, str]:
    """One pass of view, plan and commit; which task went to which agent."""
    wishes = plan(pool)
    outcomes = commit(pool, *wishes)
    pairs = zip(wishes, outcomes, strict=True)
    return {wish.task: wish.agent for wish, outcome in pairs if outcome == "assigned"}


def completion_entry(
    pool: Pool, task: str = "t1", status: str = "completed", **facts: Any
) -> settles.CompletionEntry:
    """What the agent that holds the task says, as it stands in the stream; `facts` differ from the truth."""
    known = pool.client.hgetall(pool.keys.task(task))
    said = {"agent": known.get("agent", "a1"), "attempt": int(known.get("attempt", 1))}
    said |= {"lease": known.get("nonce", nonce("none")), "duration_ms": 1500} | facts
    done = Completion(task=task, status=Status(status), **said)
    return settles.CompletionEntry(pool.client.xadd(pool.keys.completions, done.fields()), done)


def settle(pool: Pool, *entries: settles.CompletionEntry) -> list[str]:
    """Outcomes; failed tries wait all of their back-off."""
    return [outcome.value for outcome in settles.settle(pool, entries, draw=WHOLE).outcomes]


def complete(pool: Pool, task: str = "t1", status: str = "completed", **facts: Any) -> str:
    """Outcome of one completion, sent and settled."""
    return settle(pool, completion_entry(pool, task, status, **facts))[0]


def populate(pool: Pool) -> None:
    """Something in every state: two agents of two units, and seven tasks named after where they are."""
    names = ["pending", "assigned", "failed", "completed", "cancelled"]
    submit(
        pool,
        *names,
        make_task("dead", max_failures=1),
        make_task("blocked", depends_on=("pending",)),
    )
    beat(pool, "a1", max_concurrent=2, start=True)
    beat(pool, "a2", max_concurrent=2, start=True)
    for task, status in (("completed", "completed"), ("failed", "failed"), ("dead", "failed")):
        assign(pool, task, "a1")
        complete(pool, task, status)
    pool.run(Script("cancel"), ["no longer needed", "cancelled"])
    assign(pool, "assigned", "a2")


# --- the whole state ---


def connections(client: TextRedis) -> set[str]:
    """The ids of all that are connected to the server."""
    return {row["id"] for row in client.client_list()}


#: Every key: {name, type, what it holds, consumer groups of a stream}. One call, as tests ask it thousands of times.
READ_ALL = """
local READ = {
  string = { 'GET' }, hash = { 'HGETALL' }, set = { 'SMEMBERS' }, list = { 'LRANGE', 0, -1 },
  zset = { 'ZRANGE', 0, -1, 'WITHSCORES' }, stream = { 'XRANGE', '-', '+' },
}
local out = {}
for i, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  local command, first, last, how = unpack(READ[kind])
  local read = { command, key, first, last, how }
  out[i] = { key, kind, redis.call(unpack(read)), kind == 'stream' and redis.call('XINFO', 'GROUPS', key) or {} }
end
return out
"""


def dump(client: TextRedis) -> State:
    """Every key with all it holds, in one round trip. Scores are int where they are whole."""
    return typed_dump(client)[0]


def typed_dump(client: TextRedis) -> tuple[State, dict[str, str]]:
    """The same, and the type of every key."""
    out, kinds = {}, {}
    for key, kind, value, groups in sorted(client.eval(READ_ALL, 0)):
        kinds[key], out[key] = kind, plain(kind, value)
        if kind == "stream":
            found = [dict(_pairs(group)) for group in groups]
            out[key]["groups"] = {group["name"]: group["pending"] for group in found}
    return out, kinds


def plain(kind: str, value: Any) -> Any:
    """What a key of this type holds."""
    match kind:
        case "hash":
            return dict(_pairs(value))
        case "zset":
            return {name: _whole(float(score)) for name, score in _pairs(value)}
        case "stream":
            return {entry: dict(_pairs(fields)) for entry, fields in value}
        case "set":
            return set(value)
    return value


def _pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _whole(score: float) -> float:
    return int(score) if score.is_integer() else score


def _flat(state: State) -> State:
    """One line a fact: `key` or `key field` (without the pool's prefix) to value."""
    out: State = {}
    for key, value in state.items():
        name = key.partition("}:")[2]
        if isinstance(value, dict):
            out |= {f"{name} {field}": inner for field, inner in value.items()}
        elif isinstance(value, set):
            out |= {f"{name} {member}": True for member in value}
        else:
            out[name] = value
    return out


class Changes:
    """What a block of calls changed: `state`; apart from it `events`, and in `learned` what was
    learned of work and agents.
    """

    def __init__(self) -> None:
        self.state: State = {}
        self.learned: State = {}
        self.events: list[tuple[str, ...]] = []

    @property
    def nothing(self) -> bool:
        return not self.state and not self.learned and not self.events


@contextmanager
def changes(pool: Pool) -> Iterator[Changes]:
    """Record what the block changes, in the form `key field` -> new value, or GONE."""
    out, before = Changes(), _flat(dump(pool.client))
    yield out
    after = _flat(dump(pool.client))
    for name in before.keys() | after.keys():
        if before.get(name, GONE) != after.get(name, GONE):
            out.state[name] = after.get(name, GONE)
    new = sorted((n for n in out.state if n.startswith("events ")), key=_entry_order)
    for name in new:
        fields = out.state.pop(name)
        if fields != GONE and name != "events groups":
            out.events += Event.read(fields)
    out.state.pop("events groups", None)
    renewed = {name for name in before if RENEWED.fullmatch(name)}
    learned = [name for name in out.state if LEARNED.match(name) or name in renewed]
    out.learned = {name: out.state.pop(name) for name in learned if name in after}


def _entry_order(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", name))


def fields(key: str, **values: Any) -> State:
    """Expected changes of one key."""
    return {f"{key} {name}": value for name, value in values.items()}


def tried(*agents: str, of: Lane = Lane("dev", "general", 1)) -> State:  # noqa: B008
    """What changes when t1 fails on the last of these agents, after the others. Nobody shares its lane."""
    before, _ = lane_definition(of._replace(tried=agents[:-1]))
    after, definition = lane_definition(of._replace(tried=tuple(sorted(agents))))
    return {
        "task:t1 lane": after,
        f"lanedef {before}": GONE,
        f"laneref {before}": GONE,
        f"lanedef {after}": definition,
        f"laneref {after}": "1",
    }


def entries(pool: Pool, stream: str) -> list[tuple[str, dict[str, str]]]:
    return [(entry, dict(content)) for entry, content in pool.client.xrange(stream)]


def assert_guarded(pool: Pool, script: Script, args: Sequence[Arg]) -> None:
    """The call is refused, and writes nothing, on a pool that is gone, another one, newer, or with a bad time."""
    client, meta = pool.client, pool.client.hgetall(pool.keys.meta)

    def refuses(error: type[Exception], change: Callable[[], object], now: object = None) -> None:
        change()
        before = dump(client)
        head: list[Any] = pool.head()
        if now is not None:
            head[2] = now
        stranger = Pool(client, pool.name, pool.genesis, pool.settings, pool.clock)
        stranger.head = lambda: head  # type: ignore[method-assign]
        with pytest.raises(error):
            stranger.run(script, args)
        assert dump(client) == before
        client.delete(pool.keys.meta)
        client.hset(pool.keys.meta, mapping=meta)

    refuses(SafeStop, lambda: client.delete(pool.keys.meta))
    refuses(SafeStop, lambda: client.hset(pool.keys.meta, "genesis", nonce("another")))
    refuses(SchemaMismatch, lambda: client.hset(pool.keys.meta, "min_reader", SCHEMA + 1))
    refuses(SchemaMismatch, lambda: client.hset(pool.keys.meta, "schema", SCHEMA - 1))
    wrong = ["", "nan", "NaN", "0x10", "-1", "1e3", "1.5", str(2**53)] if pool.clock else ["5"]
    for now in wrong:
        refuses(BadArgument, lambda: None, now)


def assert_bad_argument(pool: Pool, script: Script, args: Sequence[Any]) -> None:
    """The call is refused as a fault of the caller, and writes nothing."""
    before = dump(pool.client)
    with pytest.raises(BadArgument):
        pool.run(script, args)
    assert dump(pool.client) == before


# --- what must hold between the keys, computed here a second time from the dump alone ---


def structure_violations(state: State, prefix: str) -> list[str]:
    """Sentences about indexes and counts that do not follow from the tasks and agents of one pool."""
    own = {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
    tasks = _named(own, "task:")
    agents = _named(own, "agent:")
    expected: dict[str, Any] = {}

    def zadd(key: str, member: str, score: int) -> None:
        expected.setdefault(key, {})[member] = score

    for id_, task in tasks.items():
        state_, lane = task["state"], task["lane"]
        if state_ == "pending":
            zadd(f"pending:{task['role']}", id_, int(task["ready_us"]))
            zadd(f"lane:{lane}", id_, int(task["order_us"]))
            heads = expected.setdefault(f"lanes:{task['role']}", {})
            heads[lane] = min(heads.get(lane, 2**53), int(task["order_us"]))
        if state_ == "assigned":
            timeout_ms = int(task["d"].split("|")[2]) or _told_ms(own, task, id_)
            zadd("leases", id_, int(task["grant"].split("|")[0]) + 1000 * timeout_ms)
        if state_ == "blocked":
            zadd("blocked", id_, int(task["accepted_us"]))
        if state_ == "scheduled":
            zadd("scheduled", id_, int(task["not_before_us"]))
    expected |= _option_indexes(tasks)
    open_ = [t for t in tasks.values() if t["state"] not in {"completed", "dead", "cancelled"}]
    expected["laneref"] = _texts(Counter(task["lane"] for task in open_))
    for id_, agent in agents.items():
        left = int(agent["max"]) - int(agent["used"])
        if agent["state"] == "live":
            zadd("alive", id_, int(agent["beat_ms"]))
            if agent["mode"] == "running" and not agent["admin"] and left > 0:
                rank = 1000 * int(agent["used"]) // int(agent["max"]) * 2**42
                zadd(f"free:{agent['class']}", id_, rank + int(agent["freed_us"]) // 1000)
                if "turn" in agent:
                    zadd(f"turn:{agent['class']}", id_, int(agent["turn"]))
                units = expected.setdefault(f"fc:{agent['role']}", {})
                units[agent["class"]] = units.get(agent["class"], 0) + left
    live = [agent for agent in agents.values() if agent["state"] == "live"]
    expected["classn"] = _texts(Counter(agent["class"] for agent in live))
    indexes = {"leases", "blocked", "scheduled", "expiry", "alive", "laneref", "classn"} | {
        key for key in own if re.match(r"(pending|lane|lanes|free|turn|fc|dedup):", key)
    }
    out = [
        f"{key} is {own.get(key, {})}, should be {expected.get(key, {})}"
        for key in sorted(indexes | expected.keys())
        if own.get(key, {}) != expected.get(key, {})
    ]
    for index, definitions in (("laneref", "lanedef"), ("classn", "classdef")):
        if own.get(index, {}).keys() != own.get(definitions, {}).keys():
            out.append(f"{definitions} does not define what {index} counts")
    out += [
        f"lanedef {lane} is not the name of {text}"
        for lane, text in own.get("lanedef", {}).items()
        if lane_definition(read_lane(text)) != (lane, text)
    ]
    if len(own.get("wake", [])) > 1:
        out.append("wake holds more than one token")
    return out + _text_violations(own) + _inbox_violations(own, tasks, agents)


def _told_ms(own: Mapping[str, Any], task: Mapping[str, str], id_: str) -> int:
    """The run timeout that was worked out at the grant, as the agent was told."""
    inbox = own[f"inbox:{task['agent']}"]
    (told,) = [entry for entry in inbox.values() if entry.get("lease") == task["nonce"]]
    assert told["task"] == id_
    return int(told["timeout_ms"])


def _option_indexes(tasks: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What the options of the tasks make of the keys `expiry` and `dedup:...`."""
    out: dict[str, Any] = {}
    for id_, task in tasks.items():
        _, expires_us, max_wait_ms, hash_ = task.get("o", "fail|0|0|").split("|")
        if hash_:
            out[f"dedup:{hash_}"] = id_
        moments = [int(expires_us)] if int(expires_us) else []
        if task["state"] == "pending" and int(max_wait_ms) and "attempt" not in task:
            moments.append(int(task["ready_us"]) + 1000 * int(max_wait_ms))
        if moments and task["state"] in {"scheduled", "blocked", "pending", "failed"}:
            out.setdefault("expiry", {})[id_] = min(moments)
    return out


def _named(own: Mapping[str, Any], kind: str) -> dict[str, dict[str, str]]:
    return {key.removeprefix(kind): value for key, value in own.items() if key.startswith(kind)}


def _texts(counts: Mapping[str, int]) -> dict[str, str]:
    return {name: str(number) for name, number in counts.items()}


def _text_violations(own: Mapping[str, Any]) -> list[str]:
    """Numbers that lost digits: 1.76e+15, 12.0, nan, or a score that is no whole number below 2^53."""
    out = []
    for key, value in own.items():
        if not isinstance(value, dict):
            continue
        for field, inner in value.items():
            if isinstance(inner, str) and re.fullmatch(
                r"-?\d+\.\d*|-?[\d.]+e[+-]?\d{1,3}|-?nan|-?inf", inner
            ):
                out.append(f"{key} {field} is {inner}")
            if isinstance(inner, float) or (isinstance(inner, int) and abs(inner) >= 2**53):
                out.append(f"{key} {field} has the score {inner}")
    return out


def _inbox_violations(
    own: Mapping[str, Any], tasks: Mapping[str, Any], agents: Mapping[str, Any]
) -> list[str]:
    """A held lease, its inbox entry and its task name each other."""
    out = []
    for id_ in agents:
        inbox = {e: f for e, f in own.get(f"inbox:{id_}", {}).items() if e != "groups"}
        told = {e for e, f in inbox.items() if f.get("kind") == "retire"}
        if told != set(agents[id_]["admin"].split("|")[2:]):
            out.append(f"inbox:{id_} says {told} of its retirement, not {agents[id_]['admin']}")
        pointed = set()
        for key, record in own.get(f"held:{id_}", {}).items():
            task_id, cost, attempt, entry, *flags = record.split(" ")
            pointed.add(entry)
            found, task = inbox.get(entry, {}), tasks[task_id]
            alone = "+alone" in task["lane"]
            said = [found.get(name) for name in ("task", "attempt", "lease", "kind")]
            if said != [task_id, attempt, key, None] or (found["cost"] != cost and not alone):
                out.append(f"held:{id_} {key}: its inbox entry says {found}")
            facts = [task.get(name) for name in ("agent", "nonce", "attempt")]
            if facts != [id_, key, attempt] or (task["cost"] != cost and not alone):
                out.append(f"held:{id_} {key}: its task says {facts} and cost {task['cost']}")
            most, n = int(agents[id_]["max"]), int(agents[id_]["n"])
            if alone and (n != 1 or int(cost) < max(most, int(task["cost"]))):
                out.append(
                    f"held:{id_} {key}: it must be alone, and is one of {n} with {cost} units"
                )
            for wish in (flag[7:] for flag in flags if flag.startswith("cancel=")):
                pointed.add(wish)
                said = [
                    inbox.get(wish, {}).get(name) for name in ("kind", "task", "attempt", "lease")
                ]
                if said != ["cancel", task_id, attempt, key]:
                    out.append(f"held:{id_} {key}: the entry of its cancel says {said}")
        if pointed != inbox.keys() - told:
            out.append(f"inbox:{id_} holds other entries than the open leases and their cancels")
    return out
