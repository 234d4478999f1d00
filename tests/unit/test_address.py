"""Addresses: what each form says, what is refused and by which rule, and that no secret is ever shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from balancer.core.errors import Misconfigured
from balancer.protocol.address import Address, Node, Topology, parse_address
from balancer.protocol.connect import connect, connect_async

SECRET = "hunter2"


def said(url: str) -> dict[str, Any]:
    """What differs from an address that says nothing."""
    address = parse_address(url)
    return {
        name: value
        for name, value in vars(address).items()
        if value != Address.__dataclass_fields__[name].default and name != "topology"
    }


@pytest.mark.parametrize(
    ("url", "topology", "fields"),
    [
        ("redis://h", Topology.ONE, {"nodes": (Node("h", 6379),)}),
        ("REDIS://h:1/3", Topology.ONE, {"nodes": (Node("h", 1),), "db": 3}),
        ("redis://h/", Topology.ONE, {"nodes": (Node("h", 6379),)}),
        ("redis://h?db=2", Topology.ONE, {"nodes": (Node("h", 6379),), "db": 2}),
        ("redis://[::1]:7", Topology.ONE, {"nodes": (Node("::1", 7),)}),
        ("redis://[fe80::2]/1", Topology.ONE, {"nodes": (Node("fe80::2", 6379),), "db": 1}),
        (
            "redis://u:p%40ss%2F@h",
            Topology.ONE,
            {"nodes": (Node("h", 6379),), "username": "u", "password": "p@ss/"},
        ),
        ("redis://:p:q@h", Topology.ONE, {"nodes": (Node("h", 6379),), "password": "p:q"}),
        ("redis://u@h", Topology.ONE, {"nodes": (Node("h", 6379),), "username": "u"}),
        (
            "redis://h?username=u&password=p%26",
            Topology.ONE,
            {"nodes": (Node("h", 6379),), "username": "u", "password": "p&"},
        ),
        (
            "redis://h?wait_replicas=1",
            Topology.ONE,
            {"nodes": (Node("h", 6379),), "wait_replicas": 1},
        ),
        (
            "rediss://h",
            Topology.ONE,
            {
                "nodes": (Node("h", 6379),),
                "tls": {
                    "ssl_cert_reqs": "required",
                    "ssl_check_hostname": True,
                    "ssl_password": "",
                },
            },
        ),
        (
            "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=no",
            Topology.ONE,
            {
                "nodes": (Node("h", 6379),),
                "tls": {"ssl_cert_reqs": "none", "ssl_check_hostname": False, "ssl_password": ""},
            },
        ),
        ("unix:///run/r.sock", Topology.UNIX, {"path": "/run/r.sock"}),
        ("unix:///a%20b@c?db=4", Topology.UNIX, {"path": "/a b@c", "db": 4}),
        ("unix://u:p@/r", Topology.UNIX, {"path": "/r", "username": "u", "password": "p"}),
        ("unix:///r?password=p", Topology.UNIX, {"path": "/r", "password": "p"}),
        (
            "redis+sentinel://u:p@a,b:1,[::1]:2/main/5?sentinel_username=s&sentinel_password=t",
            Topology.SENTINEL,
            {
                "nodes": (Node("a", 26379), Node("b", 1), Node("::1", 2)),
                "service": "main",
                "db": 5,
                "username": "u",
                "password": "p",
                "sentinel_username": "s",
                "sentinel_password": "t",
            },
        ),
        (
            "redis+sentinel://a/main",
            Topology.SENTINEL,
            {"nodes": (Node("a", 26379),), "service": "main"},
        ),
        (
            "redis+cluster://a,b:1",
            Topology.CLUSTER,
            {"nodes": (Node("a", 6379), Node("b", 1))},
        ),
        ("redis+cluster://a/0", Topology.CLUSTER, {"nodes": (Node("a", 6379),)}),
    ],
)
def test_an_address_says(url: str, topology: Topology, fields: dict[str, Any]) -> None:
    assert parse_address(url).topology is topology
    assert said(url) == fields


def test_files_of_tls(tmp_path: Path) -> None:
    there = tmp_path / "a b.pem"
    there.write_text("no certificate")
    url = f"rediss+cluster://h?ssl_ca_path={tmp_path}&ssl_password=x"
    assert parse_address(url).tls == {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_ca_path": str(tmp_path),
        "ssl_password": "x",
    }
    for options, rule in (
        ("ssl_ca_certs={}", "ssl_ca_certs: holds no certificates"),
        ("ssl_certfile={}", "ssl_certfile, ssl_keyfile: cannot be used"),
        ("ssl_keyfile={}", "ssl_keyfile: there is no ssl_certfile"),
    ):
        with pytest.raises(Misconfigured, match=rule):
            parse_address(f"rediss://h?{options.format(str(there).replace(' ', '%20'))}")


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("", "scheme must be one of"),
        ("h:6379", "scheme must be one of"),
        ("http://h", "scheme must be one of"),
        ("redis+other://h", "scheme must be one of"),
        ("unix+cluster:///r", "scheme must be one of"),
        (f"u:{SECRET}@h", "scheme must be one of"),
        ("redis://", "no host"),
        ("redis:///0", "no host"),
        (f"redis://:{SECRET}@", "no host"),
        (f"redis://u:p@{SECRET}@h", "written %40"),
        (f"redis://u:{SECRET}/x@h", "written %2F"),
        (f"redis://u:{SECRET}#x@h", "%23"),
        (f"redis://u:{SECRET}?x@h", "%3F"),
        (f"redis://u:{SECRET}", "a port is a whole number"),
        ("redis://h:0", "a port is a whole number"),
        ("redis://h:65536", "a port is a whole number"),
        ("redis://h:6_3", "a port is a whole number"),
        ("redis://h:\u0661", "a port is a whole number"),
        ("redis://h:", "a port is a whole number"),
        ("redis://::1", "IPv6 in brackets"),
        ("redis://[::1", "IPv6 in brackets"),
        ("redis://a b", "IPv6 in brackets"),
        ("redis://a..b", "looked up"),
        (f"redis://{'a' * 64}", "looked up"),
        ("redis://h\n", "control characters"),
        ("redis://\udcff", "no text"),
        (f"redis://u:%ff{SECRET}@h", "UTF-8"),
        ("redis://a,b", "several hosts"),
        ("redis+cluster://a,", "a host is a name"),
        ("redis+cluster://" + ",".join("abc" * 30), "more than 64"),
        ("redis+cluster://a/1", "database 0 only"),
        ("redis+cluster://a?db=0", "option 'db'"),
        ("redis+sentinel://a", "service is missing"),
        ("redis+sentinel://a/", "service is missing"),
        ("redis+sentinel://a/m/0/1", "more in its path"),
        (f"redis://h/{SECRET}", "the database is not a whole number"),
        ("redis://h/-1", "the database is not a whole number"),
        ("redis://h?db=x", "db is not a whole number"),
        ("redis://h?db=1&db=2", "db stands in it twice"),
        ("redis://h?colour=red", "option 'colour'"),
        (f"redis://h?{SECRET}=red", "there is an option that"),
        ("redis://h?wait_replicas=17", "wait_replicas is not a whole number from 0 to 16"),
        ("redis://h?sentinel_password=x", "option 'sentinel_password'"),
        ("redis://h?ssl_ca_certs=/x", "belongs to rediss"),
        ("rediss://h?ssl_ca_certs=/nowhere", "ssl_ca_certs: '/nowhere' cannot be read: No such"),
        ("rediss://h?ssl_ca_path=/nowhere", "ssl_ca_path: '/nowhere' is not a directory"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs: 'maybe' is none of required, none"),
        ("rediss://h?ssl_check_hostname=2", "ssl_check_hostname: '2' is none of"),
        ("unix://r.sock", "by its whole path"),
        ("unix://", "by its whole path"),
        ("unix:///r?ssl_ca_certs=/x", "belongs to rediss"),
    ],
)
def test_what_breaks_a_rule_is_refused_and_not_quoted(url: str, rule: str) -> None:
    for reader in (parse_address, connect, connect_async):
        with pytest.raises(Misconfigured, match=rule) as refused:
            reader(url)
        assert str(refused.value).startswith("redis_url: ")
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://u:{SECRET}@h/2", "redis://h:6379/2"),
        (f"rediss://u:{SECRET}@[::1]:5?ssl_password={SECRET}", "rediss://[::1]:5/0"),
        (f"unix://u:{SECRET}@/r?db=1", "unix:///r?db=1"),
        (
            f"rediss+sentinel://{SECRET}:{SECRET}@a,b/m?sentinel_password={SECRET}",
            "rediss+sentinel://a:26379,b:26379/m/0",
        ),
        (f"redis+cluster://:{SECRET}@a,b:1", "redis+cluster://a:6379,b:1"),
    ],
)
def test_no_secret_is_shown(url: str, shown: str) -> None:
    address = parse_address(url)
    assert str(address) == shown
    for client in (connect(url, pool="p"), connect_async(url, pool="p")):
        texts = (address, client, client.connection_pool, client.connection_pool.make_connection())
        assert all(SECRET not in repr(it) + str(it) for it in texts)


def test_a_cluster_needs_the_pool() -> None:
    with pytest.raises(Misconfigured, match="the name of a pool"):
        connect("redis+cluster://h")


def test_the_options_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
    section = page.partition("\n## The address of Redis\n")[2].partition("\n## ")[0]
    table = section.partition("| option |")[2]
    stated = {
        name
        for line in table.splitlines()[2:]
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split(" | ")[0])
    }
    with pytest.raises(Misconfigured) as raised:
        parse_address("rediss+sentinel://h/m?zz=1")
    assert stated == set(str(raised.value).partition("none of these: ")[2].split(", "))


def test_the_forms_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
    section = page.partition("\n## The address of Redis\n")[2].partition("| option |")[0]
    forms = re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)
    assert {parse_address(form).topology for form in forms} == set(Topology)
    for scheme in re.findall(r"`(\S+://)` over TLS", section):
        assert parse_address(f"{scheme}h/m" if "sentinel" in scheme else f"{scheme}h").tls
