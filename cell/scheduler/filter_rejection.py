"""Why a host cannot take a server: what it lacks, and by how much."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostRefusal:
    """``what`` is short of ``needed``: only ``available`` of it is there. ``where`` narrows it down.

    Where the lack is not a matter of number, both figures are 0 and ``what`` says it all; ``remedy`` is then what the
    host must be to fit ("enabled"), if a word can say it. ``str()`` gives the whole in plain words, for operators.
    """

    what: str
    needed: int = 0
    available: int = 0
    where: str = ""
    remedy: str = ""

    @property
    def lack(self) -> int:
        """By how much it falls short."""
        return max(0, self.needed - self.available)

    @property
    def condition(self) -> str:
        """What would have to be for the host to fit, as in "enabled, it would fit"; "" where no words say it."""
        return f"with {self.lack:g} {self.what} more{self._place}" if self.needed else self.remedy

    @property
    def _place(self) -> str:
        return f" in {self.where}" if self.where else ""

    def __str__(self) -> str:
        if not self.needed:
            return f"{self.what}{self._place}"
        return f"lacks {self.lack} {self.what}{self._place}: {self.needed} needed, {max(0, self.available)} there"
