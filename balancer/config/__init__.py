"""What a process is told to begin with: one loader for flags, the environment, `balancer.toml` and the defaults.

Everything that is wrong is told at once, each with its key, the value, the rule and where it came from.
"""

from balancer.config.compare import differences
from balancer.config.load import Loaded, load
from balancer.config.sources import FILE_NAME, FILE_VARIABLE, Flag

__all__ = ["FILE_NAME", "FILE_VARIABLE", "Flag", "Loaded", "differences", "load"]
