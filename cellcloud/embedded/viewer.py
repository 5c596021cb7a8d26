"""For whom the embedded network service looks or acts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """A project, or an administrator of everybody's things."""

    project_id: str
    is_admin: bool = False

    @property
    def only(self) -> str | None:
        """The project whose things are shown; None: everybody's."""
        return None if self.is_admin else self.project_id
