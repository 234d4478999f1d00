"""A pool over TLS: a real server, certificates that are verified, and what is said when they are not good enough."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from balancer import AsyncBalancer, Balancer, Misconfigured, Unavailable
from balancer.embedded import EmbeddedRedis, ServerFailed, find_server
from balancer.embedded.place import free_port
from balancer.ledger import Pool
from balancer.protocol import connect
from tests.ha.fleet import fleet
from tests.tls.authority import PASSPHRASE, Authority

POOL = "p"
_PLACES = ("redis-server", "valkey-server", "/usr/bin/redis-server", "/usr/local/bin/redis-server")


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with TemporaryDirectory() as directory:
        yield Authority(Path(directory))


@contextmanager
def tls_server(authority: Authority, clients: str) -> Iterator[tuple[EmbeddedRedis, int]]:
    """A server with TLS on a port, and for its administrator a unix socket; it has the pool."""
    port, files = free_port(), authority.directory
    config = {
        "tls-port": str(port),
        "tls-cert-file": f"{files}/server.crt",
        "tls-key-file": f"{files}/server.key",
        "tls-ca-cert-file": f"{files}/ca.crt",
        "tls-auth-clients": clients,
    }
    found = [find_server(), *(Path(path) for name in _PLACES if (path := shutil.which(name)))]
    said = []
    for binary in dict.fromkeys(path for path in found if path):
        try:
            server = EmbeddedRedis(config=config, binary=binary)
        except ServerFailed as error:
            said.append(str(error).splitlines()[-1])
            continue
        with server:
            with connect(server.url) as client:
                Pool.create(client, POOL)
            yield server, port
        return
    pytest.fail(
        "no redis-server with TLS (Debian's has it: apt install redis-server): " + "; ".join(said),
        pytrace=False,
    )


@pytest.fixture(scope="module")
def port(authority: Authority) -> Iterator[int]:
    """Of a server that shows its certificate and asks for none."""
    with tls_server(authority, "no") as (_, port):
        yield port


@pytest.fixture(scope="module")
def strict_port(authority: Authority) -> Iterator[int]:
    """Of a server that wants to see certificates."""
    with tls_server(authority, "yes") as (_, port):
        yield port


def submit(url: str, how: str) -> str:
    """One task, with a producer of its own."""
    if how == "blocking":
        with Balancer(url, POOL, deadline_s=1) as producer:
            return producer.submit(role="none")

    async def main() -> str:
        async with AsyncBalancer(url, POOL, deadline_s=1) as producer:
            return await producer.submit(role="none")

    return asyncio.run(main())


both = pytest.mark.parametrize("how", ["blocking", "asyncio"])


def test_a_fleet_works_over_tls(authority: Authority, port: int) -> None:
    with fleet(f"rediss://localhost:{port}/0?ssl_ca_certs={authority.ca}", POOL) as running:
        running.begin()
        running.more(20)
        running.end()
    assert set(running.runs) == set(running.accepted)


@both
@pytest.mark.parametrize("more", ["ssl_cert_reqs=none", "ssl_ca_certs={ca}&ssl_check_hostname=no"])
def test_who_says_so_is_not_held_to_it(
    authority: Authority, port: int, how: str, more: str
) -> None:
    assert submit(f"rediss://127.0.0.1:{port}/0?{more.format(ca=authority.ca)}", how)


@both
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_an_unknown_authority_or_another_name_is_refused_at_once(
    authority: Authority, port: int, how: str, host: str
) -> None:
    trusted = f"?ssl_ca_certs={authority.ca}" if host != "localhost" else ""
    with pytest.raises(Misconfigured, match="certificate verify failed"):
        submit(f"rediss://{host}:{port}/0{trusted}", how)


@both
@pytest.mark.parametrize("key", ["client.key", "locked.key"])
def test_a_client_shows_its_certificate(
    authority: Authority, strict_port: int, how: str, key: str
) -> None:
    files = authority.directory
    own = f"ssl_certfile={files}/client.crt&ssl_keyfile={files}/{key}"
    if key == "locked.key":
        own += f"&ssl_password={PASSPHRASE.replace(' ', '%20')}"
    assert submit(f"rediss://localhost:{strict_port}/0?ssl_ca_certs={authority.ca}&{own}", how)


@pytest.mark.parametrize("password", ["", "&ssl_password=wrong"])
def test_a_locked_key_without_its_passphrase_is_said_at_once(
    authority: Authority, strict_port: int, password: str
) -> None:
    files = authority.directory
    own = f"ssl_certfile={files}/client.crt&ssl_keyfile={files}/locked.key{password}"
    with pytest.raises(Misconfigured, match="ssl_certfile, ssl_keyfile: cannot be used"):
        submit(f"rediss://localhost:{strict_port}/0?{own}", "blocking")


@both
def test_a_client_without_one_and_one_without_tls_get_no_answer(
    authority: Authority, port: int, strict_port: int, how: str
) -> None:
    for url in (
        f"rediss://localhost:{strict_port}/0?ssl_ca_certs={authority.ca}",
        f"redis://localhost:{port}/0",
    ):
        with pytest.raises(Unavailable):
            submit(url, how)
