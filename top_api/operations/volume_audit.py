"""Volumes as the embedded service knows them beside what the cells' volume services keep: told where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import volume_attachments, volume_hosts, volume_snapshots
from cellcloud.db import volumes as db
from cellcloud.embedded.volume.service import VolumeService
from cellcloud.model.block_storage import HeldVolume
from cellcloud.model.cell import Finding

CHECK = "volumes"
BUDGET = 10.0  # seconds that a volume service has
MOST = 100  # findings of a kind


def findings(service: VolumeService, context: RequestContext) -> list[Finding]:
    """As ``doctor check`` lists them, with a word where nothing is wrong."""
    found = list(_in_use_by_nobody(service))
    with service.database.read() as c:
        hosts = volume_hosts.list_hosts(c)
    for known in hosts:
        place = (known.host.cell, known.host.host)
        subject = f"{known.host.cell}: {known.host.host}"
        try:
            held = service.reach(*place).list_volumes(context.with_budget(BUDGET))
        except errors.CellcloudError as error:
            found.append(_finding(subject, f"its volume service does not answer: {error.message}", "cellcloud status"))
        else:
            found += _compare(service, place, held)
    return found or [Finding(check=CHECK, severity="ok", subject="top", text="nothing wrong")]


def _in_use_by_nobody(service: VolumeService) -> Iterator[Finding]:
    with service.database.read() as c:
        forlorn = volume_attachments.list_forlorn(c, limit=MOST)
        stale = volume_attachments.list_of_deleted(c, limit=MOST)
    for volume_id, status in forlorn:
        yield _finding(volume_id, f"{status}, and nobody has it", f"openstack volume set --state available {volume_id}")
    for attachment in stale:
        yield _finding(
            attachment.volume_id, f"attached to {attachment.server_id}, which is deleted", "cellcloud status"
        )


def _compare(service: VolumeService, place: tuple[str, str], held: Iterable[HeldVolume]) -> list[Finding]:
    """Return where the two differ, but for what a task is under way for."""
    kept = {each.id: each for each in held}
    with service.database.read() as c:
        busy = db.list_task_ids(c)
        ours = {each.id: each for each in db.list_on(c, *place)}
        snapshots = volume_snapshots.ids_by_volume(c, *place)
        theirs = volume_attachments.ids_by_volume(c, *place)
    found = []
    for volume_id in sorted(kept.keys() - ours.keys() - busy):
        found.append(_finding(volume_id, f"{place[1]} keeps it, and nothing is known of it here"))
    for volume_id in sorted(ours.keys() - busy):
        volume, one = ours[volume_id], kept.get(volume_id)
        if one is None:
            if volume.status not in ("error", "error_deleting", "creating"):
                found.append(_finding(volume_id, f"{volume.status}, and {place[1]} has nothing of it"))
            continue
        lost = snapshots.get(volume_id, frozenset()) - set(one.snapshots) - busy
        left = set(one.attachments) - theirs.get(volume_id, frozenset()) - busy
        found += [_finding(volume_id, f"{place[1]} has nothing of its snapshot {each}") for each in sorted(lost)]
        found += [_finding(volume_id, f"exported by the attachment {each}, which is gone") for each in sorted(left)]
    return found[:MOST]


def _finding(subject: str, text: str, remedy: str = "") -> Finding:
    return Finding(check=CHECK, severity="error", subject=subject, text=text, remedy=remedy)
