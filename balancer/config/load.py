"""One loader for every command: a flag wins over the environment, that over the file, that over the default."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from balancer.config import sources
from balancer.config.judge import judged
from balancer.config.keys import Path, file_path, key_at, named_tables, own_path
from balancer.config.model import PoolPlace, Process
from balancer.config.origin import RANKS, Origin, of
from balancer.config.said import Said
from balancer.config.sources import NOTHING, Flag
from balancer.core.errors import InvalidInput, Misconfigured
from balancer.core.settings import PoolSettings
from balancer.log import without_secrets
from balancer.protocol.place import read_secret

#: The tables that a file may have, and the two keys of [pool] that are no setting.
TABLES = (*Process.model_fields, *named_tables())
URL, URL_FILE = ("redis", "url"), ("redis", "url_file")


@dataclass(frozen=True)
class Loaded:
    """What was said, checked and complete.

    `settings` is what a new pool is created with; `origins` names who gave each value, by path; what is not in it is
    a default. `unknown` are variables that begin like ours and are none.
    """

    process: Process
    settings: PoolSettings
    redis_url: str
    file: File | None
    origins: Mapping[Path, Origin]
    unknown: tuple[str, ...]

    @property
    def pool(self) -> str:
        """The name of the pool."""
        return self.process.pool.name

    @property
    def given_settings(self) -> PoolSettings | None:
        """The settings for a pool, when anybody gave one; None leaves the pool's as they are without a word."""
        is_given = any(
            path[0] in named_tables()
            or (path[0] == "pool" and path[1] not in PoolPlace.model_fields)
            for path in self.origins
        )
        return self.settings if is_given else None

    def origin(self, path: Path) -> Origin:
        """Who gave the value at a path, or the table that it stands in."""
        return of(self.origins, path)

    def rows(self) -> Iterator[tuple[str, Any, Origin]]:
        """Every effective value: key, value with passwords struck out, origin."""
        for model, place in ((self.process, own_path), (self.settings, file_path)):
            for path, value in sources.leaves(model.model_dump(mode="json")):
                at = place(path)
                if at == URL:  # also where it came from a file of its own
                    by_file = URL_FILE if self.process.redis.url_file else URL
                    yield "redis.url", without_secrets(self.redis_url), self.origin(by_file)
                else:
                    shown = without_secrets(value) if isinstance(value, str) else value
                    yield ".".join(at), shown, self.origin(at)


def load(
    file: str | None = None,
    flags: Iterable[Flag] = (),
    environment: Mapping[str, str] = os.environ,
) -> Loaded:
    """Read everything that was said.

    Args:
        file: what --config named; else $BALANCER_CONFIG, else `balancer.toml` in the current directory, if it is there.
        flags: what options said; those whose value is None said nothing.
        environment: of the process.

    Raises:
        InvalidInput: only options of the command line break a rule, and the address of Redis does not.
        Misconfigured: anything else does; one line for each broken rule.
    """
    said = Said()
    path = _read_file(said, file, environment)
    for key, origin, value in sources.from_environment(environment):
        if value is NOTHING:
            said.wrong(key.path, NOTHING, "is set but empty; give it a value or unset it", origin)
        else:
            said.put(key.path, value, origin)
    for flag in flags:
        if flag.value is not None:
            said.put(flag.path, flag.value, Origin("flag", flag.option))
    _choose_address(said)
    for at, value in list(sources.leaves(said.tree)):
        if rule := sources.unfit(value):
            said.wrong(at, value, rule)
            said.drop(at)
    process, settings = _judged(said)
    url = _address(process, said) if process else ""
    if text := said.text():
        is_typed = not said.unread and all(
            problem.origin.kind == "flag" and not problem.key.startswith("redis.")
            for problem in said.problems
        )
        raise InvalidInput(text) if is_typed else Misconfigured(text)
    assert process is not None
    assert settings is not None  # or there was something wrong
    unknown = tuple(sources.unknown_variables(environment))
    return Loaded(process, settings, url, path, said.origins, unknown)


def _read_file(said: Said, file: str | None, environment: Mapping[str, str]) -> File | None:
    """What the file says, without what cannot be a table of it."""
    try:
        found, named_by = sources.find_file(file, environment)
        if found is None:
            return None
        path = found.absolute()
        raw, is_open = sources.read_file(path, named_by)
    except Misconfigured as error:
        said.unread = str(error)
        return None
    origin = Origin("file", str(path))
    for name, value in raw.items():
        if name not in TABLES:
            rule = "" if said.is_full else _unknown_table(name, value)
            said.wrong((name,), NOTHING, rule, origin)
        elif not isinstance(value, dict):
            said.wrong((name,), value, f"is not a table; write [{name}]", origin)
        else:
            said.tree[name] = value
    for at, value in sources.leaves(said.tree):
        if value != {} or at[0] in named_tables():
            said.origins[at] = origin
    url = said.tree.get("redis", {}).get("url")
    if is_open and isinstance(url, str) and url != without_secrets(url):
        rule = (
            "holds a password, and every user of this machine can read the file;"
            " chmod 600 (or 640) it, or use redis.url_file"
        )
        said.wrong(URL, url, rule, origin)
    return path


def _unknown_table(name: str, value: object) -> str:
    what = "table" if isinstance(value, dict) else "key"
    if what == "key" and key_at(("pool", name)):
        return f"unknown key, did you mean 'pool.{name}'? It belongs below [pool]"
    near = difflib.get_close_matches(name, TABLES, 1)
    return f"unknown {what}" + (f", did you mean [{near[0]}]?" if near else "")


def _judged(said: Said) -> tuple[Process | None, PoolSettings | None]:
    """The tree as models. [pool] has keys of both."""
    settings = said.tree
    own = {name: settings.pop(name) for name in list(settings) if name in Process.model_fields}
    given = own.get("pool", {})
    for name in list(given):
        if name not in PoolPlace.model_fields:
            settings[name] = given.pop(name)
    return judged(Process, own, own_path, said), judged(PoolSettings, settings, file_path, said)


def _choose_address(said: Said) -> None:
    """`url` and `url_file` are two ways to say one thing: the stronger source has it."""
    if URL not in said.origins or URL_FILE not in said.origins:
        return
    ranks = {path: RANKS.index(said.origins[path].kind) for path in (URL, URL_FILE)}
    if ranks[URL] == ranks[URL_FILE]:
        rule = "is given together with redis.url; give one of them"
        said.wrong(URL_FILE, said.tree["redis"]["url_file"], rule)
    weaker = min(URL_FILE, URL, key=lambda path: ranks[path])
    del said.origins[weaker]
    said.drop(weaker)


def _address(process: Process, said: Said) -> str:
    """The address that counts, looked at without connecting."""
    from balancer.protocol.address import parse_address

    url, path = process.redis.url, URL
    if process.redis.url_file is not None:
        path = URL_FILE
        try:
            url = read_secret(process.redis.url_file, "redis.url_file")
        except Misconfigured as error:
            said.wrong(URL_FILE, NOTHING, str(error).removeprefix("redis.url_file: "))
            return ""
    try:
        parse_address(url)
    except Misconfigured as error:
        # Any part of it may be a password in the wrong place: it is not shown.
        rule = f"is no address of a Redis: {str(error).removeprefix('redis_url: ')}"
        said.wrong(URL, NOTHING, rule, of(said.origins, path))
    return url
