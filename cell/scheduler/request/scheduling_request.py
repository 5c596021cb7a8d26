"""A request as selecting sees it: what filters and weighers read, validated.

A ParsedShape is all that decides the outcome of the rules about host classes; equal ones are one object, so that what
was worked out for one is found again. A SchedulingRequest is a shape with the servers it is for and what else is its
own: hosts, a group, hints that name servers. A malformed one raises Invalid when it is made, and fails nothing but
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict, Unpack

from cellcloud import errors
from cellcloud.model import extra_specs as specs_of_flavors
from cellcloud.model import hints as hints_of_tenants
from cellcloud.model import image_properties as properties_of_images
from cellcloud.model.extra_specs import MOST, RequestedSpecs
from cellcloud.model.flavor import Flavor
from cellcloud.model.hints import Network
from cellcloud.model.numa import TopologyRequest
from cellcloud.model.numa_request import topology_request
from cellcloud.model.pci import PciRequest
from cellcloud.model.placement_messages import Destination, PlacedGroup
from cellcloud.model.property_value_types import Value

SHAPES_KEPT = 4096
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ParsedShape:
    """Compared by identity: ``make`` makes one object of equal shapes.

    ``query``: the condition of the JSON filter, or None. ``near``: the network a host's address must be in, or None.
    ``asked``: what extra specs ask of Placement. ``claimed``: what the claim takes where it is fixed beforehand, else
    empty. ``image_id`` None: booted from a volume.
    """

    project_id: str
    flavor: Flavor
    image_id: str | None
    disk_format: str
    image_props: Mapping[str, Value]
    zone: str | None
    query: list[object] | None
    near: Network | None
    topology: TopologyRequest
    asked: RequestedSpecs
    claimed: Mapping[str, int]
    volume_backed: bool
    rebuild: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulingRequest:
    """One decision: hosts for ``servers``, one after the other, best first, with up to ``alternates`` more each.

    Lower case makes no difference in ``ignore_hosts`` and ``force_hosts``. ``checks_forced``: filters are asked even
    of forced hosts. ``topology`` is the shape's until a server of the request is placed. ``moving``: the server that
    is to be moved, which keeps its claims: ``servers`` is then the id of the migration's; else "".
    """

    shape: ParsedShape
    servers: tuple[str, ...]
    topology: TopologyRequest
    alternates: int = 2
    group: PlacedGroup | None = None
    ignore_hosts: tuple[str, ...] = ()
    force_hosts: tuple[str, ...] = ()
    force_nodes: tuple[str, ...] = ()
    destination: Destination | None = None
    different_host: tuple[str, ...] = ()
    same_host: tuple[str, ...] = ()
    checks_forced: bool = False
    moving: str = ""

    @property
    def plain(self) -> bool:
        """Whether nothing but its shape decides: no hosts, servers or groups are named."""
        named = self.ignore_hosts or self.force_hosts or self.force_nodes or self.different_host or self.same_host
        return not (named or self.moving) and self.group is None and self.destination is None


class OwnParts(TypedDict, total=False):
    """The fields of a SchedulingRequest that are its own."""

    alternates: int
    group: PlacedGroup | None
    ignore_hosts: tuple[str, ...]
    force_hosts: tuple[str, ...]
    force_nodes: tuple[str, ...]
    destination: Destination | None
    checks_forced: bool
    moving: str


def make(
    *,
    servers: Sequence[str],
    project_id: str,
    flavor: Flavor,
    image_id: str | None = None,
    disk_format: str | None = None,
    image_properties: Mapping[str, object] | None = None,
    zone: str | None = None,
    hints: Mapping[str, object] | None = None,
    pci_requests: Sequence[PciRequest] = (),
    claimed: Mapping[str, int] | None = None,
    volume_backed: bool = False,
    rebuild: bool = False,
    pci_alias: tuple[str, ...] = (),
    **own: Unpack[OwnParts],
) -> SchedulingRequest:
    """Make a request from its parts; ``own``: what no shape says. Raises Invalid for what is malformed.

    ``pci_alias``: the policy's, for what flavors call devices.
    """
    for name, amount in (claimed or {}).items():
        if not 0 <= amount <= MOST:
            raise errors.Invalid(f"{name[:100]} {amount} is an amount that cannot be.")
    properties = properties_of_images.known(image_properties or {})
    properties_of_images.check_size(properties)
    given = hints_of_tenants.read(hints or {})
    shape = _shape_of(
        project_id,
        _key_of(flavor),
        image_id,
        disk_format or "",
        _pairs(properties),
        zone or None,
        given.query,
        given.near,
        tuple(pci_requests),
        pci_alias,
        tuple(sorted((claimed or {}).items())),
        volume_backed or image_id is None,
        rebuild,
    )
    return SchedulingRequest(
        shape=shape,
        servers=tuple(servers),
        topology=shape.topology,
        different_host=given.different_host,
        same_host=given.same_host,
        **own,
    )


_OF_IMAGES = ("hw_architecture", "img_hv_type", "hw_vm_mode", "img_hv_requested_version")
_RULES: Mapping[str, Callable[[ParsedShape], bool]] = {
    "NUMATopologyFilter": lambda shape: shape.topology.guest is not None,
    "PciPassthroughFilter": lambda shape: bool(shape.topology.devices),
    "ImagePropertiesFilter": lambda shape: any(name in shape.image_props for name in _OF_IMAGES),
    "ComputeCapabilitiesFilter": lambda shape: _has_scope(shape, "capabilities:"),
    "AggregateInstanceExtraSpecsFilter": lambda shape: _has_scope(shape, "aggregate_instance_extra_specs:"),
}
"""Filter -> whether a flavor and an image ask for what it alone sees to."""
ON_REBUILD = frozenset({"ImagePropertiesFilter"})
"""Those that are asked again for a rebuild; the others have seen to what its server keeps."""


def check_obeyed(shape: ParsedShape, filters: Collection[str]) -> None:
    """Raise Invalid where a flavor or an image asks for what no filter of a policy sees to."""
    for rule, asks in _RULES.items():
        if shape.rebuild and rule not in ON_REBUILD:
            continue
        if rule not in filters and asks(shape):
            raise errors.Invalid(f"Flavor or image ask for what is not obeyed here: the policy has no {rule}.")


def _has_scope(shape: ParsedShape, scope: str) -> bool:
    return any(name.startswith(scope) for name in shape.flavor.extra_specs)


_FlavorKey = tuple[str, str, int, int, int, int, int, Pairs]


def _key_of(flavor: Flavor) -> _FlavorKey:
    figures = (flavor.vcpus, flavor.memory_mb, flavor.root_gb, flavor.ephemeral_gb, flavor.swap_mb)
    if not all(0 <= figure <= MOST for figure in figures):
        raise errors.Invalid(f"Flavor {flavor.name[:100]!r} asks for an amount that cannot be.")
    return (flavor.id, flavor.name, *figures, _pairs(flavor.extra_specs))


def _pairs(given: Mapping[str, object]) -> Pairs:
    """Return the pairs in the order given, which decides nothing but the order of what is said about a refusal."""
    return tuple((str(name), str(value)) for name, value in given.items() if value is not None)


def _shape_of(*parts: Hashable) -> ParsedShape:
    """Return the shape that ``_read`` finds; the same object for the same parts. Raises Invalid."""
    found = _read(*parts)
    if isinstance(found, str):
        raise errors.Invalid(found)
    return found


@lru_cache(maxsize=SHAPES_KEPT)
def _read(
    project_id: str,
    flavor_key: _FlavorKey,
    image_id: str | None,
    disk_format: str,
    properties: Pairs,
    zone: str | None,
    query: str | None,
    near: str | None,
    pci_requests: tuple[PciRequest, ...],
    pci_alias: tuple[str, ...],
    claimed: tuple[tuple[str, int], ...],
    volume_backed: bool,
    rebuild: bool,
) -> ParsedShape | str:
    """Return the shape of these, or why there is none: what was refused once is not read again."""
    flavor_id, name, vcpus, memory_mb, root_gb, ephemeral_gb, swap_mb, extra_specs = flavor_key
    flavor = Flavor(
        id=flavor_id,
        name=name,
        vcpus=vcpus,
        memory_mb=memory_mb,
        root_gb=root_gb,
        ephemeral_gb=ephemeral_gb,
        swap_mb=swap_mb,
        extra_specs=dict(extra_specs),
    )
    try:
        props = properties_of_images.read(dict(properties))
        return ParsedShape(
            project_id=project_id,
            flavor=flavor,
            image_id=image_id,
            disk_format=disk_format,
            image_props=props,
            zone=zone,
            query=None if query is None else hints_of_tenants.condition_of(query),
            near=None if near is None else hints_of_tenants.network_of(near),
            topology=topology_request(flavor, props, pci_requests, pci_alias),
            asked=specs_of_flavors.read(flavor.extra_specs),
            claimed=dict(claimed),
            volume_backed=volume_backed,
            rebuild=rebuild,
        )
    except errors.Invalid as error:
        return error.message
