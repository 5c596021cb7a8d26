"""Rebuild: another image, and what else a request names, for a server where it is."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import keypairs, user_data
from cellcloud.db.engine import transact
from cellcloud.model import codec, flavor_image_validation, image_properties
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.keypair import Keypair
from cellcloud.model.numa_request import guest_numa
from cellcloud.model.operations import Operation, spec_of
from cellcloud.model.run import RunArguments
from cellcloud.model.server import ServerRecord
from top_api import quota_limits
from top_api.operations.active_image import get_active_image
from top_api.operations.create import check_fit, check_partitions
from top_api.operations.server_in_cell import check_may_begin, check_unlocked, tell_cell
from top_api.operations.volume_attachments import service_of
from top_api.schemas.types import is_true
from top_api.services import ApiServices

GIB = 1 << 30
REIMAGED_SINCE = (2, 93)
_PLAIN = {
    "description": "description",
    "accessIPv4": "access_ip_v4",
    "accessIPv6": "access_ip_v6",
    "hostname": "hostname",
}


def rebuild(
    services: ApiServices,
    context: RequestContext,
    record: ServerRecord,
    given: dict[str, Any],
    *,
    version: tuple[int, int],
) -> tuple[ServerRecord, str]:
    """Begin to rebuild a server as a validated body says; the server as it is going to be, and its password.

    Raises Invalid for what does not exist or does not fit together, QuotaExceeded, Conflict, Unreachable.
    """
    check_unlocked(context, record)
    check_may_begin(record, spec_of(Operation.REBUILD))
    if given.get("trusted_image_certificates"):
        raise errors.Invalid("Trusted image certificates are not offered.")
    if given.get("personality"):
        raise errors.QuotaExceeded("Personality file limit exceeded: files are not injected; use user_data.")
    password = given.get("adminPass") or secrets.token_urlsafe(9)
    image = _image(services, context, record, given["imageRef"], version)
    changes = _changes(services, context, record, given, image)
    if record.spec.config_drive:
        changes["admin_pass"] = password
    wanted = replace(record.spec, **changes)
    if wanted.user_data is not None:
        transact(services.database, lambda connection: user_data.keep(connection, user_data.TOP, [wanted]))
    arguments = RunArguments(
        spec_changes=codec.to_plain(changes),
        keep_ephemeral=is_true(given.get("preserve_ephemeral", False)),
        reimage=given["imageRef"] if record.spec.is_volume_backed and version >= REIMAGED_SINCE else "",
    )
    begun = tell_cell(
        services,
        context,
        record,
        Operation.REBUILD,
        lambda conductor, patient: conductor.begin_operation(
            patient, record.id, Operation.REBUILD, codec.to_plain(arguments)
        ),
    )
    shown = changes | {"admin_pass": ""} | ({"user_data_id": ""} if "user_data" in changes else {})
    return replace(begun, spec=replace(begun.spec, **shown)), password


def _image(
    services: ApiServices, context: RequestContext, record: ServerRecord, image_id: str, version: tuple[int, int]
) -> Image:
    image = get_active_image(services, context, image_id, missing="Cannot find image for rebuild")
    flavor = record.spec.flavor
    if record.spec.is_volume_backed:
        _check_volumes(services, record, image, version)
        image = replace(image, id="", disk_format="raw")
    else:
        check_fit(services, context, flavor, image)
    flavor_image_validation.check(flavor, image)
    if _numa(flavor, image) != _numa(flavor, record.spec.image):
        raise errors.Invalid(
            "An instance's NUMA topology cannot be changed as part of a rebuild. Choose another image, or resize it."
        )
    return replace(image, properties=image_properties.known(image.properties))


def _check_volumes(services: ApiServices, record: ServerRecord, image: Image, version: tuple[int, int]) -> None:
    """Check that an image can take the place of what a server's root volume has. Raises Invalid."""
    for held in record.volumes:
        volume = service_of(services).get_volume(held.volume_id)
        if volume.status != "in-use":
            what = f"volume '{volume.id}' status must be 'in-use'. Currently in '{volume.status}' status"
            if not (held.is_root and version >= REIMAGED_SINCE and volume.status in ("reserved", "error")):
                raise errors.Invalid(f"Invalid volume: {what}")
        if not held.is_root:
            continue
        if version < REIMAGED_SINCE and volume.image.get("image_id") != image.id:
            why = "Unable to rebuild with a different image for a volume-backed server."
            raise errors.Invalid(f"Image {image.id} is unacceptable: {why}")
        needed = max(image.min_disk * GIB, image.virtual_size or image.size)
        if needed > volume.size_gb * GIB:
            raise errors.Invalid(
                "Volume is smaller than the minimum size specified in image metadata. "
                f"Volume size is {volume.size_gb * GIB} bytes, minimum size is {needed} bytes."
            )


def _numa(flavor: Flavor, image: Image) -> object:
    return guest_numa(flavor, image_properties.read(image.properties))


def _changes(
    services: ApiServices, context: RequestContext, record: ServerRecord, given: dict[str, Any], image: Image
) -> dict[str, Any]:
    """By names of the server's spec."""
    changes: dict[str, Any] = {"image": image}
    if "name" in given:
        changes["name"] = given["name"].strip()
    if "metadata" in given:
        with services.database.read() as connection:
            quota_limits.check_metadata(
                connection, record.spec.project_id, context.user_id, services.config.quota, len(given["metadata"])
            )
        changes["metadata"] = given["metadata"]
    changes |= {name: given[key] for key, name in _PLAIN.items() if key in given}
    if "OS-DCF:diskConfig" in given:
        check_partitions(given["OS-DCF:diskConfig"], image)
        changes["disk_config"] = given["OS-DCF:diskConfig"]
    if "key_name" in given:
        changes["keypair"] = _keypair(services, context, given["key_name"])
    if "user_data" in given:
        changes["user_data"] = given["user_data"]
    return changes


def _keypair(services: ApiServices, context: RequestContext, name: str | None) -> Keypair | None:
    """Return the caller's, who need not be the server's maker. Raises Invalid."""
    if not name:
        return None
    with services.database.read() as connection:
        found = keypairs.find_keypair(connection, context.user_id, name)
    if found is None:
        raise errors.Invalid("Invalid key_name provided.")
    return found
