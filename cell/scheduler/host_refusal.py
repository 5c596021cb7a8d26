"""Why a host cannot take a server: what it lacks, and by how much."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostRefusal:
    """``what`` is short of ``needed``: only ``available`` of it is there. ``where`` narrows it down.

    Where the lack is not a matter of number, both figures are 0 and ``what`` says it all. ``str()`` gives the whole
    in plain words, for operators.
    """

    what: str
    needed: int = 0
    available: int = 0
    where: str = ""

    @property
    def lack(self) -> int:
        """By how much it falls short."""
        return max(0, self.needed - self.available)

    def __str__(self) -> str:
        place = f" in {self.where}" if self.where else ""
        if not self.needed:
            return f"{self.what}{place}"
        return f"lacks {self.lack} {self.what}{place}: {self.needed} needed, {max(0, self.available)} there"
