"""The NUMA topology that a flavor and an image ask for, and what must not be asked for together.

Source of the rules: Nova's numa_get_constraints. What Nova refuses there raises Invalid here; so does what Nova would
trip over later: sizes below zero or beyond any machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oslo_utils import strutils

from cellcloud import errors
from cellcloud.model import flavor_image_conflicts, pci
from cellcloud.model.flavor import Flavor
from cellcloud.model.flavor_image_conflicts import Properties, choice, flag
from cellcloud.model.numa import ANY_PAGES, LARGE_PAGES, SMALL_PAGES, GuestCell, GuestNuma, Placed, TopologyRequest
from cellcloud.model.pci import PciRequest
from cellcloud.safe_regex import Pattern

MOST_GUEST_CELLS = 128
MOST_CPUS = 4096  # as many as QEMU gives to one guest
MOST_TEXT = 4096  # characters of a list of CPUs: each of the above by its number would fit about
MOST_PAGE_KIB = 1 << 40
KIB = 1024
CPU_POLICIES = ("dedicated", "mixed", "shared")
THREAD_POLICIES = ("prefer", "isolate", "require")
EMULATOR_POLICIES = ("share", "isolate")
NAMED_PAGES = {"small": SMALL_PAGES, "large": LARGE_PAGES, "any": ANY_PAGES}


def topology_request(
    flavor: Flavor, image: Properties, devices: Sequence[PciRequest] = (), aliases: tuple[str, ...] = ()
) -> TopologyRequest:
    """Return what a server asks of a host's topology. ``image``: properties as image_properties.read gives them.

    ``devices``: those asked for besides the flavor's; ``aliases``: what the flavor's names for devices stand for.
    Raises Invalid when flavor and image contradict themselves or each other.
    """
    flavor_image_conflicts.check(flavor, image)
    devices = (*pci.requests_of(flavor, flavor_image_conflicts.pci_numa_policy(flavor, image), aliases), *devices)
    pci.check_requests(devices)
    specs = flavor.extra_specs
    needs_threads = "dedicated" in (specs.get("hw:cpu_policy"), image.get("hw_cpu_policy")) and "require" in (
        specs.get("hw:cpu_thread_policy"),
        image.get("hw_cpu_thread_policy"),
    )
    return TopologyRequest(guest=guest_numa(flavor, image), devices=devices, needs_threads=needs_threads)


def guest_numa(flavor: Flavor, image: Properties) -> GuestNuma | None:
    """Return the guest's cells; None when neither cells, pages, persistent memory nor dedicated CPUs are asked for."""
    emulator = choice("hw:emulator_threads_policy", flavor.extra_specs, EMULATOR_POLICIES)
    policy = _cpu_policy(flavor, image, emulator)
    threads = _thread_policy(flavor, image)
    dedicated = _dedicated_cpus(flavor, image, policy, threads, emulator)
    nodes = _node_count(flavor, image)
    pages = _page_size(flavor, image)
    persistent = any(label.strip() for label in flavor.extra_specs.get("hw:pmem", "").split(","))
    if not (nodes or pages or persistent or policy in ("dedicated", "mixed")):
        return None
    cells = tuple(
        GuestCell(
            id=node,
            cpuset=tuple(sorted(cpus - dedicated)),
            pcpuset=tuple(sorted(cpus & dedicated)),
            memory=memory,
            pagesize=pages,
            cpu_policy=policy,
            cpu_thread_policy=threads,
        )
        for node, (cpus, memory) in enumerate(_divide(flavor, image, nodes or 1))
    )
    return GuestNuma(cells=cells, emulator_threads_policy=emulator)


def is_of(placed: Placed, guest: GuestNuma) -> bool:
    """Return whether a guest that asks for such cells can have been placed so."""

    def size(numa: GuestNuma) -> list[tuple[object, ...]]:
        return [(cell.cpuset, cell.pcpuset, cell.memory, cell.cpu_policy) for cell in numa.cells]

    return placed.guest is not None and size(placed.guest) == size(guest)


def parse_cpus(text: str, most: int = MOST_CPUS) -> set[int]:
    """CPU numbers from a list of numbers and ranges, those after ``^`` left out: 1-4,^3,6. Raises Invalid, also for
    numbers from ``most``.

    Takes time in proportion to the length of the text and to how many CPUs it names, however often a range comes back.
    """
    if len(text) > MOST_TEXT:
        raise errors.Invalid(f"A list of CPUs has at most {MOST_TEXT} characters.")
    named: list[tuple[int, int]] = []
    left_out: list[tuple[int, int]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        excluded = part.startswith("^")
        first, dash, last = part.removeprefix("^").partition("-")
        try:
            start = int(first)
            end = int(last) if dash else start
        except ValueError:
            raise errors.Invalid(f"{text[:100]!r} is not a list of CPU numbers.") from None
        if not 0 <= start <= end or (end >= most and not excluded):
            raise errors.Invalid(f"{text[:100]!r} has CPU numbers out of range.")
        (left_out if excluded else named).append((start, min(end, most) + 1))
    return _union(named) - _union(left_out)


def _union(ranges: list[tuple[int, int]]) -> set[int]:
    """Return the numbers of ranges, each looked at once."""
    found: set[int] = set()
    done = 0
    for start, end in sorted(ranges):
        found.update(range(max(start, done), end))
        done = max(done, end)
    return found


def _cpu_policy(flavor: Flavor, image: Properties, emulator: str | None) -> str | None:
    """Return the policy named, or the one that asking for VCPU or PCPU resources comes to."""
    own = choice("hw:cpu_policy", flavor.extra_specs, CPU_POLICIES)
    asked = choice("hw_cpu_policy", image, CPU_POLICIES)
    if (own == "mixed" and asked == "dedicated") or (own == "shared" and asked in ("dedicated", "mixed")):
        raise errors.Invalid(f"The image's CPU policy {asked!r} goes beyond the flavor's {own!r}.")
    vcpus, pcpus = _resources(flavor, "VCPU"), _resources(flavor, "PCPU")
    if (own or asked) and (vcpus or pcpus):
        raise errors.Invalid("A CPU policy and resources of class VCPU or PCPU cannot both be asked for.")
    if vcpus and pcpus:
        raise errors.Invalid("Resources of classes VCPU and PCPU cannot both be asked for.")
    if pcpus and pcpus != flavor.vcpus + (emulator == "isolate"):
        raise errors.Invalid(
            "The PCPU resources must be as many as the flavor's vCPUs, and one more for isolated emulator threads."
        )
    if pcpus:
        return "dedicated"
    return "shared" if vcpus else own or asked


def _resources(flavor: Flavor, name: str) -> int:
    """Return how much of a resource class the extra specs ask for; what is not a number is refused elsewhere."""
    pattern = Pattern(rf"resources([1-9][0-9]*)?:{name}.*")
    amounts = (value for key, value in flavor.extra_specs.items() if pattern.matches(key))
    return sum(number for number in map(_whole, amounts) if number is not None)


def _thread_policy(flavor: Flavor, image: Properties) -> str | None:
    """Return the policy named, or the one that asking for hyperthreads or for none comes to."""
    own = choice("hw:cpu_thread_policy", flavor.extra_specs, THREAD_POLICIES)
    asked = choice("hw_cpu_thread_policy", image, THREAD_POLICIES)
    if own not in (None, "prefer") and asked and asked != own:
        raise errors.Invalid(f"The image's CPU thread policy {asked!r} is not the flavor's {own!r}.")
    policy = own or asked
    trait = _hyperthreading(flavor, image)
    if policy and trait:
        raise errors.Invalid("A CPU thread policy and the trait HW_CPU_HYPERTHREADING cannot both be asked for.")
    return {"forbidden": "isolate", "required": "require"}.get(trait or "", policy)


def _hyperthreading(flavor: Flavor, image: Properties) -> str | None:
    pattern = Pattern(r"trait([1-9][0-9]*)?:HW_CPU_HYPERTHREADING.*")
    for key, value in flavor.extra_specs.items():
        if pattern.matches(key):
            return value
    traits = image.get("traits_required")
    return "required" if isinstance(traits, tuple) and "HW_CPU_HYPERTHREADING" in traits else None


def _dedicated_cpus(
    flavor: Flavor, image: Properties, policy: str | None, threads: str | None, emulator: str | None
) -> set[int]:
    """Return the guest CPUs that get host CPUs of their own."""
    realtime = realtime_cpus(flavor, image, emulator)
    masked = _masked_cpus(flavor)
    if masked and policy != "mixed":
        raise errors.Invalid("hw:cpu_dedicated_mask goes only with the CPU policy 'mixed'.")
    if policy == "mixed":
        if bool(realtime) == bool(masked):
            raise errors.Invalid(
                "The CPU policy 'mixed' needs either hw:cpu_dedicated_mask or a realtime mask, and not both."
            )
        return realtime or masked
    if policy == "dedicated":
        _check_cpu_count(flavor)
        return set(range(flavor.vcpus))
    if threads or emulator == "isolate" or realtime:
        raise errors.Invalid(
            "A CPU thread policy, isolated emulator threads and realtime CPUs need a CPU policy 'dedicated' or 'mixed'."
        )
    return set()


def _masked_cpus(flavor: Flavor) -> set[int]:
    """Those hw:cpu_dedicated_mask names: some of the flavor's, not all."""
    mask = flavor.extra_specs.get("hw:cpu_dedicated_mask")
    if not mask:
        return set()
    cpus = _mask(flavor, mask)
    if not cpus or not cpus < set(range(flavor.vcpus)):
        raise errors.Invalid("hw:cpu_dedicated_mask must name some of the flavor's vCPUs, and leave some.")
    return cpus


def realtime_cpus(flavor: Flavor, image: Properties, emulator: str | None) -> set[int]:
    """Return the guest CPUs that run before all else. ``emulator``: the policy for the emulator's threads. Raises
    Invalid."""
    if not flag(flavor.extra_specs.get("hw:cpu_realtime")):
        return set()
    _check_cpu_count(flavor)
    mask = image.get("hw_cpu_realtime_mask") or flavor.extra_specs.get("hw:cpu_realtime_mask")
    every = set(range(flavor.vcpus))
    cpus = _mask(flavor, str(mask)) if mask else every
    if not cpus or not cpus <= every or (cpus == every and not emulator):
        raise errors.Invalid(
            "The realtime mask must name some of the flavor's vCPUs, not all without an hw:emulator_threads_policy."
        )
    return cpus


def _mask(flavor: Flavor, mask: str) -> set[int]:
    """One that begins with an exclusion is taken from all the flavor's CPUs."""
    _check_cpu_count(flavor)
    every = f"0-{flavor.vcpus - 1},"
    return parse_cpus(every + mask if mask.strip().startswith("^") else mask, most=flavor.vcpus)


def _check_cpu_count(flavor: Flavor) -> None:
    if not 0 < flavor.vcpus <= MOST_CPUS:
        raise errors.Invalid(f"A guest with a NUMA topology has between 1 and {MOST_CPUS} vCPUs.")


def _node_count(flavor: Flavor, image: Properties) -> int | None:
    own, asked = flavor.extra_specs.get("hw:numa_nodes"), image.get("hw_numa_nodes")
    if own and asked:
        raise errors.Invalid("Flavor and image both set the number of NUMA nodes.")
    value = own or asked
    if value is None:
        return None
    number = _whole(value)
    if number is None or number < 1 or str(number) != str(value):
        raise errors.Invalid(f"The number of NUMA nodes must be a whole number from 1, not {str(value)[:100]!r}.")
    return number


def _page_size(flavor: Flavor, image: Properties) -> int | None:
    """In KiB, or which ones; the image may narrow down only what the flavor leaves open."""
    own, asked = flavor.extra_specs.get("hw:mem_page_size"), str(image.get("hw_mem_page_size") or "")
    if not own:
        if asked:
            raise errors.Invalid("The image sets a memory page size, and the flavor none.")
        return None
    size = parse_pages(own)
    if asked and size not in (ANY_PAGES, LARGE_PAGES):
        raise errors.Invalid(f"The image sets a memory page size beside the flavor's {own[:100]!r}.")
    return parse_pages(asked) if asked else size


def parse_pages(text: str) -> int:
    """Return a memory page size in KiB, or which ones. Raises Invalid."""
    if text in NAMED_PAGES:
        return NAMED_PAGES[text]
    try:
        size = int(text) if text.isdecimal() else int(strutils.string_to_bytes(text, return_int=True)) // KIB
    except (ValueError, OverflowError):
        size = -1
    if not 0 <= size <= MOST_PAGE_KIB or (size == 0 and not text.isdecimal()):
        raise errors.Invalid(f"{text[:100]!r} is no memory page size: small, large, any, KiB, or with a unit as 2MB.")
    return size


def _divide(flavor: Flavor, image: Properties, nodes: int) -> list[tuple[set[int], int]]:
    """Return the CPUs and MiB of each of the guest's cells: as listed, or in equal parts."""
    _check_cpu_count(flavor)
    cpus: list[set[int]] = []
    for text in _listed(flavor, image, "numa_cpus"):
        cpus.append(parse_cpus(text, flavor.vcpus))
        if sum(map(len, cpus)) > flavor.vcpus:
            raise errors.Invalid("A vCPU is set for two NUMA nodes.")
    memory = [_parse_mebibytes(text) for text in _listed(flavor, image, "numa_mem")]
    if not cpus and not memory:
        if flavor.vcpus % nodes or flavor.memory_mb % nodes:
            raise errors.Invalid(f"vCPUs and memory cannot be divided into {str(nodes)[:20]} equal NUMA nodes.")
        part = flavor.vcpus // nodes
        return [(set(range(node * part, (node + 1) * part)), flavor.memory_mb // nodes) for node in range(nodes)]
    if len(cpus) != nodes or len(memory) != nodes:
        raise errors.Invalid("CPUs and memory must be set for each NUMA node, or for none.")
    if len(set().union(*cpus)) < sum(map(len, cpus)):
        raise errors.Invalid("A vCPU is set for two NUMA nodes.")
    if set().union(*cpus) != set(range(flavor.vcpus)):
        raise errors.Invalid(f"The NUMA nodes must have vCPUs 0 to {flavor.vcpus - 1} between them, each once.")
    if sum(memory) != flavor.memory_mb:
        raise errors.Invalid(f"The NUMA nodes have {sum(memory)} MiB, and the flavor {flavor.memory_mb} MiB.")
    return list(zip(cpus, memory, strict=True))


def _listed(flavor: Flavor, image: Properties, name: str) -> list[str]:
    """Return the values of name.0, name.1... in the flavor, or else in the image."""
    own = _numbered(flavor.extra_specs, f"hw:{name}")
    asked = _numbered(image, f"hw_{name}")
    given = sum(key.startswith((f"hw:{name}.", f"hw_{name}.")) for key in (*flavor.extra_specs, *image))
    if given > len(own) + len(asked):
        raise errors.Invalid(f"hw:{name} and hw_{name} are numbered from 0 to {MOST_GUEST_CELLS - 1}, without a gap.")
    if own and asked:
        raise errors.Invalid(f"Flavor and image both set hw_{name}.")
    return own or asked


def _numbered(values: Mapping[str, object], name: str) -> list[str]:
    found: list[str] = []
    while len(found) < MOST_GUEST_CELLS and f"{name}.{len(found)}" in values:
        found.append(str(values[f"{name}.{len(found)}"]))
    return found


def _parse_mebibytes(text: str) -> int:
    number = _whole(text)
    if number is None or number < 0:
        raise errors.Invalid(f"The memory of a NUMA node must be a whole number of MiB, not {text[:100]!r}.")
    return number


def _whole(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None
