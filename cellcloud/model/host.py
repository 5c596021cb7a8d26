"""Host: a machine that runs guests, what it reports, and the services beside it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from cellcloud.model.numa import NumaCell, Placed
from cellcloud.model.pci import PciPool


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What a driver says of its machine. Memory MiB, disk GiB; ``*_used`` as the hypervisor sees it.

    What follows ``virt_type`` is as in HostState, but for ``resources``: further resource classes and how much of each.
    ``numa`` and ``pci_pools``: what there is for the cell's servers, without what they use of it. ``tunnel_address``:
    where it takes packets of guests' networks, if not at ``host_ip``; ``external_networks``: whether it leads to them.
    ``boot_id``: of the machine's present boot, by which services tell whether it is their own; "" where all are on one.
    """

    hypervisor_hostname: str
    hypervisor_type: str
    hypervisor_version: int
    host_ip: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    cpu_info: dict[str, object] = field(default_factory=dict)
    uptime: str = ""
    traits: tuple[str, ...] = ()
    virt_type: str = "qemu"
    supported_instances: tuple[tuple[str, str, str], ...] = ()
    disk_available_least: int | None = None
    stats: dict[str, str | None] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    numa: tuple[NumaCell, ...] | None = None
    pci_pools: tuple[PciPool, ...] = ()
    resources: dict[str, int] = field(default_factory=dict)
    tunnel_address: str = ""
    external_networks: bool = False
    boot_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """Sent by a compute service at start and then at each heartbeat. Ratios and reserves come from its options.

    ``queue``: the server name its compute service answers to; empty: the host's own name. One process with the fake
    driver serves all its hosts under one.
    """

    host: str
    facts: HostFacts
    zone: str = "nova"
    cpu_ratio: float = 4.0
    memory_ratio: float = 1.0
    disk_ratio: float = 1.0
    reserved_vcpus: int = 0
    reserved_memory_mb: int = 512
    reserved_disk_gb: int = 0
    started_at: str = ""
    queue: str = ""

    @property
    def inventory(self) -> dict[str, tuple[int, int, float]]:
        """Resource class -> its total, what is reserved of it, and its allocation ratio."""
        facts = self.facts
        return {
            "VCPU": (facts.vcpus, self.reserved_vcpus, self.cpu_ratio),
            "MEMORY_MB": (facts.memory_mb, self.reserved_memory_mb, self.memory_ratio),
            "DISK_GB": (facts.disk_gb, self.reserved_disk_gb, self.disk_ratio),
        } | {name: (total, 0, 1.0) for name, total in facts.resources.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a host has free of each resource class. ``usable``: up and enabled."""

    zone: str
    usable: bool
    free: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMachine:
    """What tells machines of one name apart: ``identity`` lies in the host's state directory, ``place`` is this start
    of this machine and this copy of that directory."""

    identity: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldNames:
    """``seconds`` from the question on the names are the machine's, but for those ``refused``, with why."""

    seconds: float
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """A named set of hosts with metadata; an administrator makes them. ``hosts`` are host names."""

    id: int
    uuid: str = ""
    name: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None

    @property
    def zone(self) -> str | None:
        """The availability zone that it gives to its hosts."""
        return self.metadata.get("availability_zone")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a monitor of the host measured; percentages from 0 to 100."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedServer:
    """A server on a host, with what the image-properties weigher reads of its image, and where it lies on the host's
    NUMA cells and devices. ``claim_id``: by which claim; "": by its own. One that moves may be there twice."""

    uuid: str
    image_props: dict[str, str] = field(default_factory=dict)
    placed: Placed | None = None
    claim_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """A host as the scheduler sees it: ``free`` = capacity (ratio applied) - used, per resource class.

    The figures below ``queue`` are what Nova's filters and weighers read of a hypervisor, under Nova's names. Where
    one is None it follows from ``capacity`` and ``used``: ``vcpus_used`` from VCPU, ``free_ram_mb`` from MEMORY_MB,
    ``free_disk_gb`` from DISK_GB. ``node`` "": the host's own name; two nodes may share a host. ``stats``: text to
    text or None (``num_instances`` None: ``servers``). ``hosted``: the servers on it; what they have ``placed`` comes
    off ``numa`` and ``pci_pools``. Aggregates are not part of it: see Aggregate.
    """

    host: str
    zone: str
    enabled: bool
    up: bool
    capacity: dict[str, int]
    used: dict[str, int]
    generation: int
    traits: tuple[str, ...] = ()
    servers: int = 0
    queue: str = ""
    node: str = ""
    uuid: str = ""
    cell: str = ""
    vcpus: int | None = None
    vcpus_used: int | None = None
    memory_mb: int | None = None
    memory_mb_used: int | None = None
    free_ram_mb: int | None = None
    local_gb: int | None = None
    local_gb_used: int | None = None
    free_disk_gb: int | None = None
    disk_available_least: int | None = None
    cpu_allocation_ratio: float = 1.0
    ram_allocation_ratio: float = 1.0
    disk_allocation_ratio: float = 1.0
    hypervisor_type: str | None = None
    hypervisor_version: int | None = None
    host_ip: str | None = None
    cpu_info: dict[str, object] = field(default_factory=dict)
    supported_instances: tuple[tuple[str, str, str], ...] = ()
    stats: dict[str, str | None] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    numa: tuple[NumaCell, ...] | None = None
    pci_pools: tuple[PciPool, ...] = ()
    hosted: tuple[HostedServer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host with all its cell knows of it; the source of os-hypervisors."""

    id: str
    host: str
    zone: str
    facts: HostFacts
    enabled: bool
    disabled_reason: str | None
    forced_down: bool
    up: bool
    capacity: dict[str, int]
    used: dict[str, int]
    total: dict[str, int]
    servers: int
    created_at: dt.datetime | None
    last_seen: dt.datetime | None
    cell: str = ""
    queue: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecord:
    """A heartbeat row; the source of os-services. ``binary`` in Nova's names (nova-compute, nova-scheduler...)."""

    id: str
    binary: str
    host: str
    zone: str
    enabled: bool = True
    disabled_reason: str | None = None
    forced_down: bool = False
    up: bool = True
    created_at: dt.datetime | None = None
    last_seen: dt.datetime | None = None
    cell: str = ""
