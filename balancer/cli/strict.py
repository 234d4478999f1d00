"""Reading what people give us as JSON, strictly: what Python's reader forgives in silence is refused here."""

from __future__ import annotations

import codecs
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from balancer.core.errors import InvalidInput
from balancer.log import printable

#: Largest file or standard input, bytes.
MAX_BYTES = 64 * 1024 * 1024

_WIDE = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def parse(text: str, place: str) -> Any:
    """The value of a JSON text: no key twice, no NaN, no infinity, no endless nesting.

    Raises:
        InvalidInput: names the place and the rule.
    """

    def no_constant(word: str) -> NoReturn:
        raise InvalidInput(f"{place}: {word} is not JSON; numbers are finite")

    def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InvalidInput(f"{place}: the key {twice[:80]!r} stands twice; each may stand once")
        return found

    try:
        return json.loads(text, parse_constant=no_constant, object_pairs_hook=no_key_twice)
    except InvalidInput:
        raise
    except json.JSONDecodeError as error:
        at = f"at line {error.lineno}, column {error.colno}"
        shown = printable(text, 60)
        raise InvalidInput(f"{place}: {shown!r} is not JSON: {error.msg} {at}") from None
    except RecursionError:
        raise InvalidInput(f"{place}: nested too deep; at most 32 levels") from None
    except ValueError as error:  # an integer of thousands of digits
        raise InvalidInput(f"{place}: {error}") from None


def read_text(path: str, option: str) -> str:
    """The UTF-8 text of a file, or of standard input for `-`.

    Raises:
        InvalidInput: it cannot be read, is too large, or is not UTF-8 without a byte order mark.
    """
    place = "stdin" if path == "-" else path
    try:
        if path == "-":
            if sys.stdin is None:
                raise InvalidInput(f"{option}: cannot read {place!r}: it is closed")
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except InvalidInput:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or error
        raise InvalidInput(f"{option}: cannot read {place!r}: {why}") from None
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{place}: larger than {MAX_BYTES >> 20} MiB; split it")
    if data.startswith(_WIDE) or b"\x00" in data[:4]:
        raise InvalidInput(f"{place}: looks like UTF-16 or UTF-32; JSON is UTF-8")
    if data.startswith(codecs.BOM_UTF8):
        raise InvalidInput(f"{place}: begins with a byte order mark; JSON has none")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{place}: not UTF-8 at byte {error.start}") from None
