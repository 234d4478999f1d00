"""Every error the library raises on purpose. `code` is stable and goes into JSON; the text is for
people.
"""

from __future__ import annotations


class BalancerError(Exception):
    """Root of all errors of this library."""

    code = "error"
    hint = ""
    retryable = False


class InvalidInput(BalancerError, ValueError):
    """A value breaks its rule. The text names the field, the value and the rule; nothing was
    stored.
    """

    code = "invalid_input"


class Misconfigured(BalancerError, ValueError):
    """What a process was told to begin with breaks a rule: a file, the environment, an address. The text has every
    broken rule, a line each, with the key, the value, the rule and where it came from; nothing was started.
    """

    code = "configuration"
    hint = "`balancer config init FILE` writes a file with every key and its rule; docs/configuration.md has them, too"


class NotFound(BalancerError, LookupError):
    """The named task, agent or role does not exist in this pool."""

    code = "not_found"


class Refused(BalancerError):
    """The pool refused a task by its own state: a parent that is missing, a cost no agent may
    carry, a bound reached.
    """

    code = "refused"


class QueueFull(Refused):
    """So much work of the role waits already that the pool takes no more. The task was not stored.

    Args:
        text: for people.
        depth: tasks of the role that wait: scheduled, blocked, pending or failed.
        limit: most that may.
        oldest_s: how long the oldest pending one has waited.
        retry_after_s: when there may be room again.
    """

    code = "queue_full"
    hint = "submit it again later, or with a time to wait for room (block_s, --block)"
    retryable = True

    def __init__(
        self, text: str, depth: int, limit: int, oldest_s: float, retry_after_s: float
    ) -> None:
        super().__init__(text)
        self.depth, self.limit, self.oldest_s, self.retry_after_s = (
            depth,
            limit,
            oldest_s,
            retry_after_s,
        )


class Conflict(BalancerError):
    """The call contradicts what is there: the same task id with another definition, a task that is
    past cancelling.
    """

    code = "conflict"


class WaitTimeout(BalancerError, TimeoutError):
    """The task did not end within the time that the caller was willing to wait. It goes on."""

    code = "timeout"
    retryable = True


class Unavailable(BalancerError, ConnectionError):
    """Redis cannot be reached, or cannot answer now. Whether a write took effect is unknown;
    sending it again is safe.
    """

    code = "redis_unavailable"
    retryable = True


class Unconfirmed(Unavailable):
    """A call was sent and its answer never came: whether it took effect is unknown. Sending it again (the same
    task with the same id) is safe, and tells.
    """

    code = "unconfirmed"


class RedisFull(BalancerError):
    """Redis has no memory left for this. What frees memory goes on; send it again later."""

    code = "redis_full"
    retryable = True
    hint = "more memory for Redis (maxmemory), or time: what completes makes room"


class Denied(BalancerError):
    """Redis refuses the user, the password, or the right to do this. Nothing was written."""

    code = "denied"
    hint = "check user and password of the Redis address, and the rights of the user (docs/operations.md)"


class UnexpectedReply(BalancerError):
    """Redis answered an error that it should never answer: a fault of this library."""

    code = "unexpected_reply"


class PoolMissing(BalancerError):
    """There is no such pool in this Redis."""

    code = "pool_missing"
    hint = "start `balancer serve` (or `balancer dev`), which creates the pool, and check the Redis address"


class SafeStop(BalancerError):
    """This Redis does not hold the pool that was opened: it is empty, restored or another one, or something
    else has written to the pool's keys. Nothing was written.
    """

    code = "safe_stop"
    hint = "check the Redis address and its data; restart the process once it is right"


class SchemaMismatch(BalancerError):
    """The pool's data are of a version that this process does not read, older or newer. Nothing was
    written.
    """

    code = "schema"
    hint = "let the processes of a pool be of one release; a pool of an older release is served by it until it is empty"


class BadArgument(BalancerError):
    """A script refused an argument: a fault of the caller's code, not of its data. Nothing was
    written.
    """

    code = "bad_argument"


class NoAgent(Refused):
    """Nobody can take the task: the fleet is empty, or no live agent has its role."""

    code = "no_agent"
    hint = "start an agent of this role"
    retryable = True


class NoIdleAgent(NoAgent):
    """There are agents of the role, and none of them has room for the task now."""

    code = "no_idle_agent"
    hint = "the task stays in the queue; it is assigned when capacity frees up"
