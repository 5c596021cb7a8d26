"""Create: from a validated body to servers that are accepted for good.

The servers are accepted in one transaction (``admission``); then the request is answered and the intents are carried
to a cell. A client's own key makes a repeated request return the same servers for ever.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import flavors, idempotency, keypairs, server_groups
from cellcloud.db.idempotency import KeptAnswer
from cellcloud.model import flavor_image_validation, hints, image_properties, large_fields
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.keypair import Keypair
from cellcloud.model.network import RequestedNetwork
from cellcloud.model.server import ServerSpec
from cellcloud.model.server_group import ServerGroup
from cellcloud.safe_regex import Pattern
from top_api import quota_limits
from top_api.microversion import LAST
from top_api.operations import block_devices, requested_destination
from top_api.request_acceptance import CreateRequest, CreateResult, KeyTaken
from top_api.schemas.types import is_true, shortest_address
from top_api.services import ApiServices

MOST_AT_ONCE = 1000  # servers in one request
MOST_WRITTEN = 8 << 20  # bytes of their records
GIB = 1 << 30
_KEY = Pattern(r"[\x21-\x7e]+", most=255)


def create_servers(
    services: ApiServices,
    context: RequestContext,
    body: dict[str, Any],
    *,
    key: str | None = None,
    version: tuple[int, int] = LAST,
) -> CreateResult:
    """Accept the servers a validated body asks for.

    Raises Invalid for what does not exist or does not fit together, QuotaExceeded, Forbidden, Conflict (the key was
    used for another request), Unreachable (an outside service).
    """
    server = body["server"]
    password = server.get("adminPass") or secrets.token_urlsafe(9)
    body_hash = ""
    if key is not None:
        if not _KEY.matches(key):
            raise errors.Invalid("The Idempotency-Key header takes 1 to 255 printable characters without spaces.")
        body_hash = idempotency.hash_of(msgspec.json.encode(body, order="deterministic"))
        with services.database.read() as connection:
            kept = idempotency.find_answer(connection, context.project_id, key)
        if kept is not None:
            return _repeat(kept, body_hash, _password(server, key))
        password = _password(server, key)
    wanted = _with_password(_wanted(services, context, body, version), password)
    try:
        accepted, made = services.admission.accept(context, wanted, key=key, body_hash=body_hash)
    except KeyTaken:
        with services.database.read() as connection:
            kept = idempotency.find_answer(connection, context.project_id, key or "")
        if kept is None:
            raise errors.Busy("A request with the same key is being worked on; try again shortly.") from None
        return _repeat(kept, body_hash, password)
    services.dispatch(made)
    return replace(accepted, admin_pass=password)


def _password(server: dict[str, Any], key: str) -> str:
    """Return the same for each repetition."""
    given = server.get("adminPass")
    if given:
        return str(given)
    digest = hmac.digest(key.encode(), msgspec.json.encode(server, order="deterministic"), hashlib.sha256)
    return base64.urlsafe_b64encode(digest)[:12].decode()


def _with_password(wanted: CreateRequest, password: str) -> CreateRequest:
    """Give the password to the guest, where it has a config drive to read it from."""
    return replace(wanted, spec=replace(wanted.spec, admin_pass=password)) if wanted.spec.config_drive else wanted


def _repeat(kept: KeptAnswer, body_hash: str, password: str) -> CreateResult:
    if kept.body_hash != body_hash:
        raise errors.Conflict("The Idempotency-Key was used for another request.")
    return replace(msgspec.convert(kept.answer, CreateResult), admin_pass=password)


# ---- what the body asks for ------------------------------------------------------------------------------------------
def _wanted(
    services: ApiServices, context: RequestContext, body: dict[str, Any], version: tuple[int, int]
) -> CreateRequest:
    server = body["server"]
    min_count, max_count = _counts(server)
    flavor, keypair = _flavor_and_keypair(services, context, server)
    disks = block_devices.read(services, context, server, flavor, count=max_count, version=version)
    image = disks.image
    if image.id:
        check_fit(services, context, flavor, image)
    flavor_image_validation.check(flavor, image)
    image = replace(image, properties=image_properties.known(image.properties))
    zone, host = requested_destination.read(services, context, server)
    metadata = server.get("metadata") or {}
    if metadata:
        with services.database.read() as connection:
            quota_limits.check_metadata(
                connection, context.project_id, context.user_id, services.config.quota, len(metadata)
            )
    if server.get("personality"):
        raise errors.QuotaExceeded("Personality file limit exceeded: files are not injected; use user_data.")
    if server.get("trusted_image_certificates"):
        raise errors.Invalid("Trusted image certificates are not offered.")
    networks = _networks(services, context, server.get("networks"), max_count)
    max_count = _within_ports(services, context, networks, min_count, max_count)
    named = (group["name"].strip(" ") for group in server.get("security_groups") or () if "name" in group)
    groups = tuple(dict.fromkeys(named)) or ("default",)
    services.networks.check_security_groups(context.project_id, groups)
    name = server["name"].strip()
    hints_given = _hints(body, services.config.top.scheduler_hints)
    spec = ServerSpec(
        id="",
        name=name,
        project_id=context.project_id,
        user_id=context.user_id,
        flavor=flavor,
        image=image,
        hostname=server.get("hostname") or hostname_of(name),
        description=server.get("description"),
        metadata=metadata,
        tags=tuple(dict.fromkeys(server.get("tags") or ())),
        keypair=keypair,
        user_data=server.get("user_data"),
        config_drive=is_true(server.get("config_drive")) or image.properties.get("img_config_drive") == "mandatory",
        networks=networks,
        security_groups=groups,
        availability_zone=zone,
        host=host,
        scheduler_hints=hints_given,
        group=_group(services, context, hints_given),
        disk_config=_disk_config(server, image),
        access_ip_v4=server.get("accessIPv4", ""),
        access_ip_v6=shortest_address(server.get("accessIPv6", "")),
        reservation_id=f"r-{secrets.token_hex(4)}",
        request_id=context.request_id,
        block_devices=disks.devices,
        cell=disks.cell,
    )
    _check_size(spec, max_count)
    return CreateRequest(spec=spec, min_count=min_count, max_count=max_count)


def _check_size(spec: ServerSpec, count: int) -> None:
    """Refuse servers whose records together would be too much for one request: what is left in them once user data,
    hints and other large fields are kept apart. Raises TooLarge."""
    size = len(msgspec.json.encode(replace(spec, user_data=None, scheduler_hints={})))
    apart = len(large_fields.text_of(spec).encode())
    if count > 1 and count * (size - apart * (apart >= large_fields.LARGE)) > MOST_WRITTEN:
        raise errors.TooLarge(f"The records of {count} such servers are too much for one request: ask for fewer.")


def _counts(server: dict[str, Any]) -> tuple[int, int]:
    min_count = int(server.get("min_count") or 1)
    max_count = int(server.get("max_count") or min_count)
    if min_count > max_count:
        raise errors.Invalid("min_count must be <= max_count")
    if max_count > MOST_AT_ONCE:
        raise errors.Invalid(f"At most {MOST_AT_ONCE} servers can be made in one request.")
    if max_count > 1 and server.get("hostname"):
        raise errors.Invalid("A hostname can be given for one server only.")
    return min_count, max_count


def _flavor_and_keypair(
    services: ApiServices, context: RequestContext, server: dict[str, Any]
) -> tuple[Flavor, Keypair | None]:
    flavor_id = str(server["flavorRef"]).rstrip("/").rsplit("/", 1)[-1]
    key_name = (server.get("key_name") or "").strip(" ")
    with services.database.read() as connection:
        flavor = flavors.find_flavor(connection, flavor_id, project_id=context.project_id)
        keypair = keypairs.find_keypair(connection, context.user_id, key_name) if key_name else None
    if flavor is None or flavor.disabled:
        raise errors.Invalid(f"Flavor {flavor_id[:255]} could not be found.")
    if key_name and keypair is None:
        raise errors.Invalid("Invalid key_name provided.")
    return flavor, keypair


def check_fit(services: ApiServices, context: RequestContext, flavor: Flavor, image: Image) -> None:
    """Refuse a flavor that is too small for the image. Raises Invalid, Forbidden."""
    if flavor.memory_mb < image.min_ram:
        raise errors.Invalid("Flavor's memory is too small for requested image.")
    if flavor.root_gb == 0:  # the disk is as large as the image: only administrators know whether hosts bear that
        if not services.enforcer.allows(context, "os_compute_api:servers:create:zero_disk_flavor"):
            raise errors.Forbidden("Only volume-backed servers are allowed for flavors with zero disk.")
        return
    size = max(image.min_disk * GIB, image.virtual_size or image.size)
    if flavor.root_gb * GIB < size:
        raise errors.Invalid(
            "Flavor's disk is too small for requested image. "
            f"Flavor disk is {flavor.root_gb * GIB} bytes, image is {size} bytes."
        )


def check_partitions(asked: object, image: Image) -> str:
    """Return what the image says of whose the partitions are. Raises Invalid where that is asked for otherwise."""
    said = str(image.properties.get("auto_disk_config") or image.properties.get("hw_auto_disk_config") or "")
    if asked == "AUTO" and said.strip().lower() == "disabled":
        raise errors.Invalid("Requested image has automatic disk resize disabled.")
    return said


def _disk_config(server: dict[str, Any], image: Image) -> str:
    """Whose the partitions are: as the request says, else as the image does."""
    asked = server.get("OS-DCF:diskConfig")
    said = check_partitions(asked, image)
    return str(asked or ("AUTO" if is_true(said) else "MANUAL"))


def _networks(
    services: ApiServices, context: RequestContext, given: Any, count: int
) -> tuple[RequestedNetwork, ...] | None:
    if given == "none":
        return ()
    requested: Sequence[RequestedNetwork] | None = None
    if isinstance(given, list) and given:
        requested = [_network(entry) for entry in given]
        _check_distinct(requested)
        services.enforcer.check(context, "os_compute_api:servers:create:attach_network")
    try:
        found = services.networks.check_networks(context.project_id, requested, count=count)
    except errors.NotFound as error:
        raise errors.Invalid(error.message) from error
    return tuple(found)


def _within_ports(
    services: ApiServices,
    context: RequestContext,
    networks: tuple[RequestedNetwork, ...] | None,
    min_count: int,
    max_count: int,
) -> int:
    """How many servers there are ports for, no more than ``max_count``. Raises QuotaExceeded for less than asked."""
    each = sum(not wanted.port_id for wanted in networks or ())
    left = services.networks.count_free_ports(context.project_id) if each else None
    if left is None:
        return max_count
    if left // each < min_count:
        raise errors.QuotaExceeded("Maximum number of ports exceeded")
    return min(max_count, left // each)


def _check_distinct(requested: Sequence[RequestedNetwork]) -> None:
    """Refuse a port or an address that is asked for twice. Raises Invalid."""
    ports = [wanted.port_id for wanted in requested if wanted.port_id]
    addresses = [(wanted.network_id, wanted.fixed_ip) for wanted in requested if wanted.fixed_ip]
    for port_id in ports:
        if ports.count(port_id) > 1:
            raise errors.Invalid(f"Port {port_id} is requested more than once.")
    for pair in addresses:
        if addresses.count(pair) > 1:
            raise errors.Invalid(f"Fixed IP address {pair[1]} is requested more than once on network {pair[0]}.")


def _network(entry: dict[str, Any]) -> RequestedNetwork:
    port_id, network_id = entry.get("port"), entry.get("uuid")
    if port_id and entry.get("fixed_ip"):
        raise errors.Invalid("Specified Fixed IP cannot be used with a port; the port has its own.")
    if not port_id and not network_id:
        raise errors.Invalid("Bad network format: missing 'uuid'")
    return RequestedNetwork(
        network_id=None if port_id else network_id,
        port_id=port_id,
        fixed_ip=entry.get("fixed_ip"),
        tag=entry.get("tag"),
    )


def _hints(body: dict[str, Any], further: Sequence[str]) -> dict[str, Any]:
    """Scheduler hints under either spelling; both at once would be two values for one thing.

    ``further``: names that filters of the operator's own read.
    """
    spellings = [key for key in ("os:scheduler_hints", "OS-SCH-HNT:scheduler_hints") if body.get(key)]
    if len(spellings) > 1:
        raise errors.Invalid("Scheduler hints are given twice.")
    given: dict[str, Any] = body[spellings[0]] if spellings else {}
    hints.check(given, further)
    return given


def _group(services: ApiServices, context: RequestContext, given: dict[str, Any]) -> ServerGroup | None:
    """Return the group that the hints name, one of the project's. Raises Invalid."""
    named = given.get(hints.GROUP) or ()
    ids = [str(uuid.UUID(one)) for one in (named if isinstance(named, list | tuple) else [named])]
    if not ids:
        return None
    try:
        with services.database.read() as connection:
            return server_groups.get(connection, ids[0], context.project_id)
    except errors.NotFound as error:
        raise errors.Invalid(error.message) from error


def hostname_of(name: str) -> str:
    """Return a host name made of a server's name as Nova makes it; empty when nothing of it can be used."""
    dashed = re.sub(r"[ _.]", "-", name.encode("latin-1", "ignore").decode("latin-1")[:63])
    return re.sub(r"[^a-z0-9-]", "", dashed.lower()).strip("-")
