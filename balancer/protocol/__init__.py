"""All that an agent shares with the balancer: key names, wire formats, and how to connect. `worker`
imports only this.
"""

from balancer.core.errors import Misconfigured
from balancer.core.model import Mode
from balancer.core.names import Name, is_name, new_id, new_nonce
from balancer.log import configure_by_environment as configure_log
from balancer.log import say
from balancer.protocol.address import parse_address
from balancer.protocol.causes import Cause, Reaction, backoff_s, cause
from balancer.protocol.command import EXIT_REJECTED, CommandInput
from balancer.protocol.connect import TextRedis, connect
from balancer.protocol.events import (
    MAX_ERROR_BYTES,
    MAX_RESULT_BYTES,
    Completion,
    Heartbeat,
    InboxCancel,
    InboxKind,
    InboxRetire,
    InboxTask,
    Status,
    read_completion,
    read_heartbeat,
    read_inbox,
    read_inbox_task,
)
from balancer.protocol.keys import Keys
from balancer.protocol.place import (
    DEFAULT_POOL,
    DEFAULT_URL,
    POOL_VARIABLE,
    URL_VARIABLE,
    pool_name,
    redis_url,
)
from balancer.protocol.wire import BadEvent

__all__ = [
    "DEFAULT_POOL",
    "DEFAULT_URL",
    "EXIT_REJECTED",
    "MAX_ERROR_BYTES",
    "MAX_RESULT_BYTES",
    "POOL_VARIABLE",
    "URL_VARIABLE",
    "BadEvent",
    "Cause",
    "CommandInput",
    "Completion",
    "Heartbeat",
    "InboxCancel",
    "InboxKind",
    "InboxRetire",
    "InboxTask",
    "Keys",
    "Misconfigured",
    "Mode",
    "Name",
    "Reaction",
    "Status",
    "TextRedis",
    "backoff_s",
    "cause",
    "configure_log",
    "connect",
    "is_name",
    "new_id",
    "new_nonce",
    "parse_address",
    "pool_name",
    "read_completion",
    "read_heartbeat",
    "read_inbox",
    "read_inbox_task",
    "redis_url",
    "say",
]
