"""Machines as libvirt describes them, written out by what they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Pages = Mapping[int, int]  # size in KiB -> number


def capabilities(
    *, cells: int = 2, cores: int = 2, threads: int = 2, memory_mib: int = 4096, huge: Pages | None = None
) -> str:
    """What ``virsh capabilities`` writes of a machine with so many cores in each NUMA cell. As on real ones, the second
    threads of all cores are numbered behind all the first."""
    huge = huge or {}
    small = memory_mib * 256 - sum(size // 4 * number for size, number in huge.items())
    pages = "".join(f"<pages unit='KiB' size='{size}'>{number}</pages>" for size, number in {4: small, **huge}.items())
    written = []
    for cell in range(cells):
        cpus = []
        for core in range(cores):
            numbers = [thread * cells * cores + cell * cores + core for thread in range(threads)]
            siblings = ",".join(map(str, numbers))
            cpus += [
                f"<cpu id='{number}' socket_id='{cell}' die_id='0' core_id='{core}' siblings='{siblings}'/>"
                for number in numbers
            ]
        written.append(
            f"<cell id='{cell}'><memory unit='KiB'>{memory_mib << 10}</memory>{pages}"
            f"<distances><sibling id='{cell}' value='10'/></distances>"
            f"<cpus num='{len(cpus)}'>{''.join(cpus)}</cpus></cell>"
        )
    return (
        "<capabilities><host><uuid>f2ed0aa6-0000-4000-8000-000000000001</uuid>"
        f"<cpu><arch>x86_64</arch><model>Cascadelake-Server</model><vendor>Intel</vendor>"
        f"<topology sockets='{cells}' dies='1' cores='{cores}' threads='{threads}'/></cpu>"
        f"<topology><cells num='{cells}'>{''.join(written)}</cells></topology></host></capabilities>"
    )


def node_device(
    address: str,
    *,
    ids: tuple[str, str] = ("10de", "1eb8"),
    numa: int | None = None,
    parent: str | None = None,
    functions: Sequence[str] | None = None,
) -> str:
    """What ``virsh nodedev-dumpxml`` writes of a PCI device. ``parent``: the physical function of which it is a virtual
    one; ``functions``: its own virtual ones, [] for one that may have some."""
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    numbers = {"domain": domain, "bus": bus, "slot": slot, "function": function}
    inner = "".join(f"<{name}>{int(number, 16)}</{name}>" for name, number in numbers.items())
    inner += f"<product id='0x{ids[1]}'>A device</product><vendor id='0x{ids[0]}'>A vendor</vendor>"
    if parent is not None:
        inner += f"<capability type='phys_function'>{_address(parent)}</capability>"
    if functions is not None:
        inner += f"<capability type='virt_functions' maxCount='8'>{''.join(map(_address, functions))}</capability>"
    inner += f"<iommuGroup number='{int(bus, 16)}'>{_address(address)}</iommuGroup>"
    inner += f"<numa node='{numa}'/>" if numa is not None else ""
    name = "pci_" + address.replace(":", "_").replace(".", "_")
    return (
        f"<device><name>{name}</name><path>/sys/devices/pci0000:00/{address}</path><parent>computer</parent>"
        f"<driver><name>vfio-pci</name></driver>"
        f"<capability type='pci'><class>0x030200</class>{inner}</capability></device>"
    )


def _address(address: str) -> str:
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return f"<address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>"
