"""Values as small numbers: equal values get the same one."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Interned(Generic[T]):
    """``values`` in the order in which they were first seen; a value's number is its place there."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self._codes: dict[T, int] = {}

    def code(self, value: T) -> int:
        """Return the value's number; a new one for a new value."""
        code = self._codes.get(value)
        if code is None:
            code = self._codes[value] = len(self.values)
            self.values.append(value)
        return code

    def __len__(self) -> int:
        return len(self.values)

    def copy(self) -> Interned[T]:
        """Copy the values with their numbers; what is added to one is not in the other."""
        found: Interned[T] = Interned()
        found.values, found._codes = list(self.values), dict(self._codes)
        return found
