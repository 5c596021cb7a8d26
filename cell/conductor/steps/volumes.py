"""Steps that give a server a volume and take it away: its service lets the host reach it, the host gives it to the
guest, and its service is told that the server has it; and back.

A volume is given back only once the guest has let go of it, or once nothing of the guest is left. What hosts can reach
is decided by the volume's service alone: it lets each attachment's newest host reach the volume, and no other.
"""

from __future__ import annotations

import functools
import logging
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cell.conductor.steps import guests, networks
from cell.conductor.workflow import PassiveServices, PassiveStep, Step, StepContext, StepResult, StepServices, Wait
from cellcloud import errors
from cellcloud.model.guest_commands import AttachVolume, DetachVolume, ExtendVolume
from cellcloud.model.server import ServerChanges, ServerRecord
from cellcloud.model.volume import (
    AttachedVolume,
    AttachmentState,
    BlockDevice,
    DeviceSource,
    NewVolume,
    Volume,
    Volumes,
    free_device,
    with_changed,
    without,
)
from cellcloud.model.volume_names import bus_of, names_taken
from cellcloud.server_states import TaskState

LOG = logging.getLogger(__name__)
_BECOMING = ("creating", "downloading")  # of volumes: not usable yet


def _own(context: StepContext) -> AttachedVolume:
    """Return the volume that the run is about, as the record has it now."""
    volume = context.run.arguments.volume
    if volume is None:
        raise errors.CallHuman("The operation does not say which volume it is about.")
    return next((one for one in context.record.volumes if one.id == volume.id), volume)


def _changed(context: StepContext, **values: Any) -> StepResult:
    changed = with_changed(context.record.volumes, replace(_own(context), **values))
    return StepResult(changes=ServerChanges(volumes=changed))


def _forgotten(context: StepContext) -> StepResult:
    return StepResult(changes=ServerChanges(volumes=without(context.record.volumes, _own(context).id)))


# ---- given -----------------------------------------------------------------------------------------------------------
def _connect(context: StepContext, services: StepServices) -> StepResult:
    """Have the volume's service let the server's host reach it. A server on no host is let reach it with its next."""
    host = context.record.host
    if host is None:
        return StepResult()
    told = services.volumes.update_attachment(_own(context).attachment_id, services.connector(host))
    return _changed(context, connection=told)


def _disconnect(context: StepContext, services: StepServices) -> StepResult:
    """Give the volume back, unless a delete follows, which does so once the guest is gone."""
    if context.run.cancel_requested:
        return StepResult()
    services.volumes.delete_attachment(_own(context).attachment_id)
    return _forgotten(context)


def _attach(context: StepContext, services: PassiveServices) -> StepResult:
    if context.record.host is not None:
        guests.check_not_fenced(context, services, context.record.host)
        guests.ask(context, services, AttachVolume, volume=_own(context))
    return StepResult()


def _take_off(context: StepContext, services: PassiveServices) -> StepResult:
    return guests.ask_back(context, services, DetachVolume, volume=_own(context))


def _complete(context: StepContext, services: StepServices) -> StepResult:
    """Have the volume's service say that it is in use, unless no host has it yet."""
    if context.record.host is not None:
        services.volumes.complete_attachment(_own(context).attachment_id)
    return _changed(context, state=AttachmentState.ATTACHED)


# ---- taken away ------------------------------------------------------------------------------------------------------
def _begin_detaching(context: StepContext, services: StepServices) -> StepResult:
    return StepResult()


def _unmark(context: StepContext, services: StepServices) -> StepResult:
    """Return the volume is in use, as it was, by a guest that does not let go of it."""
    if context.run.cancel_requested:
        return StepResult()
    services.volumes.roll_detaching(_own(context).volume_id)
    return _changed(context, state=AttachmentState.ATTACHED)


def _detach(context: StepContext, services: PassiveServices) -> StepResult:
    return guests.ask_to_let_go(context, services, DetachVolume, volume=_own(context))


def _put_on(context: StepContext, services: PassiveServices) -> StepResult:
    return guests.ask_back(context, services, AttachVolume, volume=_own(context))


def _give_back(context: StepContext, services: StepServices) -> StepResult:
    services.volumes.delete_attachment(_own(context).attachment_id)
    return _forgotten(context)


# ---- extended --------------------------------------------------------------------------------------------------------
def _extend(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the guest see the size that the volume has now."""
    if context.record.host is not None:
        guests.check_not_fenced(context, services, context.record.host)
        guests.ask(context, services, ExtendVolume, volume=_own(context))
    return _changed(context, state=AttachmentState.ATTACHED)


def _stay_small(context: StepContext, services: PassiveServices) -> StepResult:
    return _changed(context, state=AttachmentState.ATTACHED)


# ---- made with a server ----------------------------------------------------------------------------------------------
def _prepare(context: StepContext, services: StepServices) -> StepResult:
    """Make the volumes that the server was asked for with, let its host reach them, then give it its ports. A volume
    may take long to be made."""
    prepared = _prepared(context, services)
    done = networks.allocate(context, services)
    return replace(done, changes=done.changes.followed_by(prepared))


def _prepared(context: StepContext, services: StepServices) -> ServerChanges:
    record = context.record
    wanted = [(number, one) for number, one in enumerate(record.spec.block_devices) if one.is_volume]
    if len(record.volumes) == len(wanted):
        return bound(context, services, record.host or "")
    there = [_ensure(services, record, number, one) for number, one in wanted]
    for one in there:
        if one.status not in (*_BECOMING, "available", "in-use", "reserved", "attaching"):
            raise errors.GuestFailed(f"Volume {one.id} did not finish being created: its status is {one.status}.")
    if any(one.status in _BECOMING for one in there):
        raise Wait(min(2.0 ** min(context.run.attempt, 3), services.resend_after))
    held = {volume_id: attachment_id for attachment_id, volume_id in services.volumes.list_attachments(record.id)}
    connector = services.connector(record.host or "")
    volumes: Volumes = ()
    pairs = zip(wanted, there, strict=True)
    for (number, device), volume in sorted(pairs, key=lambda pair: pair[0][1].boot_index != 0):
        attachment_id = held.get(volume.id) or services.volumes.create_attachment(volume.id, record.id)
        given = _given(record, number, device, volume, volumes)
        volumes = (*volumes, _bound(services, replace(given, attachment_id=attachment_id), connector))
    return ServerChanges(volumes=volumes)


def _given(record: ServerRecord, number: int, device: BlockDevice, volume: Volume, others: Volumes) -> AttachedVolume:
    """Return the volume as the server has it, under a name that neither its local disks nor ``others`` have."""
    bus = device.disk_bus or bus_of(record.spec)
    return AttachedVolume(
        id=_mark(record.id, number),
        volume_id=volume.id,
        device=free_device(bus, () if device.boot_index == 0 else names_taken(record.spec, others)) or "",
        bus=bus,
        device_type=device.device_type,
        boot_index=device.boot_index,
        tag=device.tag,
        delete_on_termination=device.delete_on_termination,
        multiattach=volume.multiattach,
        size_gb=volume.size_gb,
    )


def _ensure(services: StepServices, record: ServerRecord, number: int, device: BlockDevice) -> Volume:
    """Return the volume of a server's device, which is made unless it is there."""
    if device.source == DeviceSource.VOLUME:
        return services.volumes.get_volume(device.source_id)
    wanted = NewVolume(
        mark=_mark(record.id, number),
        project_id=record.spec.project_id,
        user_id=record.spec.user_id,
        size_gb=device.size_gb,
        volume_type=device.volume_type,
        image_id=device.source_id if device.source == DeviceSource.IMAGE else "",
        snapshot_id=device.source_id if device.source == DeviceSource.SNAPSHOT else "",
        cell=services.cell,
    )
    return services.volumes.ensure_volume(wanted)


def _mark(server_id: str, number: int) -> str:
    """Return the id of a device, the same whenever it is asked for."""
    return str(uuid.uuid5(uuid.UUID(server_id), f"device {number}"))


def _unprepare(context: StepContext, services: StepServices) -> StepResult:
    """Take all of it back: what was made for a server that never was is deleted."""
    spec = context.record.spec
    released = release(context, services)
    for number, device in enumerate(spec.block_devices):
        if device.is_volume and device.source != DeviceSource.VOLUME and not context.run.arguments.keep_ports:
            made = services.volumes.find_volume(_mark(spec.id, number), project_id=spec.project_id)
            if made is not None:
                _unless_refused(functools.partial(services.volumes.delete_volume, made.id), made.id)
    done = networks.release(context, services)
    return replace(done, changes=done.changes.followed_by(released))


# ---- with the whole server -------------------------------------------------------------------------------------------
def bound(context: StepContext, services: StepServices, host: str) -> ServerChanges:
    """Have all volumes of the server let this host reach them, and none that it was on before."""
    held = context.record.volumes
    if not held:
        return ServerChanges()
    connector = services.connector(host)
    return ServerChanges(volumes=tuple(_bound(services, one, connector) for one in held))


def reserved(context: StepContext, services: StepServices) -> ServerChanges:
    """Keep all volumes of a server that is on no host any more for it, and let none reach them."""
    held = context.record.volumes
    if not held:
        return ServerChanges()
    return ServerChanges(volumes=tuple(reserve_again(services, one, context.record.id) for one in held))


def reserve_again(services: StepServices, one: AttachedVolume, server_id: str) -> AttachedVolume:
    """Keep a volume for its server, by another attachment that no host was let reach it by."""
    attachment_id = services.volumes.create_attachment(one.volume_id, server_id)
    if attachment_id != one.attachment_id:
        services.volumes.delete_attachment(one.attachment_id)
    return replace(one, attachment_id=attachment_id, connection={})


def reimage(context: StepContext, services: StepServices) -> StepResult:
    """Have the image of a rebuild written to the server's root volume, which no host reaches meanwhile. Asked twice it
    is written twice: the same. Raises Wait until it is; GuestFailed where that fails."""
    image_id, root = context.run.arguments.reimage, _root_of(context.record)
    if not image_id or root is None:
        return StepResult()
    root = _with_own_attachment(services, root, context.record.id)
    status = services.volumes.get_volume(root.volume_id).status
    asked = context.run.outputs.put_off > 0
    if asked and status not in ("downloading", "reserved", "in-use"):
        raise errors.GuestFailed(f"Volume {root.volume_id} could not be written: its status is {status}.")
    if not asked or status == "downloading":
        if status != "downloading":
            services.volumes.reimage_volume(root.volume_id, image_id)
        raise Wait(min(2.0 ** min(context.run.attempt, 3), services.resend_after), put_off=1)
    return StepResult(changes=_root_bound(context, services, root))


def have_root_again(context: StepContext, services: StepServices) -> StepResult:
    """Let the server's host reach its root volume again, whatever it has by now. One that cannot be had stays the
    server's, for a rebuild to come. A delete that follows needs none of it."""
    root = _root_of(context.record)
    if not context.run.arguments.reimage or root is None or context.run.cancel_requested:
        return StepResult()
    try:
        root = _with_own_attachment(services, root, context.record.id)
        return StepResult(changes=_root_bound(context, services, root))
    except errors.FixRequest as error:
        LOG.warning("root volume not had again", extra={"volume": root.volume_id, "why": error.message})
        return StepResult(changes=ServerChanges(volumes=with_changed(context.record.volumes, root)))


def _with_own_attachment(services: StepServices, one: AttachedVolume, server_id: str) -> AttachedVolume:
    """Return a volume with another attachment than the one that it had: an earlier attempt may have made it, and let
    the host reach the volume by it."""
    known = [attachment_id for attachment_id, volume_id in services.volumes.list_attachments(server_id)
             if volume_id == one.volume_id and attachment_id != one.attachment_id]  # fmt: skip
    if not known:
        return reserve_again(services, one, server_id)
    services.volumes.delete_attachment(one.attachment_id)
    return replace(one, attachment_id=known[0], connection={})


def _root_of(record: ServerRecord) -> AttachedVolume | None:
    return next((one for one in record.volumes if one.is_root), None)


def _root_bound(context: StepContext, services: StepServices, root: AttachedVolume) -> ServerChanges:
    given = _bound(services, root, services.connector(context.record.host or ""))
    return ServerChanges(volumes=with_changed(context.record.volumes, given))


def _bound(services: StepServices, volume: AttachedVolume, connector: Any) -> AttachedVolume:
    told = services.volumes.update_attachment(volume.attachment_id, connector)
    services.volumes.complete_attachment(volume.attachment_id)
    return replace(volume, connection=told)


def release(context: StepContext, services: StepServices) -> ServerChanges:
    """Give back all volumes of a server of which nothing is left, and delete those that go with it. One that its
    service does not let go, as its owner has a use for it, stays the owner's."""
    record = context.record
    held = record.volumes
    made = any(one.is_volume for one in record.spec.block_devices)
    if not (held or made) or context.run.arguments.keep_ports:
        return ServerChanges()
    attachments = {one.attachment_id: one.volume_id for one in held}
    if made:  # some may have been made just before a process died
        attachments |= dict(services.volumes.list_attachments(record.id))
    for attachment_id, volume_id in attachments.items():
        _unless_refused(functools.partial(services.volumes.delete_attachment, attachment_id), volume_id)
    for one in held:
        if one.delete_on_termination:
            _unless_refused(functools.partial(services.volumes.delete_volume, one.volume_id), one.volume_id)
    return ServerChanges(volumes=())


def _unless_refused(act: Callable[[], None], volume_id: str) -> None:
    try:
        act()
    except errors.FixRequest as error:
        LOG.warning("volume not released", extra={"volume": volume_id, "why": error.message})


prepare = Step(
    name="networks.allocate_ports", do=_prepare, undo=_unprepare, stays=True, task_state=TaskState.NETWORKING
)
connect = Step(name="volumes.connect", do=_connect, undo=_disconnect)
attach = PassiveStep(name="volumes.attach", do=_attach, undo=_take_off)
complete = Step(name="volumes.complete", do=_complete)
mark = Step(name="volumes.mark", do=_begin_detaching, undo=_unmark)
detach = PassiveStep(name="volumes.detach", do=_detach, undo=_put_on)
give_back = Step(name="volumes.give_back", do=_give_back, commit=True)
extend = PassiveStep(name="volumes.extend", do=_extend, undo=_stay_small)
