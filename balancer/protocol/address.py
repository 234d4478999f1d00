"""What an address says: which servers, how they stand to each other, who asks, over TLS or not.

An error says the rule that was broken and never quotes the address: any part of it may be a
password in the wrong place.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple
from urllib.parse import unquote

from balancer.core.errors import Misconfigured

#: Ports where none is given.
REDIS_PORT, SENTINEL_PORT = 6379, 26379
#: Most servers in one address, and most replicas that a write can wait for.
MOST_NODES, MOST_REPLICAS = 64, 16

_FORMS = (
    "redis://host:6379/0, rediss:// (TLS), unix:///path, redis+sentinel://host,host/service/0 "
    "or redis+cluster://host,host"
)
_AUTHORITY = re.compile(r"([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?", re.DOTALL)
_HOST = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::(.*))?|([^:\[\]\s%]+)(?::(.*))?")


class Topology(Enum):
    """How the servers of an address stand to each other."""

    ONE = "redis"
    UNIX = "unix"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Node(NamedTuple):
    """One server."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Address:
    """A checked address. Its text and its repr hold no user name and no password."""

    topology: Topology
    nodes: tuple[Node, ...] = ()
    """The server; the Sentinels; some nodes of the Cluster."""
    path: str = ""
    service: str = ""
    db: int = 0
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    """None without TLS; else what the client has to know of it."""
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    wait_replicas: int = 0
    """How many replicas must have what was submitted before it counts as accepted."""

    def __str__(self) -> str:
        if self.topology is Topology.UNIX:
            return f"unix://{self.path}?db={self.db}"
        scheme = "redis" if self.tls is None else "rediss"
        if self.topology is not Topology.ONE:
            scheme += f"+{self.topology.value}"
        tail = "" if self.topology is Topology.CLUSTER else f"/{self.db}"
        if self.service:
            tail = f"/{self.service}{tail}"
        return f"{scheme}://{','.join(map(str, self.nodes))}{tail}"


def parse_address(url: str) -> Address:
    """Read an address.

    Raises:
        Misconfigured: names the rule that it breaks.
    """
    if not isinstance(url, str):
        raise _broken("it is not a text")
    scheme, found, rest = url.partition("://")
    base, _, shape = scheme.lower().partition("+")
    kinds = {"": Topology.ONE, "sentinel": Topology.SENTINEL, "cluster": Topology.CLUSTER}
    if not found or not (
        (base in ("redis", "rediss") and shape in kinds) or scheme.lower() == "unix"
    ):
        raise _broken(f"the scheme must be one of these: {_FORMS}")
    if not rest.isprintable():
        raise _broken("it holds control characters or bytes that are no text")
    if base == "unix":
        return _unix(rest)
    matched = _AUTHORITY.fullmatch(rest)
    assert matched
    authority, path, query, fragment = matched.groups()
    if fragment or "@" in path + (query or ""):
        raise _broken(
            "in a user name or password, / is written %2F, ? is %3F, # is %23 and @ is %40"
        )
    userinfo, _, hosts = authority.rpartition("@")
    if "@" in userinfo:
        raise _broken("there are two @ in it; in a user name or password @ is written %40")
    topology = kinds[shape]
    options = _options(query or "", topology, tls=base == "rediss")
    service, db = _path(path, topology)
    return Address(
        topology=topology,
        nodes=_nodes(hosts, topology),
        service=service,
        **({"db": db} if db is not None else {}) | _user(userinfo) | options,
    )


def _unix(rest: str) -> Address:
    before, _, query = rest.partition("?")
    userinfo, slash, path = before.partition("/")
    if not slash or (userinfo and not userinfo.endswith("@")):
        raise _broken("a unix socket is given by its whole path: unix:///run/redis.sock?db=0")
    options = _options(query, Topology.UNIX, tls=False)
    return Address(
        topology=Topology.UNIX, path=f"/{_decoded(path)}", **_user(userinfo[:-1]) | options
    )


def _user(userinfo: str) -> dict[str, Any]:
    """User and password; the empty user stands for the server's default one."""
    name, _, password = userinfo.partition(":")
    said = {"username": _decoded(name), "password": _decoded(password)}
    return {key: value for key, value in said.items() if value}


def _nodes(hosts: str, topology: Topology) -> tuple[Node, ...]:
    parts = hosts.split(",")
    if not hosts:
        raise _broken("there is no host in it")
    if topology is Topology.ONE and len(parts) > 1:
        raise _broken("several hosts are redis+sentinel:// or redis+cluster://")
    if len(parts) > MOST_NODES:
        raise _broken(f"there are more than {MOST_NODES} hosts in it")
    port = SENTINEL_PORT if topology is Topology.SENTINEL else REDIS_PORT
    return tuple(_node(part, port) for part in parts)


def _node(text: str, default_port: int) -> Node:
    matched = _HOST.fullmatch(text)
    if not matched:
        raise _broken(
            "a host is a name or an IP address, with a port or without (IPv6 in brackets)"
        )
    v6, v6_port, name, name_port = matched.groups()
    port = v6_port if v6 else name_port
    if port is None:
        number = default_port
    elif re.fullmatch("[0-9]{1,5}", port) and 1 <= int(port) <= 65_535:
        number = int(port)
    else:
        raise _broken(
            "a port is a whole number from 1 to 65535 (a password stands before an @: "
            "redis://user:password@host:port)"
        )
    host = v6 or name
    try:
        host.encode("idna")
    except UnicodeError:
        raise _broken("a host is not a name that can be looked up") from None
    return Node(host, number)


def _path(path: str, topology: Topology) -> tuple[str, int | None]:
    """Service and database."""
    parts = [_decoded(part) for part in path.strip("/").split("/")] if path.strip("/") else []
    service = ""
    if topology is Topology.SENTINEL:
        if not parts:
            raise _broken(
                "the name of the service is missing: redis+sentinel://host:26379/service/0"
            )
        service = parts.pop(0)
    if len(parts) > 1:
        raise _broken("there is more in its path than the number of a database")
    if not parts:
        return service, None
    db = _whole("the database", parts[0], 0, 1_000_000)
    if topology is Topology.CLUSTER and db:
        raise _broken("a Cluster has database 0 only")
    return service, db


def _options(query: str, topology: Topology, *, tls: bool) -> dict[str, Any]:
    """What stands behind the question mark."""
    secrets = ["username", "password"]
    if topology is Topology.SENTINEL:
        secrets += ["sentinel_username", "sentinel_password"]
    readers: dict[str, Callable[[str], Any]] = dict.fromkeys(secrets, str)
    readers["wait_replicas"] = lambda text: _whole("wait_replicas", text, 0, MOST_REPLICAS)
    if topology is not Topology.CLUSTER:
        readers["db"] = lambda text: _whole("db", text, 0, 1_000_000)
    found: dict[str, Any] = {}
    of_tls: dict[str, Any] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name in found or name in of_tls:
            raise _broken(f"the option {name} stands in it twice")
        if name in _TLS and tls:
            of_tls[name] = _TLS[name](name, _decoded(value))
        elif name in readers:
            found[name] = readers[name](_decoded(value))
        elif name in _TLS:
            raise _broken(f"the option {name} belongs to rediss://")
        else:
            known = ", ".join(sorted([*readers, *(_TLS if tls else ())]))
            said = f"{name!r} " if re.fullmatch("[a-z_]{1,32}", name) else ""
            raise _broken(f"there is an option {said}that is none of these: {known}")
    if tls:
        _check_files(of_tls)
        found["tls"] = _TLS_DEFAULTS | of_tls
    return found


def _check_files(of_tls: Mapping[str, Any]) -> None:
    """Load what the client will load: it would go on trying, and ask at the terminal for a passphrase."""
    if "ssl_keyfile" in of_tls and "ssl_certfile" not in of_tls:
        raise _broken("ssl_keyfile: there is no ssl_certfile that it belongs to")
    context = ssl.create_default_context()
    try:
        if "ssl_ca_certs" in of_tls:
            context.load_verify_locations(cafile=of_tls["ssl_ca_certs"])
    except ssl.SSLError as error:
        raise _broken(f"ssl_ca_certs: holds no certificates: {error.reason}") from None
    try:
        if "ssl_certfile" in of_tls:
            key, password = of_tls.get("ssl_keyfile"), of_tls.get("ssl_password", "")
            context.load_cert_chain(of_tls["ssl_certfile"], key, password)
    except ssl.SSLError as error:
        why = error.reason or "is the ssl_password right?"
        raise _broken(f"ssl_certfile, ssl_keyfile: cannot be used: {why}") from None


def _file(name: str, value: str) -> str:
    try:
        with open(value, "rb"):
            return value
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise _broken(f"{name}: {value!r} cannot be read: {why}") from None


def _directory(name: str, value: str) -> str:
    if not os.path.isdir(value):
        raise _broken(f"{name}: {value!r} is not a directory")
    return value


def _one_of(words: Mapping[str, Any]) -> Callable[[str, str], Any]:
    def read(name: str, value: str) -> Any:
        if value.lower() not in words:
            raise _broken(f"{name}: {value[:20]!r} is none of {', '.join(words)}")
        return words[value.lower()]

    return read


# The empty passphrase is for keys that need none.
_TLS_DEFAULTS = {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_password": ""}
_YES = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
_TLS: dict[str, Callable[[str, str], Any]] = {
    "ssl_ca_certs": _file,
    "ssl_ca_path": _directory,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_password": lambda _name, value: value,
    "ssl_cert_reqs": _one_of({"required": "required", "none": "none"}),
    "ssl_check_hostname": _one_of(_YES),
}


def _whole(name: str, text: str, low: int, high: int) -> int:
    if not re.fullmatch("[0-9]{1,7}", text) or not low <= int(text) <= high:
        raise _broken(f"{name} is not a whole number from {low} to {high}")
    return int(text)


def _decoded(text: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
        decoded.encode()
    except UnicodeError:
        raise _broken("something in it is not valid UTF-8") from None
    return decoded


def _broken(rule: str) -> Misconfigured:
    return Misconfigured(f"redis_url: {rule}")
