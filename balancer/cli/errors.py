"""How a command ends: exit codes, and what is said when it fails."""

from __future__ import annotations

import sys

from balancer.cli.again import repeated
from balancer.cli.output import json_text, note
from balancer.core.errors import BalancerError, WaitTimeout
from balancer.log import printable, without_secrets

OK, FAILURE, USAGE, NOT_FOUND, NO_REDIS, CONFLICT, UNMET, TIMEOUT, INTERRUPTED = *range(8), 130
QUEUE_FULL, DENIED, CONFIGURATION = 75, 77, 78

#: Exit code by the error's own code; 1 for every other.
EXIT_CODES = {
    "invalid_input": USAGE,
    "not_found": NOT_FOUND,
    "redis_unavailable": NO_REDIS,
    "unconfirmed": NO_REDIS,
    "queue_full": QUEUE_FULL,
    "redis_full": QUEUE_FULL,
    "denied": DENIED,
    "pool_missing": NO_REDIS,
    "safe_stop": NO_REDIS,
    "conflict": CONFLICT,
    "refused": UNMET,
    "timeout": TIMEOUT,
    "configuration": CONFIGURATION,
}
#: Longest message, in characters.
LONGEST = 10_000


class StillRunning(WaitTimeout):
    """The task that was submitted had not ended in time; programs need its id to go on."""

    def __init__(self, task_id: str, message: str) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.hint = f"balancer task show {task_id}"


def failed(error: BalancerError, as_json: bool) -> int:
    """Tell of an error; the exit code."""
    more = {"task_id": error.task_id} if isinstance(error, StillRunning) else {}
    tell(error.code, str(error), error.hint, error.retryable, as_json=as_json, **more)
    return EXIT_CODES.get(error.code, FAILURE)


def tell(
    code: str, message: str, hint: str = "", retryable: bool = False, *, as_json: bool, **more: str
) -> None:
    """An error on stderr, as text or as JSON; `more` is for JSON only."""
    hint = repeated(hint)
    lines = without_secrets(message)[:LONGEST].splitlines() or [""]
    message = "\n".join(printable(line) for line in lines)
    if as_json:
        body = {"code": code, "message": message, "hint": hint, "retryable": retryable} | more
        note(json_text({"error": body}, sys.stderr))
        return
    note(f"error: {message}")
    if hint:
        note(f"hint: {hint}")
