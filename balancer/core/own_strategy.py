"""A strategy of the user's own, by import path: found, checked, and its answers checked from then on."""

from __future__ import annotations

import importlib
from typing import Any

from balancer.core.errors import Misconfigured
from balancer.core.lanes import AgentClass, Lane
from balancer.core.names import is_name
from balancer.core.queue_order import Queue
from balancer.core.settings import PoolSettings
from balancer.core.strategies import Scores, Strategy
from balancer.core.turns import Order
from balancer.core.view import FreeAgent

#: Most parts of one score.
MOST_PARTS = 16
#: Largest number of a score, with either sign: sums of them stay finite, whatever their type.
MOST_VALUE = 1e300
_SAMPLE_AGENT = FreeAgent("sample", "", 2, 1, 1.0, 0, 0.5)
_SAMPLE_LANE, _SAMPLE_CLASS = Lane("sample", "general", 1), AgentClass("sample", (), 2)


def load_strategy(settings: PoolSettings) -> Strategy:
    """The strategy whose class the settings name as `package.module:Class`.

    Raises:
        Misconfigured: it cannot be imported, cannot be made, or does not do what a strategy does; the
            text says which.
    """
    path = settings.strategy
    made = _made(path, _found(path), settings)
    name, order = getattr(made, "name", None), getattr(made, "order", None)
    if not is_name(name):
        raise _broken(path, f"its name is {name!r:.80}, not letters, digits, '.', '_', '-'")
    if order not in tuple(Order):
        raise _broken(path, f"its order is {order!r:.80}, none of {', '.join(Order)}")
    queue = getattr(made, "queue", Queue.HEAD_START)
    if queue not in tuple(Queue):
        raise _broken(path, f"its queue is {queue!r:.80}, none of {', '.join(Queue)}")
    for part in ("agent_part", "match_part"):
        if not callable(getattr(made, part, None)):
            raise _broken(path, f"it has no method {part}")
    checked = _Checked(path, made)
    checked.agent_part(_SAMPLE_AGENT)
    checked.match_part(_SAMPLE_LANE, _SAMPLE_CLASS)
    return checked


def _found(path: str) -> Any:
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise _broken(
            path, f"there is no module {error.name} to import: install it, or set PYTHONPATH"
        ) from None
    except Exception as error:
        raise _broken(path, f"importing it failed: {type(error).__name__}: {error}") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise _broken(path, f"there is no class {class_name} in {module_name}")
    return found


def _made(path: str, cls: Any, settings: PoolSettings) -> Any:
    try:
        return cls(settings)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise _broken(path, f"{cls.__name__}(settings) failed: {text}") from error


def _broken(path: str, why: str) -> Misconfigured:
    return Misconfigured(f"strategy: {path!r} is no strategy: {why[:300]}")


class _Checked:
    """Passes on what a strategy of the user's says, once it is known to be a score."""

    def __init__(self, path: str, strategy: Strategy) -> None:
        self._path, self._strategy = path, strategy
        self.name, self.order = strategy.name, strategy.order
        self.queue = getattr(strategy, "queue", Queue.HEAD_START)

    def agent_part(self, agent: FreeAgent) -> Scores:
        """Raises Misconfigured where it is no score."""
        return self._score("agent_part", agent)

    def match_part(self, lane: Lane, cls: AgentClass) -> Scores:
        """Raises Misconfigured where it is no score."""
        return self._score("match_part", lane, cls)

    def _score(self, part: str, *given: object) -> Scores:
        try:
            said = getattr(self._strategy, part)(*given)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            raise _broken(self._path, f"{part} failed: {text}") from error
        if not isinstance(said, dict) or len(said) > MOST_PARTS:
            raise _broken(self._path, f"{part} answers {said!r:.80}, not a dict of named numbers")
        for name, value in said.items():
            is_number = isinstance(value, int | float) and -MOST_VALUE <= value <= MOST_VALUE
            if not is_name(name) or not is_number:
                raise _broken(self._path, f"{part} answers {name!r:.40}: {value!r:.40}")
        return said
