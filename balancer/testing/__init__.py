"""A pool inside your own unit tests: no server, no threads, no waiting.

`TestPool` keeps its data in fakeredis, in this process, and its time stands still until a test moves it. Everything
else is the real thing: scripts, planner, producer's calls, and the handlers of your agents.
"""

from balancer.testing.pool import TestPool

__all__ = ["TestPool"]
