"""Tags of what the embedded network service has."""

from __future__ import annotations

from collections.abc import Callable

from cellcloud import errors
from cellcloud.db import network_tags as db
from cellcloud.db.engine import Database, retried
from cellcloud.embedded.viewer import Viewer

Tags = tuple[str, ...]
MOST_TAGS = 50  # of one thing
KINDS = db.KINDS


class EmbeddedNetworkTags:
    """Safe to call from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_tags(self, viewer: Viewer, kind: str, item_id: str) -> Tags:
        """Return its tags. Raises NotFound, the same for another project's."""
        with self._database.read() as c:
            owner, tags = db.find_tags(c, kind, item_id)
        _check(viewer, kind, item_id, owner)
        return tags

    def change_tags(self, viewer: Viewer, kind: str, item_id: str, change: Callable[[Tags], Tags]) -> Tags:
        """Make other tags of its tags; return them. Raises NotFound, Invalid for too many."""
        return _change(self._database, viewer, kind, item_id, change)


@retried
def _change(database: Database, viewer: Viewer, kind: str, item_id: str, change: Callable[[Tags], Tags]) -> Tags:
    with database.write() as c:
        owner, known = db.find_tags(c, kind, item_id, lock=True)
        _check(viewer, kind, item_id, owner)
        wanted = tuple(dict.fromkeys(change(known)))
        if len(wanted) > MOST_TAGS:
            raise errors.Invalid(f"A resource has at most {MOST_TAGS} tags.")
        if wanted != known:
            db.set_tags(c, kind, item_id, wanted)
    return wanted


def _check(viewer: Viewer, kind: str, item_id: str, owner: str) -> None:
    if viewer.only not in (None, owner):
        raise errors.NotFound(f"Resource {item_id[:64]} of {kind} could not be found.")
