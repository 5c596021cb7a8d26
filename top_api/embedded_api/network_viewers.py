"""Who asks the network API, for whose things, and at which revision of a thing."""

from __future__ import annotations

from typing import Any

from werkzeug.http import parse_etags

from cellcloud import errors
from cellcloud.embedded.viewer import Viewer
from top_api.request_pipeline import Call

_REVISION = "revision_number="


def viewer_of(call: Call) -> Viewer:
    """Return who asks. Raises Invalid for a precondition of another form."""
    return Viewer(
        project_id=call.context.project_id,
        is_admin=call.context.is_admin,
        revision=_revision(call.headers.get("If-Match")),
    )


def service_viewer_of(call: Call) -> Viewer:
    """Return who asks where services have to do with whatever project's things. Raises Invalid."""
    revision = _revision(call.headers.get("If-Match"))
    return Viewer(project_id=call.context.project_id, is_admin=serves_all(call), revision=revision)


def serves_all(call: Call) -> bool:
    """Return whether the caller has to do with things of whatever project."""
    return call.context.is_admin or call.allows("service_api")


def owner_of(call: Call, wanted: dict[str, Any], *, allowed: bool) -> str:
    """Return whose the thing shall be. ``allowed``: to act for another project. Raises Invalid, Forbidden."""
    named = {wanted[name] for name in ("project_id", "tenant_id") if name in wanted}
    if len(named) > 1:
        raise errors.Invalid("'project_id' and 'tenant_id' do not match")
    owner = str(next(iter(named), call.context.project_id))
    if owner != call.context.project_id and not allowed:
        raise errors.Forbidden("Only an administrator may act for another project.")
    return owner


def _revision(precondition: str | None) -> int | None:
    named = [tag for tag in parse_etags(precondition).as_set() if tag.startswith(_REVISION)]
    if not named:
        return None
    if len(named) > 1 or not named[0].removeprefix(_REVISION).isdecimal():
        raise errors.Invalid("Name one revision, as revision_number=NUMBER.")
    return int(named[0].removeprefix(_REVISION))
