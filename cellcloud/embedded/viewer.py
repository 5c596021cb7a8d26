"""For whom the embedded network service looks or acts."""

from __future__ import annotations

from dataclasses import dataclass

from cellcloud import errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """A project, or an administrator of everybody's things. ``revision``: the only one of a thing that it changes or
    deletes; None: any."""

    project_id: str
    is_admin: bool = False
    revision: int | None = None

    @property
    def only(self) -> str | None:
        """The project whose things are shown; None: everybody's."""
        return None if self.is_admin else self.project_id

    def check_revision(self, revision: int) -> None:
        """Check that it is about a thing of this revision. Raises Stale."""
        if self.revision not in (None, revision):
            raise errors.Stale(f"Constrained to {self.revision}, but current revision is {revision}")
