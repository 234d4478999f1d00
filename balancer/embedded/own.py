"""What every Redis of our own has in common, real or fake."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import ClassVar, Self


class OwnRedis(ABC):
    """What we started ourselves, real or fake: it goes when it is closed."""

    is_fake: ClassVar[bool]

    @property
    @abstractmethod
    def url(self) -> str:
        """Where to connect to."""

    @abstractmethod
    def close(self) -> None:
        """Stop it and remove all that it kept. May be called again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
