"""The disks that a server is asked for with: block_device_mapping_v2 and its older form, read and checked before
anything is accepted. Source of the rules, and of the texts: Nova's.

What its image and its flavor give a server anyway is not repeated: only other disks are devices of its spec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.model import image_properties
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import MAPPING, Image
from cellcloud.model.image_properties import check_size
from cellcloud.model.volume import BlockDevice, DeviceSource, Volume
from top_api.operations.active_image import get_active_image
from top_api.operations.image_mappings import is_root, merged, name_of, read_mappings
from top_api.operations.volume_attachments import MULTIATTACH_SINCE, get_volume, service_of
from top_api.schemas.types import is_true
from top_api.services import ApiServices

GIB = 1 << 30
BUSES = ("virtio", "scsi", "sata", "usb", "ide")
DEVICE_TYPES = ("disk", "cdrom")
BOOT_SEQUENCE = (
    "Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping combination is not "
    "valid."
)
_ROOTS = ("vda", "/dev/vda", "sda", "/dev/sda", "hda", "/dev/hda")
_OF_DISKS = (MAPPING, "bdm_v2", "root_device_name", "mappings")  # properties that say which disks there are
Given = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedDisks:
    """``image``: of the root disk, or what its volume says of one, without an id. ``cell``: the only one that reaches
    the volumes, "" for any."""

    image: Image
    devices: tuple[BlockDevice, ...] = ()
    cell: str = ""


def invalid(details: str) -> errors.Invalid:
    """Return the refusal of a mapping."""
    return errors.Invalid(f"Block Device Mapping is Invalid: {details}")


def read(
    services: ApiServices,
    context: RequestContext,
    server: Given,
    flavor: Flavor,
    *,
    count: int,
    version: tuple[int, int],
) -> WantedDisks:
    """Return the disks of a request for ``count`` servers. Raises Invalid, Forbidden, Unreachable."""
    image_id = server.get("imageRef") or ""
    newer, older = server.get("block_device_mapping_v2") or (), server.get("block_device_mapping") or ()
    if newer and older:
        raise errors.Invalid("Using different block_device_mapping syntaxes is not allowed in the same request.")
    if newer or older:
        services.enforcer.check(context, "os_compute_api:servers:create:attach_volume")
    described = image_id or next((one.get("uuid") for one in newer if is_root(one) and _is_of_image(one)), None)
    image = get_active_image(services, context, str(described)) if described else None
    own = _own_devices(image)
    given = _given(newer, older, image_id, own)
    devices = [_device(one, image_id) for one in given]
    local_root = next((one for one in devices if one.source == DeviceSource.IMAGE and not one.is_volume), None)
    if local_root is not None:
        image_id = image_id or local_root.source_id
    devices = [one for one in devices if one is not local_root]
    _check_boot_order(devices, bool(image_id) and (local_root is not None or not newer) and not any(map(is_root, own)))
    _check_local(devices, flavor)
    reader = _SourceReader(services, context, count, version)
    for one in devices:
        reader.look_at(one)
    root = next((one for one in devices if one.boot_index == 0), None)
    described_by = image if image is not None and (image_id or own) else None
    if root is not None:
        image = reader.image_of(root, flavor, described_by)
    else:
        image = _without_disks(image or get_active_image(services, context, image_id))
    for mapping in given:
        _check_bus(mapping, image)
    if len(reader.cells) > 1:
        raise invalid("its volumes are in different cells, and no host reaches them all.")
    return WantedDisks(image=image, devices=tuple(devices), cell=min(reader.cells or reader.left, default=""))


def _own_devices(image: Image | None) -> list[Given]:
    """Return the devices that an image says its servers have, in the newer form."""
    if image is None:
        return []
    own, is_newer = read_mappings(image)
    if is_newer:
        return own
    root = image.properties.get("root_device_name") or _ROOTS[0]
    return _from_older(own, (root, root.removeprefix("/dev/"), f"/dev/{root}"))


def _is_of_image(given: Given) -> bool:
    return given.get("source_type") == DeviceSource.IMAGE


def _given(newer: Sequence[Given], older: Sequence[Given], image_id: str, own: Sequence[Given]) -> list[Given]:
    """Return all mappings in the newer form: those asked for, and those of the image's ``own`` that are not left out.
    Where the image has a root disk of its own, the one that clients add for it means that."""
    has_root = any(map(is_root, own))
    asked = _from_older(
        [one for one in older if not is_true(one.get("no_device"))], () if image_id or has_root else _ROOTS
    )
    asked += [one for one in newer if not (has_root and is_root(one) and _is_of_image(one))]
    left_out = [one for one in (*newer, *older) if is_true(one.get("no_device"))]
    if {name_of(one) for one in left_out} - {name_of(one) for one in own}:
        raise invalid("only devices that the image names can be left out by no_device.")
    return [one for one in merged(own, [*asked, *left_out]) if not is_true(one.get("no_device"))]


def _from_older(older: Sequence[Given], roots: Sequence[str]) -> list[Given]:
    """Return mappings of the older form in the newer: the first that is called as one of the ``roots`` is the root
    disk."""
    found: list[dict[str, Any]] = []
    for one in older:
        shared = {name: one[name] for name in ("delete_on_termination", "volume_size", "device_name") if name in one}
        virtual = str(one.get("virtual_name") or "")
        if virtual == "swap" or virtual.startswith("ephemeral"):
            form = {"guest_format": "swap"} if virtual == "swap" else {}
            found.append({"source_type": "blank", "destination_type": "local", **form, **shared})
        elif one.get("snapshot_id"):
            found.append(
                {"source_type": "snapshot", "uuid": one["snapshot_id"], "destination_type": "volume", **shared}
            )
        elif one.get("volume_id"):
            found.append({"source_type": "volume", "uuid": one["volume_id"], **shared})
        else:
            raise invalid("Unrecognized legacy format.")
    if roots:
        root = next((one for one in found if one.get("device_name") in roots), None)
        for one in found:
            one["boot_index"] = 0 if one is root else -1
    return list(found)


def _device(given: Given, image_id: str) -> BlockDevice:
    source, known = given.get("source_type"), given.get("uuid")
    if source is None:
        raise invalid("Some required fields are missing")
    if source not in tuple(DeviceSource) or given.get("destination_type", "local") not in ("local", "volume"):
        raise invalid("Invalid source_type or destination_type.")
    is_volume = given.get("destination_type", "volume" if source in ("volume", "snapshot") else "local") == "volume"
    if source == DeviceSource.BLANK and known:
        raise invalid("Invalid device UUID.")
    if source != DeviceSource.BLANK and not known:
        raise invalid("Missing device UUID.")
    index, size = _index(given.get("boot_index")), _size(given.get("volume_size"))
    if (
        source == DeviceSource.IMAGE
        and not is_volume
        and (index not in (0, None) or image_id not in ("", known) or size)
    ):
        raise invalid("Mapping image to local is not supported.")
    if source in (DeviceSource.VOLUME, DeviceSource.SNAPSHOT) and not is_volume:
        raise invalid(f"Mapping {source} to local is not supported.")
    _check_words(given, str(source), is_volume=is_volume, size=size)
    is_swap = given.get("guest_format") == "swap"
    return BlockDevice(
        source=DeviceSource(source),
        is_volume=is_volume,
        source_id=str(known or ""),
        boot_index=index,
        size_gb=size if is_volume else 0,
        size_mb=0 if is_volume else size << (0 if is_swap else 10),
        is_swap=is_swap,
        delete_on_termination=is_true(given.get("delete_on_termination", False)),
        volume_type=str(given.get("volume_type") or ""),
        disk_bus=str(given.get("disk_bus") or "") if is_volume else "",
        device_type=str(given.get("device_type") or "disk"),
        tag=given.get("tag"),
    )


def _check_words(given: Given, source: str, *, is_volume: bool, size: int) -> None:
    """Refuse what does not go together, or is not made here."""
    if given.get("volume_type") and not is_volume:
        raise invalid("Specifying a volume_type with destination_type=local is not supported.")
    if given.get("volume_type") and source == DeviceSource.VOLUME:
        raise invalid("Specifying volume type to existing volume is not supported.")
    if is_volume and source == DeviceSource.IMAGE and not size:
        raise invalid("Images with destination_type 'volume' need to have a non-zero size specified")
    if is_volume and source == DeviceSource.BLANK and not size:
        raise invalid("Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size")
    bus, form = given.get("disk_bus"), given.get("guest_format")
    if bus and bus not in BUSES:
        raise invalid(f"Disk bus {str(bus)[:32]} for the disk device is not valid.")
    if (given.get("device_type") or "disk") not in (DEVICE_TYPES if is_volume else ("disk",)):
        raise invalid("a device of that type is not offered.")
    if form and (form != "swap" or source != DeviceSource.BLANK or is_volume):
        raise invalid("a disk is not formatted here: only swap disks have a guest_format.")
    if given.get("tag") and not is_volume and source == DeviceSource.BLANK:
        raise invalid("a blank local disk has no tag here.")


def _index(given: object) -> int | None:
    """Return the place in the order of booting; None: it is not booted from."""
    text = str(-1 if given is None else given)
    if not text.removeprefix("-").isdecimal() or len(text) > 4:
        raise invalid("boot_index must be an integer.")
    return None if int(text) < 0 else int(text)


def _size(given: object) -> int:
    if given in (None, ""):
        return 0
    text = str(given)
    if not text.isdecimal() or len(text) > 9:
        raise invalid("volume_size must be a non-negative integer.")
    return int(text)


def _check_boot_order(devices: Sequence[BlockDevice], has_local_root: bool) -> None:
    """Check that there is one root disk, and no gap behind it."""
    order = sorted([one.boot_index for one in devices if one.boot_index is not None] + [0] * has_local_root)
    if not order:
        if not devices:
            raise errors.Invalid("Invalid imageRef provided.")
        raise errors.Invalid(BOOT_SEQUENCE)
    if order != list(range(len(order))):
        raise errors.Invalid(BOOT_SEQUENCE)


def _check_local(devices: Sequence[BlockDevice], flavor: Flavor) -> None:
    """Check that blank local disks are within what the flavor gives. Raises Invalid."""
    local = [one for one in devices if not one.is_volume]
    if any(one.boot_index is not None for one in local):
        raise errors.Invalid(BOOT_SEQUENCE)
    if len([one for one in local if one.is_swap]) > 1:
        raise invalid("More than one swap drive requested.")
    if sum(one.size_mb for one in local if one.is_swap) > flavor.swap_mb:
        raise invalid("Swap drive requested is larger than instance type allows.")
    if sum(one.size_mb or flavor.ephemeral_gb << 10 for one in local if not one.is_swap) > flavor.ephemeral_gb << 10:
        raise invalid("Ephemeral disks requested are larger than the instance type allows.")
    if any(not one.size_mb for one in local):
        raise invalid("a blank local disk needs a volume_size here.")


def _check_bus(given: Given, image: Image) -> None:
    usual = image.properties.get("hw_disk_bus", "virtio")
    is_local = given.get("destination_type") != "volume" and given["source_type"] in (
        DeviceSource.IMAGE,
        DeviceSource.BLANK,
    )
    if is_local and given.get("disk_bus") not in (None, "", usual):
        raise invalid("a local disk's bus is said by its image's hw_disk_bus.")


class _SourceReader:
    """Looks at the sources of volumes: what they are, and which cells reach them."""

    def __init__(self, services: ApiServices, context: RequestContext, count: int, version: tuple[int, int]) -> None:
        self._services = services
        self._context = context
        self._count = count
        self._version = version
        self._volumes: dict[str, Volume] = {}
        self.cells: set[str] = set()
        self.left: set[str] = set()  # by volumes that follow the server, where it has to go elsewhere

    def look_at(self, device: BlockDevice) -> None:
        """Check that a volume can be made of the device's source, or that it can be had. Raises Invalid."""
        if device.is_volume:
            service_of(self._services)
        if device.source == DeviceSource.VOLUME:
            self._look_at_volume(device.source_id)
        elif device.source == DeviceSource.SNAPSHOT:
            self._look_at_snapshot(device.source_id)
        elif device.source == DeviceSource.IMAGE and device.is_volume:
            get_active_image(self._services, self._context, device.source_id)

    def _look_at_snapshot(self, snapshot_id: str) -> None:
        """Check that a snapshot can be had; what is made of it is where its own volume is. Raises Invalid."""
        who, volumes = self._context, service_of(self._services)
        try:
            snapshot = volumes.get_snapshot(snapshot_id, project_id=who.project_id, is_admin=who.is_admin)
        except errors.NotFound as error:
            raise invalid(f"failed to get snapshot {snapshot_id[:64]}.") from error
        with suppress(errors.NotFound):
            self.cells.update({volumes.get_volume(snapshot.volume_id).cell} - {""})

    def _look_at_volume(self, volume_id: str) -> None:
        if self._count > 1:
            raise errors.Invalid("Cannot attach one or more volumes to multiple instances")
        if volume_id in self._volumes:
            raise errors.Invalid(f"Invalid volume: volume {volume_id} already attached")
        try:
            volume = get_volume(self._services, self._context, volume_id)
        except errors.NotFound as error:
            raise invalid(f"failed to get volume {volume_id[:64]}.") from error
        if volume.multiattach and self._version < MULTIATTACH_SINCE:
            raise errors.Invalid("Multiattach volumes are only supported starting with compute API version 2.60.")
        if volume.status != "available" and not (volume.multiattach and volume.status in ("in-use", "reserved")):
            raise errors.Invalid(
                f"Invalid volume: volume '{volume_id}' status must be 'available'. Currently in '{volume.status}'"
            )
        if volume.encrypted:
            raise errors.Invalid(f"Invalid volume: volume {volume_id} is encrypted, which no host here can open.")
        self._volumes[volume_id] = volume
        (self.left if volume.follows else self.cells).update({volume.cell} - {""})

    def image_of(self, root: BlockDevice, flavor: Flavor, described_by: Image | None) -> Image:
        """Return what the root volume says, or will say, of the image that it is made from; where the server was asked
        for with an image beside it, what that says. Raises Invalid for one that nothing boots from, or that is too
        small."""
        if described_by is not None and described_by.id != root.source_id:
            if 0 < root.size_gb < described_by.min_disk:
                raise errors.Invalid(
                    "Volume is smaller than the minimum size specified in image metadata. Volume size is "
                    f"{root.size_gb * GIB} bytes, minimum size is {described_by.min_disk * GIB} bytes."
                )
            properties, min_ram = dict(described_by.properties), described_by.min_ram
        elif root.source == DeviceSource.IMAGE:
            image = get_active_image(self._services, self._context, root.source_id)
            needed, size = max(image.min_disk * GIB, image.virtual_size or image.size), root.size_gb * GIB
            if size < needed:
                raise errors.Invalid(
                    "Volume is smaller than the minimum size specified in image metadata. "
                    f"Volume size is {size} bytes, minimum size is {needed} bytes."
                )
            properties, min_ram = dict(image.properties), image.min_ram
        elif root.source == DeviceSource.VOLUME:
            volume = self._volumes[root.source_id]
            if not volume.bootable:
                raise errors.Invalid(f"Block Device {volume.id} is not bootable.")
            properties, min_ram = dict(volume.image), int(volume.image.get("min_ram") or 0)
        else:
            properties, min_ram = {}, 0
        if flavor.memory_mb < min_ram:
            raise errors.Invalid("Flavor's memory is too small for requested image.")
        return _without_disks(Image(id="", disk_format="raw", properties=image_properties.known(properties)))


def _without_disks(image: Image) -> Image:
    """Return an image without those of its properties that say which disks there are. Raises Invalid for one that has
    nothing else."""
    check_size(image.properties)
    if image.id and not image.size and image.properties.get(MAPPING):
        raise errors.Invalid(f"Image {image.id} is unacceptable: it has no data.")
    return replace(image, properties={k: v for k, v in image.properties.items() if k not in _OF_DISKS})
