"""Flavor: the shape of a server."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavor:
    """``memory_mb`` and ``swap_mb`` in MiB, disks in GiB, as in the API."""

    id: str
    name: str
    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int = 0
    swap_mb: int = 0
    rxtx_factor: float = 1.0
    is_public: bool = True
    disabled: bool = False
    description: str | None = None
    extra_specs: dict[str, str] = field(default_factory=dict)

    def resources(self) -> dict[str, int]:
        """Resource class -> amount that a server of this flavor uses on a host."""
        return {
            "VCPU": self.vcpus,
            "MEMORY_MB": self.memory_mb,
            "DISK_GB": self.root_gb + self.ephemeral_gb + -(-self.swap_mb // 1024),
        }
