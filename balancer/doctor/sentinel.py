"""Behind Sentinels: whether they answer, name the same master, and are enough to agree on another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redis.connection import Connection, SSLConnection
from redis.exceptions import RedisError

from balancer.doctor.finding import Finding, fail, ok, warn
from balancer.doctor.visit import Visit
from balancer.protocol.address import Address, Node, Topology, parse_address


def sentinels(visit: Visit) -> Iterator[Finding]:
    """Each Sentinel of the address is asked. Nothing is said of an address without any."""
    address = parse_address(visit.config.redis_url)
    if address.topology is not Topology.SENTINEL:
        return
    options = visit.client.connection_pool.connection_kwargs["route"].ask_options
    answers = {node: _asked(address, node, options) for node in address.nodes}
    silent = [str(node) for node, answer in answers.items() if isinstance(answer, RedisError)]
    said = [answer for answer in answers.values() if not isinstance(answer, RedisError)]
    masters = sorted({master for master, _ in said})
    without = sorted({why for _, why in said if why})
    named = " or ".join(masters) or "unknown"
    shown = (
        f"{len(said)} of {len(answers)} Sentinels answer; master of {address.service!r}: {named}"
    )
    if len(masters) > 1:
        yield fail("sentinels", shown, "they disagree: look at the network between them")
    elif without:
        yield fail(
            "sentinels", f"{shown}; {'; '.join(without)}", "start the Sentinels that are away"
        )
    elif silent or len(answers) < ENOUGH:
        more = f"; silent: {', '.join(silent)}" if silent else ""
        yield warn(
            "sentinels", shown + more, "run three, on three machines, and name all in the address"
        )
    else:
        yield ok("sentinels", shown)


#: Fewer Sentinels than this agree on nothing when one of them is away.
ENOUGH = 3


def _asked(address: Address, node: Node, options: dict[str, Any]) -> tuple[str, str] | RedisError:
    """The master that a Sentinel names, and why it could not get another one elected; or the error."""
    kind = Connection if address.tls is None else SSLConnection
    asking: Any = kind(host=node.host, port=node.port, **options)
    try:
        asking.connect()
        asking.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.service)
        host, port = asking.read_response() or ("nobody", "0")
        asking.send_command("SENTINEL", "CKQUORUM", address.service)
        try:
            asking.read_response()
        except RedisError as error:
            return f"{host}:{port}", str(error)
        return f"{host}:{port}", ""
    except RedisError as error:
        return error
    finally:
        asking.disconnect()
