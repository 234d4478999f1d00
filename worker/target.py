"""What MODULE:ATTRIBUTE names, and what is wrong with it if it names no agent."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from types import ModuleType

from balancer.protocol import Misconfigured
from worker.agent import Agent

USAGE_HINT = "worker run --help"


class BadTarget(Exception):
    """Nothing to run. `exit_code` 2: the command line is wrong; 1: the module is."""

    def __init__(
        self, message: str, hint: str = "", *, trace: str = "", exit_code: int = 2
    ) -> None:
        super().__init__(message)
        self.hint, self.trace, self.exit_code = hint, trace, exit_code


def load(target: str) -> Agent:
    """The agent that MODULE:ATTRIBUTE names.

    Raises:
        BadTarget: there is none.
        Misconfigured: the environment, or the address that the module gives, breaks a rule.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise BadTarget(
            f"{target!r} is not MODULE:ATTRIBUTE, e.g. myproject.agents:builder",
            f"to run a program: worker run --role ROLE -- {target}",
        )
    sys.path.insert(0, os.getcwd())
    module = _imported(module_name)
    agent = getattr(module, attribute, None)
    if isinstance(agent, Agent):
        return agent
    names = sorted(name for name, value in vars(module).items() if isinstance(value, Agent))
    hint = f"it has no worker.Agent at all: write `{attribute} = Agent(...)`"
    if names:
        hint = "its agents: " + ", ".join(f"{module_name}:{name}" for name in names)
    what = "is not a worker.Agent" if hasattr(module, attribute) else "does not exist"
    raise BadTarget(f"{module_name}:{attribute} {what}", hint)


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Misconfigured:  # the environment's fault, or the address's; not the module's
        raise
    except Exception as error:
        # Only if it is the one asked for: a missing import inside of it is a fault of the module.
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (name == missing or name.startswith(f"{missing}.")):
            hint = "the current directory is importable; leave out `.py`, write dots for slashes"
            raise BadTarget(f"there is no module {name!r} here", hint) from None
        if isinstance(error, TypeError | ValueError) and not _frames(error):
            raise BadTarget(f"{name!r} is not the name of a module", USAGE_HINT) from None
        reason = traceback.format_exception_only(error)[-1].strip()
        if isinstance(error, SyntaxError):  # whose only frame is the line that it names
            reason = f"{type(error).__name__}: {error}"
        message = f"the module {name!r} cannot be imported: {reason}"
        raise BadTarget(message, trace=_frames(error), exit_code=1) from None


def _frames(error: Exception) -> str:
    """Where it happened, as a traceback says it, without the frames of the import and of this command."""
    stack = traceback.extract_tb(error.__traceback__)
    ours = (__file__, importlib.__file__)
    kept = [
        frame
        for frame in stack
        if frame.filename not in ours and not frame.filename.startswith("<frozen importlib")
    ]
    return "".join(traceback.StackSummary.from_list(kept).format())
