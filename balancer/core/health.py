"""How much an agent's silence says."""

from __future__ import annotations

#: From this TTL on, an agent is judged by the fixed steps of 1, 5 and 15 minutes.
LONG_TTL_MS = 15 * 60_000


def health(age_ms: float, interval_ms: float, ttl_ms: float) -> float:
    """Health by the age of the last heartbeat: 1, 0.8, 0.5, and 0.2 once the TTL has passed.

    The steps are 1.5 intervals, 2/3 of the TTL and the TTL, as the agent declared them; with a TTL
    of 15 minutes and more they are 1, 5 and 15 minutes.
    """
    if ttl_ms >= LONG_TTL_MS:
        fresh_ms, late_ms, lost_ms = 60_000.0, 300_000.0, float(LONG_TTL_MS)
    else:
        fresh_ms, late_ms, lost_ms = 1.5 * interval_ms, ttl_ms * 2 / 3, ttl_ms
    if age_ms < fresh_ms:
        return 1.0
    if age_ms < late_ms:
        return 0.8
    if age_ms < lost_ms:
        return 0.5
    return 0.2
