"""How an agent logs: as every process does, unless its program has configured structlog."""

from __future__ import annotations

import structlog

from balancer.protocol import configure_log, say

__all__ = ["configure", "configure_unless_configured", "say"]


def configure() -> None:
    """One line an event on stderr: for people on a terminal, else JSON. Tracebacks come without locals.

    Raises:
        ValueError: $BALANCER_LOG_FORMAT or $BALANCER_LOG_LEVEL breaks its rule.
    """
    configure_log()


def configure_unless_configured() -> None:
    """The program's own logging stays as it is."""
    if not structlog.is_configured():
        configure()
