"""Identifiers and short names: one rule for tasks, agents, roles, categories and pools."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import StringConstraints

#: The rule. ASCII only, so that a name is safe in a key, a log line, a URL and a shell word.
NAME_RULE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
NAME_PATTERN = re.compile(NAME_RULE, re.ASCII)

Name = Annotated[str, StringConstraints(strict=True, pattern=f"^{NAME_RULE}$")]


def is_name(text: object) -> bool:
    """Whether `text` may be used as an id. Matches the whole string: a trailing newline is not
    forgiven.
    """
    return isinstance(text, str) and NAME_PATTERN.fullmatch(text) is not None


def new_id() -> str:
    """A fresh task id: 64 random bits in hex. A clash would answer `conflict`, never mix tasks."""
    return os.urandom(8).hex()


def new_nonces(most: int) -> Iterator[str]:
    """Up to `most` nonces for one call to the system."""
    text = os.urandom(16 * most).hex()
    return (text[at : at + 32] for at in range(0, 32 * most, 32))


def new_nonce() -> str:
    """A fresh lease nonce or boot id: 128 random bits in hex, never guessed and never repeated."""
    return os.urandom(16).hex()
