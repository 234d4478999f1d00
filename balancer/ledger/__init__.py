"""The only code that writes to Redis. One transition, one script: `name.lua` is the transition,
`name.py` its typed twin; `parts` holds what several scripts are made of.

Every call is atomic, is refused whole when an argument is wrong, and may be sent twice. Nothing
here retries, and nothing here hides a Redis error: the loops and the client decide what an error
means for them.
"""

from balancer.ledger.pool import Pool

__all__ = ["Pool"]
