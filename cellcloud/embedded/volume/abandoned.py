"""What was begun with a volume here and never asked of its server's cell, as the process that began it died. The cell's
own record is the proof: nothing is under way there, and it knows nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cellcloud import errors
from cellcloud.db import server_index
from cellcloud.db import volume_attachments as db
from cellcloud.embedded.volume import reservations
from cellcloud.embedded.volume.attachments import discard_attachment
from cellcloud.embedded.volume.service import VolumeService, VolumeViewer
from cellcloud.model.block_storage import Attachment
from cellcloud.model.server import ServerRecord
from cellcloud.model.volume import AttachmentState

OLD = 60.0  # seconds after which no request that began it can still be on its way
DELETED_SECONDS = 600.0  # that a server is deleted before its volumes are given back for it
AT_ONCE = 100
AskServers = Callable[[str, list[str]], Sequence[ServerRecord]]
"""Returns servers' records, deleted ones too, from their cell. May raise TryLater."""


def sweep(service: VolumeService, ask: AskServers) -> bool:
    """Give back what servers had that were deleted a while ago, and what was reserved for servers that know nothing of
    it; volumes that were about to be detached and are not are in use again. True when there may be more. Whoever
    deletes a server gives its volumes back itself: this is for those whose cell was lost with them."""
    with service.database.read() as c:
        left = db.list_of_deleted(c, limit=AT_ONCE, seconds=DELETED_SECONDS)
    for attachment in left:
        discard_attachment(service, attachment.id)
    _walk(service, ask, db.list_reserved, _free)
    _walk(service, ask, db.list_detaching, _use_again)
    return len(left) == AT_ONCE


def _walk(
    service: VolumeService,
    ask: AskServers,
    list_some: Callable[..., list[Attachment]],
    judge: Callable[[VolumeService, Attachment, ServerRecord], None],
) -> None:
    after = ""
    while True:
        with service.database.read() as c:
            page = list_some(c, after=after, limit=AT_ONCE, seconds=OLD)
            cells = server_index.cells_of(c, sorted({each.server_id for each in page if each.server_id}))
        known = {record.id: record for record in _ask_all(ask, cells)}
        for each in page:
            record = known.get(each.server_id or "")
            if record is not None:
                judge(service, each, record)
        if len(page) < AT_ONCE:
            return
        after = page[-1].id


def _ask_all(ask: AskServers, cells: dict[str, str]) -> list[ServerRecord]:
    """Return what the cells that answer know of their servers."""
    found: list[ServerRecord] = []
    for cell in sorted(set(cells.values()) - {""}):
        try:
            found += ask(cell, sorted(server for server, its in cells.items() if its == cell))
        except errors.CellcloudError:
            continue  # what is not proven stays
    return found


def _free(service: VolumeService, attachment: Attachment, record: ServerRecord) -> None:
    if _is_at_rest(record) and all(one.attachment_id != attachment.id for one in record.volumes):
        discard_attachment(service, attachment.id)


def _use_again(service: VolumeService, attachment: Attachment, record: ServerRecord) -> None:
    states = [one.state for one in record.volumes if one.attachment_id == attachment.id]
    if states and not record.deleted and AttachmentState.DETACHING not in states:
        cloud = VolumeViewer(project_id="", is_service=True)
        reservations.roll_detaching(service, cloud, attachment.volume_id)


def _is_at_rest(record: ServerRecord) -> bool:
    return record.deleted or (record.task_state is None and not record.held)
