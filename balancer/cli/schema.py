"""`balancer schema`: the formats as JSON Schema, for programs in any language."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from balancer.cli import options, output
from balancer.core.errors import InvalidInput


def schema(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="heartbeat, completion, inbox, command, task or settings; default all of them.",
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Print a format as JSON Schema (draft 2020-12).

    heartbeat, completion and inbox are entries of streams, whose values are all strings; command is what a
    program reads on stdin; task is a line that `balancer submit` reads; settings is what a pool keeps.

    Examples:
      balancer schema heartbeat
      balancer schema > schemas.json
    """
    from balancer.protocol.schema import NAMES
    from balancer.protocol.schema import schema as schema_of

    if name is not None and name not in NAMES:
        raise InvalidInput(f"schema: {name[:80]!r} is none of {', '.join(NAMES)}")
    said = schema_of(name) if name else {each: schema_of(each) for each in NAMES}
    if as_json:
        output.write_json(said)
    else:
        output.write(json.dumps(said, indent=2))
