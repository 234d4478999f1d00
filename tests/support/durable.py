"""How a Redis that a test kills keeps all that it has acknowledged."""

from __future__ import annotations

#: With `everysec` Redis puts writes off for up to two seconds while a flush to a slow disk goes on, and answers before.
KEPT = {"appendfsync": "always"}
