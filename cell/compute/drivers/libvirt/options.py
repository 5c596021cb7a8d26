"""What the libvirt driver must know of its host."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cell.compute.drivers.host_description import HostShare


@dataclass(frozen=True, slots=True, kw_only=True)
class LibvirtOptions:
    """``state_dir`` holds the guests of this host. With ``in_node`` it is the directory of a node (see
    ``cellcloud.launcher.libvirt_nodes``): its libvirtd is found there and its namespaces are entered to wire guests;
    else the machine's own libvirtd and network are used, as its administrator has prepared them: its firewall lets
    through what is forwarded between two ports of a bridge called "ccb-...".

    ``host_ip``: where consoles listen; ``serial_ports``: on which ports of it guests' serial ports do, none where they
    are not served. ``tunnel_address``: where packets of guests' networks come from other hosts, if not there;
    ``external_bridge``: leads to external networks, where routers may go there. ``metadata_address``,
    ``metadata_port``: the cell's metadata service.
    ``metadata_key``: this host's own key (``metadata_signature.node_key``). ``vcpus``, ``memory_mb``, ``disk_gb``: what
    the host offers; zero means all that the machine has. ``share``: its CPUs and
    devices that are for guests. Times in seconds.
    """

    host: str
    state_dir: Path
    host_ip: str
    metadata_key: bytes = field(repr=False)
    metadata_address: str
    metadata_port: int = 8775
    tunnel_address: str = ""
    external_bridge: str = ""
    in_node: bool = True
    virt_type: str = "qemu"
    serial_ports: range = range(0)
    vcpus: int = 0
    memory_mb: int = 0
    disk_gb: int = 0
    share: HostShare = field(default_factory=HostShare)
    open_timeout: float = 15.0
    call_timeout: float = 60.0

    @property
    def uri(self) -> str:
        """Where libvirtd listens."""
        if not self.in_node:
            return "qemu:///system"
        return f"qemu+unix:///system?socket={self.state_dir / 'run/libvirt/libvirt-sock'}"

    @property
    def guests_dir(self) -> Path:
        """One directory per guest."""
        return self.state_dir / "guests"

    @property
    def work_dir(self) -> Path:
        """What daemons beside the guests need; made again at each start of the node."""
        return self.state_dir / "run"

    @property
    def nbd_credentials_dir(self) -> Path:
        """Where libvirt is told to look for what QEMU proves its host with (``nbd_tls_x509_cert_dir``)."""
        return self.work_dir / "nbd-tls"
