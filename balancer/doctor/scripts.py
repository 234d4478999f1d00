"""Whether this server takes our scripts, and whether this user may run what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from balancer.doctor import server
from balancer.doctor.finding import Finding, fail, ok, unknown
from balancer.doctor.visit import Visit
from balancer.ledger.audit import read_totals
from balancer.ledger.script import every_script

#: The first Redis that can be asked what a user may do.
DRY_RUN = (7, 0, 0)

_CALLED = re.compile(r"redis\.p?call\(\s*'([A-Z]+)'")
#: What the loops say beside the scripts.
_SAID = ("EVAL", "EVALSHA", "SCRIPT", "XREADGROUP", "XREAD", "XADD", "BLPOP", "SET", "TIME", "PTTL")


def scripts(visit: Visit) -> Iterator[Finding]:
    """Each script is loaded, which compiles it; one that only reads is run."""
    every = every_script()
    pipe = visit.client.pipeline(transaction=False)
    for script in every:
        pipe.script_load(script.text)
    answers = pipe.execute(raise_on_error=False)
    refused = [
        f"{script.name} ({answer})"
        for script, answer in zip(every, answers, strict=True)
        if isinstance(answer, Exception)
    ]
    if refused:
        yield fail(
            "scripts",
            f"{len(refused)} of {len(every)} are refused: {'; '.join(refused)[:300]}",
            "this user needs the right to EVAL, EVALSHA and SCRIPT LOAD; on another server than Redis, ask for Lua",
        )
        return
    shown = f"{len(every)} scripts compile"
    if visit.pool is not None:
        read_totals(visit.pool)
        shown += ", and one that reads has run"
    yield ok("scripts", shown)


def rights(visit: Visit) -> Iterator[Finding]:
    """What the scripts call, asked by ACL DRYRUN where there is that command. Redis checks the caller's rights."""
    user = visit.unless_refused(lambda: visit.client.execute_command("ACL WHOAMI"))
    denied = user and visit.unless_refused(lambda: _denied(visit, user))
    if denied is None:
        # An older server has no such command; running a script has shown what it can.
        if server.numbers(str(visit.info.get("redis_version", ""))) >= DRY_RUN:
            yield unknown("rights", "this user may not ask (ACL WHOAMI, ACL DRYRUN)")
        return
    if denied:
        yield fail(
            "rights",
            f"user {user} lacks: {', '.join(sorted(denied))}",
            f"ACL SETUSER {user} ~{visit.keys.prefix}* +@all -@admin -@dangerous, or what docs/operations.md lists",
        )
    else:
        yield ok("rights", f"user {user} may do all that the scripts do")


def _denied(visit: Visit, user: str) -> list[str]:
    """The commands that the user may not run on the pool's keys."""
    called = {word for script in every_script() for word in _CALLED.findall(script.text)}
    words = sorted(called | set(_SAID))
    pipe = visit.client.pipeline(transaction=False)
    for word, about in zip(
        words, visit.client.execute_command("COMMAND INFO", *words), strict=True
    ):
        arguments = _arguments(word, abs(int(about[1])) if about else 1, visit.keys.meta)
        pipe.execute_command("ACL DRYRUN", user, word, *arguments)
    answers = pipe.execute(raise_on_error=False)
    if "OK" not in answers:  # the command itself is refused, or not known here
        raise next(answer for answer in answers if isinstance(answer, Exception))
    return [word for word, answer in zip(words, answers, strict=True) if answer != "OK"]


def _arguments(word: str, arity: int, key: str) -> list[str]:
    """As many arguments as make it a call of the command on the key."""
    if word in _WHOLE:
        return [part.replace("KEY", key) for part in _WHOLE[word].split()]
    return [key, *["1"] * (arity - 2)] if arity > 1 else []


#: Calls whose key does not come first.
_WHOLE = {
    "EVAL": "x 1 KEY",
    "EVALSHA": "x 1 KEY",
    "XREAD": "STREAMS KEY 0",
    "XREADGROUP": "GROUP g c STREAMS KEY >",
    "XINFO": "STREAM KEY",
    "XGROUP": "CREATE KEY g 0",
    "SCRIPT": "LOAD x",
}
