"""What comes with a server that is taken in from its cell, beside its record: the user data, large hints and other
large fields, which the top keeps for its requests and loses when its database falls back.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable

from cellcloud import errors
from cellcloud.batching import in_full, portions
from cellcloud.context import RequestContext
from cellcloud.db import user_data
from cellcloud.db.engine import Database, transact
from cellcloud.model.server import ServerRecord
from cellcloud.rpc.conductor import Conductor

LOG = logging.getLogger(__name__)


def fetch_user_data(
    database: Database, conductor: Conductor, context: RequestContext, records: Iterable[ServerRecord]
) -> None:
    """Keep the texts of these servers that the top has not. Before their records are taken in: then a server that
    is shown has it, whenever this ends. Raises Unreachable."""
    specs = [record.spec for record in records if not record.deleted]
    wanted = {one for spec in specs for one in user_data.ids_of(spec)}
    if not wanted:
        return
    with database.read() as connection:
        missing = user_data.list_missing(connection, user_data.TOP, wanted)
    if not missing:
        return
    try:
        texts = in_full(
            lambda some: conductor.get_user_data(context, some),
            missing,
            key_of=str,
            answers=lambda text: text[0],
        )
    except errors.NotYet as error:  # a cell of before: its servers show none
        LOG.warning("user data cannot be asked for", extra={"ids": missing, "why": error.message})
        return
    for some in portions(texts, lambda text: len(text[1])):
        transact(database, functools.partial(user_data.store, table=user_data.TOP, texts=dict(some)))
