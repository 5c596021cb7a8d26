"""The machine that a flavor and an image ask for: what a driver builds, and says no to, before anything is made.

Source of who wins where both speak, and of the preferred CPU topology: Nova's libvirt driver and its hardware module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isqrt
from operator import eq, le

from cellcloud import errors
from cellcloud.model.flavor import Flavor
from cellcloud.model.flavor_image_conflicts import CPU_DIMENSIONS, MOST_OF_DIMENSION, Properties, flag
from cellcloud.model.numa_request import realtime_cpus

MOST_SERIAL_PORTS = 4  # of an ISA bus
MOST_QUEUES = 256  # of a tap
MOST_CPUS = 1 << 16
ADDRESS_BITS = range(32, 53)
DISK_WAYS, DISK_AMOUNTS = ("read", "write", "total"), ("bytes", "iops")
LETTERS = {"virtio": "vd", "ide": "hd", "scsi": "sd", "sata": "sd", "usb": "sd"}
"""How a guest's disks are called on each bus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTopology:
    """Of the virtual processor; the product is the number of vCPUs."""

    sockets: int
    cores: int = 1
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The virtual hardware, in libvirt's words. None: as the hypervisor has it.

    ``video_ram`` in KiB; ``rng_period`` in milliseconds; ``disk_limits``: libvirt's names (read_bytes_sec...) to
    amounts a second. ``pointer_bus`` and ``keyboard_bus``: those of a tablet and a keyboard beside the board's own.
    """

    type: str
    cpu: CpuTopology
    address_bits: int | None = None
    disk_bus: str = "virtio"
    cdrom_bus: str = "ide"
    scsi_model: str | None = None
    disk_limits: Mapping[str, int] = field(default_factory=dict)
    vif_model: str = "virtio"
    vif_queues: int = 1
    packed_ring: bool = False
    video_model: str = "vga"
    video_ram: int | None = None
    rng: bool = True
    rng_bytes: int = 0
    rng_period: int = 0
    pointer_bus: str | None = None
    keyboard_bus: str | None = None
    usb_model: str = "none"
    sound_model: str | None = None
    watchdog: str | None = None
    serial_ports: int = 1
    guest_agent: bool = False
    needs_quiesce: bool = False
    boot_menu: bool = False
    hpet: bool | None = None
    pmu: bool | None = None
    hide_hypervisor: bool = False
    local_time: bool = False
    realtime_cpus: tuple[int, ...] = ()

    @property
    def has_pcie(self) -> bool:
        """Whether each device needs a port of the board's PCI Express to itself."""
        return "q35" in self.type


def machine_of(flavor: Flavor, image: Properties) -> Machine:
    """``image``: properties as image_properties.read gives them. Raises Invalid for what does not go together."""
    specs = flavor.extra_specs
    if not specs and not image:
        return Machine(type="pc", cpu=CpuTopology(sockets=flavor.vcpus))
    machine_type = str(image.get("hw_machine_type") or "pc")
    disk_bus = str(image.get("hw_disk_bus") or "virtio")
    cdrom_bus = str(image.get("hw_cdrom_bus") or ("sata" if "q35" in machine_type else "ide"))
    if "q35" in machine_type and "ide" in (disk_bus, cdrom_bus):
        raise errors.Invalid("A machine of type q35 has no ide bus.")
    vif_model = str(image.get("hw_vif_model") or "virtio")
    packed = _either(specs, image, "virtio_packed_ring")
    if packed and "virtio" not in (disk_bus, vif_model):
        raise errors.Invalid("hw_virtio_packed_ring needs a disk or an interface of model virtio.")
    pointer_bus, keyboard_bus = _inputs(image)
    sound = _text(specs, image, "sound_model")
    watchdog = str(image.get("hw_watchdog_action") or specs.get("hw:watchdog_action") or "disabled")
    rng = _rng(specs)
    return Machine(
        type=machine_type,
        cpu=cpu_topology(flavor, image),
        address_bits=_address_bits(specs, image),
        disk_bus=disk_bus,
        cdrom_bus=cdrom_bus,
        scsi_model=_word(image, "hw_scsi_model"),
        disk_limits=_disk_limits(specs),
        vif_model=vif_model,
        vif_queues=_queues(flavor, image, vif_model),
        packed_ring=packed,
        video_model=str(image.get("hw_video_model") or "vga"),
        video_ram=_video_ram(specs, image),
        rng=rng is not None,
        rng_bytes=rng[0] if rng else 0,
        rng_period=rng[1] if rng else 0,
        pointer_bus=pointer_bus,
        keyboard_bus=keyboard_bus,
        usb_model=_usb_model(specs, image, {disk_bus, cdrom_bus, pointer_bus, keyboard_bus, sound}),
        sound_model=sound,
        watchdog=None if watchdog == "disabled" else watchdog,
        serial_ports=_serial_ports(specs, image),
        guest_agent=image.get("hw_qemu_guest_agent") is True,
        needs_quiesce=image.get("os_require_quiesce") is True,
        boot_menu=bool(image["hw_boot_menu"]) if "hw_boot_menu" in image else flag(specs.get("hw:boot_menu")),
        hpet=_switch(image, "hw_time_hpet"),
        pmu=_switch(image, "hw_pmu") if not specs.get("hw:pmu") else flag(specs["hw:pmu"]),
        hide_hypervisor=image.get("img_hide_hypervisor_id") is True
        or any(flag(specs.get(name)) for name in ("hide_hypervisor_id", "hw:hide_hypervisor_id")),
        local_time=image.get("os_type") == "windows",
        realtime_cpus=tuple(sorted(realtime_cpus(flavor, image, specs.get("hw:emulator_threads_policy")))),
    )


def device_names(image: Mapping[str, str]) -> Iterator[str]:
    """Return the guest's names for its disks, the root first. ``image``: its properties as they are given."""
    adapter = image.get("vmware_adaptertype")
    bus = image.get("hw_disk_bus") or ("virtio" if not adapter else "ide" if adapter == "ide" else "scsi")
    return (f"/dev/{name}" for name in disk_names(bus if bus in LETTERS else "virtio"))


def disk_names(bus: str, others: int = 0) -> Iterator[str]:
    """Return how a guest's disks are called, one after the other, behind ``others`` of the same letters."""
    return (f"{LETTERS[bus]}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"[others:])


def cpu_topology(flavor: Flavor, image: Properties) -> CpuTopology:
    """Return the one that is likest to what is preferred, within all limits; with as few threads and as many sockets as
    that leaves. An image's preferences replace the flavor's. Raises Invalid where no topology is within the limits."""
    specs = flavor.extra_specs
    own = {name: _number(specs, f"hw:cpu_{name}") for name in CPU_DIMENSIONS}
    asked = {name: _number(image, f"hw_cpu_{name}") for name in CPU_DIMENSIONS}
    most = {
        name: _number(image, f"hw_cpu_max_{name}") or _number(specs, f"hw:cpu_max_{name}") or MOST_OF_DIMENSION
        for name in CPU_DIMENSIONS
    }
    if any(own[name] > most[name] for name in CPU_DIMENSIONS):
        own = dict.fromkeys(CPU_DIMENSIONS, 0)
    wanted = asked if any(asked.values()) else own
    if not any(wanted.values()) and flavor.vcpus <= most["sockets"]:
        return CpuTopology(sockets=flavor.vcpus)
    if flavor.vcpus > MOST_CPUS:
        raise errors.Invalid(f"A guest with a CPU topology has at most {MOST_CPUS} vCPUs.")
    limits = tuple(most.values())
    within = [one for one in _topologies(flavor.vcpus) if all(map(le, one, limits))]
    if not within:
        said = ", ".join(f"{number} {name}" for name, number in most.items())
        raise errors.Invalid(f"{flavor.vcpus} vCPUs cannot be laid out within {said}.")

    def likeness(one: tuple[int, int, int]) -> tuple[int, int, int, int]:
        alike = sum(map(eq, one, wanted.values()))
        return alike, one[0] * one[1], one[0], one[2]

    sockets, cores, threads = max(within, key=likeness)
    return CpuTopology(sockets=sockets, cores=cores, threads=threads)


def _topologies(vcpus: int) -> Iterator[tuple[int, int, int]]:
    """All that have so many vCPUs, as sockets, cores and threads."""
    for sockets in _divisors(vcpus):
        for cores in _divisors(vcpus // sockets):
            yield sockets, cores, vcpus // sockets // cores


def _divisors(number: int) -> set[int]:
    small = {one for one in range(1, isqrt(number) + 1) if number % one == 0}
    return small | {number // one for one in small}


def _number(values: Properties, name: str) -> int:
    """0 when it is not set."""
    return int(str(values.get(name) or 0))


def _word(values: Properties, name: str) -> str | None:
    value = values.get(name)
    return str(value) if value else None


def _text(specs: Properties, image: Properties, name: str) -> str | None:
    """Return what the flavor says, or else the image. Raises Invalid when they disagree."""
    own, asked = _word(specs, f"hw:{name}"), _word(image, f"hw_{name}")
    if own and asked and own != asked:
        raise errors.Invalid(f"The image's hw_{name} {asked!r} is not the flavor's {own!r}.")
    return own or asked


def _switch(values: Properties, name: str) -> bool | None:
    value = values.get(name)
    return None if value is None else flag(value)


def _either(specs: Properties, image: Properties, name: str) -> bool:
    """Return whether flavor or image ask for it; they do not disagree."""
    return flag(specs.get(f"hw:{name}")) or flag(image.get(f"hw_{name}"))


def _queues(flavor: Flavor, image: Properties, model: str) -> int:
    """One queue a vCPU, where several are asked for."""
    if flavor.vcpus < 2 or not _either(flavor.extra_specs, image, "vif_multiqueue_enabled"):
        return 1
    if model != "virtio":
        raise errors.Invalid("hw_vif_multiqueue_enabled needs interfaces of model virtio.")
    return min(flavor.vcpus, MOST_QUEUES)


def _address_bits(specs: Mapping[str, str], image: Properties) -> int | None:
    if not (_word(specs, "hw:maxphysaddr_mode") or _word(image, "hw_maxphysaddr_mode")):
        return None
    bits = _number(specs, "hw:maxphysaddr_bits") or _number(image, "hw_maxphysaddr_bits")
    if bits not in ADDRESS_BITS:
        raise errors.Invalid(f"maxphysaddr_mode needs maxphysaddr_bits from {ADDRESS_BITS[0]} to {ADDRESS_BITS[-1]}.")
    return bits


def _disk_limits(specs: Mapping[str, str]) -> dict[str, int]:
    limits: dict[str, int] = {}
    for amount in DISK_AMOUNTS:
        asked = {way: _number(specs, f"quota:disk_{way}_{amount}_sec") for way in DISK_WAYS}
        if asked["total"] and (asked["read"] or asked["write"]):
            raise errors.Invalid(f"A total of {amount} a second goes with no limit of its own for reading or writing.")
        limits |= {f"{way}_{amount}_sec": number for way, number in asked.items() if number}
    return limits


def _video_ram(specs: Mapping[str, str], image: Properties) -> int | None:
    """In KiB. The flavor says how much an image may ask for."""
    asked, most = _number(image, "hw_video_ram"), _number(specs, "hw_video:ram_max_mb")
    if asked > most:
        raise errors.Invalid(f"The image asks for {asked} MiB of video RAM, and the flavor allows {most}.")
    if asked and image.get("hw_video_model") == "none":
        raise errors.Invalid("Without a video device there is no video RAM.")
    return asked * 1024 or None


def _rng(specs: Mapping[str, str]) -> tuple[int, int] | None:
    """Bytes, and milliseconds in which so many may be read; zeros for no limit, None for no random numbers at all."""
    amount, period = _number(specs, "hw_rng:rate_bytes"), _number(specs, "hw_rng:rate_period")
    if period and not amount:
        raise errors.Invalid("hw_rng:rate_period goes only with hw_rng:rate_bytes.")
    return (amount, period) if flag(specs.get("hw_rng:allowed") or "true") else None


def _inputs(image: Properties) -> tuple[str | None, str | None]:
    """Return the bus of the tablet, and that of the keyboard."""
    bus = _word(image, "hw_input_bus")
    return bus or ("usb" if image.get("hw_pointer_model") == "usbtablet" else None), bus


def _usb_model(specs: Mapping[str, str], image: Properties, on: set[str | None]) -> str:
    """Return the controller asked for, or one for those devices that are on the bus; none where nothing is."""
    asked = _text(specs, image, "usb_model")
    if asked == "none" and "usb" in on:
        raise errors.Invalid("Devices on the usb bus need a USB controller, and hw_usb_model is none.")
    return asked or ("qemu-xhci" if "usb" in on else "none")


def _serial_ports(specs: Mapping[str, str], image: Properties) -> int:
    """As many as the image says, up to what the flavor does. Raises Invalid beyond what a machine takes."""
    ports = _number(image, "hw_serial_port_count") or _number(specs, "hw:serial_port_count") or 1
    if ports > MOST_SERIAL_PORTS:
        raise errors.Invalid(f"A guest has at most {MOST_SERIAL_PORTS} serial ports.")
    return ports
