"""What a check says: how it stands, what was found, what to do."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How it stands."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One row. `code` names why it fails where an exit code depends on it."""

    check: str
    level: Level
    found: str
    advice: str = ""
    code: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, found)


def warn(check: str, found: str, advice: str) -> Finding:
    """It works, and somebody should look at it."""
    return Finding(check, Level.WARN, found, advice)


def fail(check: str, found: str, advice: str, code: str = "") -> Finding:
    """It does not work, or what was accepted is in danger."""
    return Finding(check, Level.FAIL, found, advice, code)


def unknown(check: str, what: str) -> Finding:
    """It cannot be known, as where a managed Redis answers less."""
    return warn(check, f"unknown: {what}", "look it up where this Redis is managed")
