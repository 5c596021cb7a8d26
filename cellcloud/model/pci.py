"""PCI devices: what of them a host has free, and what a server asks for and gets."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class PciPool:
    """``count`` free PCI devices of one kind at one place. ``tags``: dev_type, physical_network and the like.

    ``numa_node``: the id of the NUMA cell the devices hang on, None when the host does not say.
    """

    vendor_id: str
    product_id: str
    count: int
    numa_node: int | None = None
    tags: dict[str, str] = field(default_factory=dict)

    def __hash__(self) -> int:
        """So that equal states of hosts can be found to be one; ``tags`` is never changed."""
        return hash((self.vendor_id, self.product_id, self.count, self.numa_node, frozenset(self.tags.items())))

    def same_kind(self, other: PciPool) -> bool:
        """Whether devices of both are alike in all but their number."""
        return (self.vendor_id, self.product_id, self.numa_node, self.tags) == (
            other.vendor_id,
            other.product_id,
            other.numa_node,
            other.tags,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PciRequest:
    """``count`` devices that each match one of ``spec``: names (vendor_id, product_id, dev_type, a tag) to values.

    ``numa_policy``: required, socket, legacy (also None) or preferred: how near to the guest's memory they must be.
    """

    count: int
    spec: tuple[dict[str, str], ...] = ()
    numa_policy: str | None = None
    alias_name: str | None = None
    request_id: str | None = None

    def __hash__(self) -> int:
        """So that equal requests can be found to be one; ``spec`` is never changed. The id is not looked at."""
        return hash((self.count, self.numa_policy, tuple(frozenset(one.items()) for one in self.spec)))
