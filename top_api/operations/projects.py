"""Projects that requests name: the identity service knows which there are."""

from __future__ import annotations

from cellcloud import errors
from top_api.request_pipeline import Call


def check(call: Call, project_id: str) -> None:
    """Raise Invalid for a project that there is not. The caller's own is there: their token says so."""
    if project_id != call.context.project_id and not call.services.identity.has_project(project_id):
        raise errors.Invalid(f"Project ID {project_id[:64]} is not a valid project.")
