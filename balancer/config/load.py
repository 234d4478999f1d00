"""One loader for every command: a flag wins over the environment, that over the file, that over the default."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from balancer.config import sources
from balancer.config.judge import judged
from balancer.config.keys import Path, file_path, key_at, named_tables, own_path
from balancer.config.model import Process
from balancer.config.origin import RANKS, Origin, of
from balancer.config.sources import NOTHING, Flag, Problem
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
            or (path[0] == "pool" and path[1:2] not in (("name",), ("genesis",)))
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
    problems: list[Problem] = []
    unread = ""
    try:
        tree, origins, path = _from_file(file, environment, problems)
    except Misconfigured as error:
        unread, tree, origins, path = str(error), {}, {}, None
    for key, origin, value, rule in sources.from_environment(environment):
        if rule is not None:
            problems.append(Problem(key.name, value, rule, origin))
        else:
            _put(tree, origins, key.path, value, origin)
    for flag in flags:
        if flag.value is not None:
            _put(tree, origins, flag.path, flag.value, Origin("flag", flag.option))
    _one_address(tree, origins, problems)
    for at, value in list(sources.leaves(tree)):
        if rule := sources.unfit(value):
            problems.append(Problem(".".join(at), value, rule, of(origins, at)))
            _drop(tree, at)
    ours = {name: tree.pop(name) for name in list(tree) if name in Process.model_fields}
    given, settings = ours.get("pool", {}), tree
    for name in list(given):
        if name not in ("name", "genesis"):
            settings[name] = given.pop(name)
    process = judged(Process, ours, own_path, origins, problems)
    chosen = judged(PoolSettings, settings, file_path, origins, problems)
    url = _address(process, origins, problems) if process else ""
    if problems or unread:
        text = "\n".join([*filter(None, [unread]), *map(str, problems)])
        typed = not unread and all(
            problem.origin.kind == "flag" and not problem.key.startswith("redis.")
            for problem in problems
        )
        raise InvalidInput(text) if typed else Misconfigured(text)
    assert process is not None
    assert chosen is not None  # or there was a problem
    unknown = tuple(sources.unknown_variables(environment))
    return Loaded(process, chosen, url, path, origins, unknown)


def _from_file(
    file: str | None, environment: Mapping[str, str], problems: list[Problem]
) -> tuple[dict[str, Any], dict[Path, Origin], File | None]:
    path, named_by = sources.find_file(file, environment)
    if path is None:
        return {}, {}, None
    path = path.absolute()
    raw, is_open = sources.read_file(path, named_by)
    origin = Origin("file", str(path))
    tree: dict[str, Any] = {}
    for name, value in raw.items():
        if name not in TABLES:
            problems.append(Problem(name, NOTHING, _unknown_table(name, value), origin))
        elif not isinstance(value, dict):
            problems.append(Problem(name, value, f"is not a table; write [{name}]", origin))
        else:
            tree[name] = value
    url = tree.get("redis", {}).get("url")
    if is_open and isinstance(url, str) and url != without_secrets(url):
        rule = (
            "holds a password, and every user of this machine can read the file;"
            " chmod 600 (or 640) it, or use redis.url_file"
        )
        problems.append(Problem("redis.url", url, rule, origin))
    said = (at for at, value in sources.leaves(tree) if value != {} or at[0] in named_tables())
    return tree, dict.fromkeys(said, origin), path


def _unknown_table(name: str, value: object) -> str:
    import difflib

    what = "table" if isinstance(value, dict) else "key"
    if what == "key" and key_at(("pool", name)):
        return f"unknown key, did you mean 'pool.{name}'? It belongs below [pool]"
    near = difflib.get_close_matches(name, TABLES, 1)
    return f"unknown {what}" + (f", did you mean [{near[0]}]?" if near else "")


def _put(
    tree: dict[str, Any], origins: dict[Path, Origin], path: Path, value: Any, origin: Origin
) -> None:
    node = tree
    for part in path[:-1]:
        inner = node.get(part)
        if not isinstance(inner, dict):
            inner = node[part] = {}
        node = inner
    node[path[-1]] = value
    origins[path] = origin


def _drop(tree: dict[str, Any], path: Path) -> None:
    node = tree
    for part in path[:-1]:
        node = node[part]
    del node[path[-1]]


def _one_address(
    tree: dict[str, Any], origins: dict[Path, Origin], problems: list[Problem]
) -> None:
    """`url` and `url_file` are two ways to say one thing: the stronger source has it."""
    if URL not in origins or URL_FILE not in origins:
        return
    ranks = {path: RANKS.index(origins[path].kind) for path in (URL, URL_FILE)}
    if ranks[URL] == ranks[URL_FILE]:
        rule = "is given together with redis.url; give one of them"
        problems.append(
            Problem("redis.url_file", tree["redis"]["url_file"], rule, origins[URL_FILE])
        )
    weaker = min(URL_FILE, URL, key=lambda path: ranks[path])
    del origins[weaker]
    _drop(tree, weaker)


def _address(process: Process, origins: Mapping[Path, Origin], problems: list[Problem]) -> str:
    """The address that counts, looked at without connecting."""
    from balancer.protocol.address import parse_address

    url, origin = process.redis.url, of(origins, URL)
    if process.redis.url_file is not None:
        origin = of(origins, URL_FILE)
        try:
            url = read_secret(process.redis.url_file, "redis.url_file")
        except Misconfigured as error:
            rule = str(error).removeprefix("redis.url_file: ")
            problems.append(Problem("redis.url_file", NOTHING, rule, origin))
            return ""
    try:
        parse_address(url)
    except Misconfigured as error:
        # Any part of it may be a password in the wrong place: it is not shown.
        rule = f"is no address of a Redis: {str(error).removeprefix('redis_url: ')}"
        problems.append(Problem("redis.url", NOTHING, rule, origin))
    return url
