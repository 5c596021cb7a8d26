"""Has hosts fetch images ahead of the servers that will need them, so many hosts at once.

What is asked is stored first. Each look asks the hosts that are at it how far they are, which also begins it, as often
as it takes: nothing depends on a message's coming once. A host that goes away is let off.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.db import image_cachings
from cellcloud.db.engine import Connection, Database, transact
from cellcloud.db.image_cachings import ImageCaching
from cellcloud.model.image import FETCHING
from cellcloud.rpc.compute import Compute

LOG = logging.getLogger(__name__)
LONGEST = 86_400.0  # seconds until what a host does not come to is given up
PATIENCE = 8.0  # seconds a host has to answer


class ImageCachings:
    """``compute_of``: a host's compute service; ``most``: hosts at once."""

    def __init__(self, database: Database, compute_of: Callable[[str], Compute], most: int) -> None:
        self._database = database
        self._compute_of = compute_of
        self._most = most

    def look(self) -> bool:
        """Ask the hosts that are at it how far they are; True when others may begin at once."""
        with self._database.read() as connection:
            if not image_cachings.is_any_asked(connection):
                return False
        at_work, away = transact(self._database, lambda c: image_cachings.begin_some(c, self._most))
        for one in away:
            LOG.warning("images not cached", extra={"host": one.host, "why": "the host has gone down"})
        ended = [self._look_at(one) for one in at_work]
        for host in transact(self._database, lambda c: image_cachings.expire(c, LONGEST)) if at_work else ():
            LOG.warning("images not cached", extra={"host": host, "why": "the host did not come to it within a day"})
        return any(ended)

    def _look_at(self, wanted: ImageCaching) -> bool:
        """Return whether the host is done with any of its images."""
        try:
            told = self._compute_of(wanted.host).cache_images(
                service_context(PATIENCE), wanted.host, list(wanted.images)
            )
        except errors.TryLater as error:
            LOG.info("host not asked for its images", extra={"host": wanted.host, "why": error.message})
            return False
        except errors.CellcloudError as error:
            told = dict.fromkeys((image.id for image in wanted.images), f"error: {error.message}")
        done = {image_id: state for image_id, state in told.items() if state != FETCHING}

        def note(connection: Connection) -> set[str]:
            return image_cachings.finish(connection, wanted.host, done)

        for image_id in sorted(transact(self._database, note)) if done else ():
            facts = {"host": wanted.host, "image": image_id, "state": done[image_id], "request": wanted.request_id}
            LOG.info("image cached ahead", extra=facts)
        return bool(done)
