"""Every option, in one place (oslo.config). Names are Nova's where operators know them.

One file for the top cell, one for each child cell: a cell's machines never hold another cell's secrets.
``load`` reads a file into frozen dataclasses; a component takes the small piece it needs.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oslo_config import cfg

from cellcloud import errors

DEFAULT = [
    cfg.StrOpt("state_dir", default="/var/lib/cellcloud", help="Everything that must survive a restart."),
    cfg.StrOpt("host", default=socket.gethostname(), help="This machine's name among its cell's services."),
    cfg.FloatOpt(
        "database_timeout",
        default=20.0,
        min=1.0,
        help="Seconds a statement of a database may take, and twice what it may wait for a lock: beyond it the request "
        "is answered 503. Longer than the slowest honest statement, a scheduler's first reading of a large cell.",
    ),
    cfg.StrOpt("log_level", default="INFO", help="DEBUG, INFO, WARNING or ERROR."),
    cfg.IntOpt(
        "reclaim_instance_interval",
        default=0,
        help="Seconds a deleted server can be restored, in the files of the top and of each cell: it is off, and then "
        "gone. 0: it is gone at once. Nova's.",
    ),
]
TOP = [
    cfg.StrOpt("connection", secret=True, default="", help="SQLAlchemy URL of the top cell's database."),
    cfg.StrOpt("bind_host", default="127.0.0.1", help="Address the API listens on."),
    cfg.PortOpt("bind_port", default=8774, help="Port of the API: Nova's."),
    cfg.StrOpt("tls_certificate", default="", help="PEM file the API proves itself with: serves https. Empty: http."),
    cfg.StrOpt("tls_key", default="", help="PEM file of the certificate's key."),
    cfg.StrOpt("public_url", default="", help="URL clients use, where it is not what their requests name: for links."),
    cfg.ListOpt(
        "trusted_proxies",
        default=[],
        help="Addresses or networks of proxies whose X-Forwarded headers (For, Proto, Host, Prefix) are believed.",
    ),
    cfg.IntOpt("workers", default=2, min=1, help="API processes (services profile): one per core serves well."),
    cfg.IntOpt("threads", default=16, min=1, help="Requests in work at once in each API process."),
    cfg.IntOpt("max_body", default=1 << 20, help="Largest JSON body, bytes. User data (64 KiB) fits many times."),
    cfg.IntOpt("max_limit", default=1000, help="Most items of one page of a list: Nova's."),
    cfg.StrOpt("rate_limit", default="", help="Requests of a project in each API process: 50/second;999/hour."),
    cfg.ListOpt("scheduler_hints", default=[], help="Further hints kept for filters of your own; others: 400."),
    cfg.FloatOpt("cell_timeout", default=8.0, help="Seconds a cell has to answer one call."),
    cfg.FloatOpt("breaker_seconds", default=3.0, help="Seconds a mute cell is left alone before the next try."),
    cfg.FloatOpt("health_interval", default=1.0, help="Seconds between two looks at each cell."),
    cfg.FloatOpt("follow_interval", default=1.0, help="Seconds between reads of a feed nobody nudged."),
    cfg.FloatOpt("intent_lease", default=20.0, help="Seconds an intent stays with the process that delivers it."),
    cfg.FloatOpt("intent_deadline", default=300.0, help="Seconds until an intent nobody takes ends in ERROR."),
    cfg.FloatOpt("deleted_days", default=30.0, min=0.1, help="Days a deleted server is shown to who asks for such."),
    cfg.FloatOpt(
        "usage_days", default=400.0, min=0.1, help="Days after its end that a server's usage can be asked for."
    ),
    cfg.FloatOpt("keys_days", default=30.0, min=0.1, help="Days a client's key of a request keeps its answer."),
    cfg.StrOpt(
        "placements_key", secret=True, default="", help="What a top whose database fell back knows its servers by."
    ),
    cfg.DictOpt("cells", secret=True, default={}, help="Cell name:transport URL, added to the cells table at start."),
]
QUOTA = [
    cfg.IntOpt("instances", default=1000, help="Servers of a project; -1: no limit."),
    cfg.IntOpt("cores", default=2000, help="vCPUs of a project; -1: no limit."),
    cfg.IntOpt("ram", default=4096000, help="Memory of a project, MiB; -1: no limit."),
    cfg.IntOpt("key_pairs", default=100, help="Keypairs of a user: Nova's."),
    cfg.IntOpt("metadata_items", default=128, help="Metadata items of a server: Nova's."),
    cfg.IntOpt("server_groups", default=10, help="Server groups of a project: Nova's."),
    cfg.IntOpt("server_group_members", default=10, help="Servers of a group: Nova's."),
]
IDENTITY = [
    cfg.StrOpt("adapter", default="embedded", choices=["embedded", "keystone"], help="Who answers for tokens."),
    cfg.StrOpt("auth_url", default="", help="Identity v3 URL (keystone adapter)."),
    cfg.StrOpt(
        "cafile", default="", help="PEM file of the authority that services are verified by; empty: public ones."
    ),
    cfg.StrOpt("username", default="", help="Service account."),
    cfg.StrOpt("password", secret=True, default="", help="Service account's password."),
    cfg.StrOpt("project_name", default="service", help="Service account's project."),
    cfg.FloatOpt("cache_seconds", default=1.0, help="How long a token's answer may be reused: revocation bound."),
    cfg.FloatOpt("token_hours", default=8.0, help="Life of a token of the embedded identity."),
    cfg.IntOpt(
        "lockout_failure_attempts",
        default=0,
        min=0,
        help="Wrong passwords after which an account of the embedded identity is locked; 0: never, for whoever knows a "
        "name can lock it.",
    ),
    cfg.IntOpt("lockout_duration", default=1800, min=0, help="Seconds an account stays locked; 0: until it is reset."),
    cfg.IntOpt(
        "password_expires_days", default=0, min=0, help="Days until a password has to be changed (embedded); 0: never."
    ),
    cfg.IntOpt(
        "unique_last_password_count",
        default=0,
        min=0,
        help="Last passwords, with the present one, that a user may not choose again (embedded); 0: any.",
    ),
    cfg.StrOpt(
        "password_regex", default="", help="Pattern that a new password must match as a whole (embedded); empty: any."
    ),
]
_FORMER_GROUP = "outside"  # of the adapters, in option files of the release before
ADAPTERS = [
    cfg.StrOpt(
        "image_adapter",
        default="embedded",
        choices=["embedded", "glance"],
        deprecated_group=_FORMER_GROUP,
        help="Who holds images.",
    ),
    cfg.StrOpt(
        "network_adapter",
        default="embedded",
        choices=["embedded", "neutron"],
        deprecated_group=_FORMER_GROUP,
        help="Who holds ports.",
    ),
    cfg.StrOpt("volume_adapter", default="embedded", choices=["embedded", "cinder"], help="Who holds volumes."),
    cfg.IntOpt(
        "max_image_bytes",
        default=10 << 30,
        deprecated_group=_FORMER_GROUP,
        help="Bytes of the largest image taken: of its file. The disk it is for may be larger, as a flavor says.",
    ),
    cfg.IntOpt(
        "image_count_total",
        default=100,
        deprecated_group=_FORMER_GROUP,
        help="Images of a project (embedded): Glance's; -1: no limit.",
    ),
    cfg.IntOpt(
        "image_size_total",
        default=102400,
        deprecated_group=_FORMER_GROUP,
        help="MiB of a project's images (embedded): ten of the largest.",
    ),
    cfg.StrOpt(
        "property_protection_file",
        default="",
        help="A file that says which roles may make, see, change and remove which properties of images (embedded), in "
        "Glance's form of roles. Empty: who may change an image may change all of them.",
    ),
    cfg.ListOpt(
        "web_download_networks",
        default=[],
        help="Networks (CIDR), besides the Internet's, that images may be imported from (embedded): what is in them is "
        "asked with this machine's place in the network, for any user. None by default.",
    ),
    cfg.ListOpt(
        "web_download_ports",
        default=["80", "443"],
        help="Ports that images may be imported from (embedded): Glance's. None: any.",
    ),
    cfg.IntOpt(
        "web_download_seconds",
        default=3600,
        min=1,
        help="Seconds that fetching an image from elsewhere may take in all (embedded): 10 GiB at 3 MiB/s.",
    ),
]
NETWORK = [
    cfg.IntOpt("quota_network", default=100, min=-1, help="Networks of a project; -1: no limit. Neutron's."),
    cfg.IntOpt("quota_subnet", default=100, min=-1, help="Subnets of a project; -1: no limit. Neutron's."),
    cfg.IntOpt("quota_port", default=500, min=-1, help="Ports of a project, servers' too; -1: no limit. Neutron's."),
    cfg.IntOpt("quota_router", default=10, min=-1, help="Routers of a project; -1: no limit. Neutron's."),
    cfg.IntOpt("quota_floatingip", default=50, min=-1, help="Floating IPs of a project; -1: no limit. Neutron's."),
    cfg.IntOpt(
        "quota_security_group", default=10, min=-1, help="Security groups of a project; -1: no limit. Neutron's."
    ),
    cfg.IntOpt(
        "quota_security_group_rule",
        default=100,
        min=-1,
        help="Rules of all security groups of a project; -1: no limit. Neutron's.",
    ),
    cfg.IntOpt(
        "shared_network_percent",
        default=25,
        min=1,
        max=100,
        help="Of the addresses of a network shared by another project, the percentage that one project may hold, so "
        "that no tenant takes them all.",
    ),
]
CELL = [
    cfg.StrOpt("name", default="", help="The cell's name; empty in the top cell's file."),
    cfg.StrOpt("connection", secret=True, default="", help="SQLAlchemy URL of the cell's database."),
    cfg.StrOpt(
        "transport_url",
        secret=True,
        default="kombu+memory://",
        help="URL of the queue, as 'cellcloud accounts' has it.",
    ),
    cfg.StrOpt("zone", default="nova", help="Availability zone of the cell's hosts."),
    cfg.FloatOpt("hold_seconds", default=30.0, help="Life of an unconfirmed placement: longer than intent_lease."),
    cfg.FloatOpt("run_lease", default=15.0, help="Seconds after which another conductor adopts a run."),
    cfg.FloatOpt("resend_after", default=10.0, help="Seconds without word from a host until a command is repeated."),
    cfg.FloatOpt("service_down_time", default=15.0, help="Seconds without a report until a host counts as mute."),
    cfg.FloatOpt("report_interval", default=3.0, help="Seconds between a service's heartbeats."),
    cfg.BoolOpt(
        "fence_unknown_guests",
        default=False,
        help="Cut guests that no record accounts for off their networks until an operator adopts or removes them. Off, "
        "because they may serve a tenant whose record was lost; on where their addresses may be given out again.",
    ),
    cfg.BoolOpt(
        "allow_resize_to_same_host",
        default=False,
        help="Let a resized server stay on its host, which has its disks and its room twice until it is confirmed.",
    ),
    cfg.FloatOpt(
        "shelved_offload_time",
        default=0.0,
        min=-1.0,
        help="Seconds a shelved server keeps its host, for a quick way back; -1: until an administrator ends that.",
    ),
    cfg.FloatOpt(
        "resize_confirm_window",
        default=0.0,
        min=0.0,
        help="Seconds until a resize or migration that nobody confirmed or reverted is confirmed; 0: never. Nova's.",
    ),
    cfg.IntOpt("max_attempts", default=3, min=1, help="Hosts tried for one server before its cell gives up: Nova's."),
    cfg.FloatOpt(
        "deleted_days",
        default=30.0,
        min=0.1,
        help="Days a deleted server's record is kept, and longer until its host has shown that nothing is left of it.",
    ),
    cfg.FloatOpt("runs_days", default=90.0, min=0.1, help="Days a finished operation is kept with its steps."),
    cfg.FloatOpt(
        "decisions_days", default=7.0, min=0.1, help="Days a placement can be explained and made again: the bulky part."
    ),
    cfg.IntOpt(
        "feed_entries", default=200_000, min=1000, help="Changes, of 5 kB, a reader may be behind before reading all."
    ),
    cfg.IntOpt(
        "precache_concurrency",
        default=1,
        min=1,
        help="Hosts of the cell that fetch images ahead of servers (POST /os-aggregates/ID/images) at once. Nova's.",
    ),
    cfg.IntOpt("engine_threads", default=8, help="Runs a conductor moves at once."),
]
COMPUTE = [
    cfg.StrOpt("driver", default="libvirt", choices=["libvirt", "fake"], help="What runs the guests."),
    cfg.IntOpt(
        "image_cache_mib",
        default=51200,
        min=-1,
        help="MiB of images that a host keeps though none of its guests uses them; beyond that those asked for least "
        "recently go. -1: no limit. Five of the largest.",
    ),
    cfg.IntOpt("fake_hosts", default=10, help="Hosts one process stands for with the fake driver."),
    cfg.FloatOpt("fake_delay", default=0.0, help="Seconds each verb of the fake driver takes."),
    cfg.StrOpt(
        "fake_host_description",
        default="",
        help="A file that says what each host of the fake driver has: an XML element with what virsh capabilities and, "
        "once a device, virsh nodedev-dumpxml write of a machine. Empty: 64 CPUs and 128 GiB.",
    ),
    cfg.StrOpt("virt_type", default="qemu", choices=["qemu", "kvm"], help="How guests run; set by cellcloud up."),
    cfg.StrOpt(
        "cpu_shared_set",
        default="",
        help="CPUs that guests share, as 4-12,^8,15. Empty: all, or none where there is a cpu_dedicated_set.",
    ),
    cfg.StrOpt(
        "cpu_dedicated_set",
        default="",
        help="CPUs that are given to one guest each (hw:cpu_policy), as 4-12,^8,15. Empty: none.",
    ),
    cfg.MultiStrOpt(
        "pci_device_spec",
        default=[],
        help='PCI devices that are given to guests, as {"vendor_id": "10de", "product_id": "1eb8", "address": '
        '"0000:81:*.*"}; each of the three may be left out. May be given several times.',
    ),
    cfg.FloatOpt("cpu_allocation_ratio", default=4.0, help="vCPUs promised per real one."),
    cfg.FloatOpt("ram_allocation_ratio", default=1.0, help="Memory promised per real byte."),
    cfg.FloatOpt("disk_allocation_ratio", default=1.0, help="Disk promised per real byte."),
    cfg.FloatOpt("shutdown_timeout", default=60.0, help="Seconds a guest has to power off by itself."),
    cfg.FloatOpt(
        "wait_soft_reboot_seconds",
        default=120.0,
        min=0.0,
        help="Seconds a guest has to react to a soft reboot, which is a hard one then. Nova's.",
    ),
    cfg.IntOpt("max_concurrent_builds", default=4, help="Guests one host works on at once."),
    cfg.BoolOpt(
        "resume_guests_state_on_host_boot",
        default=True,
        help="Start the guests again that ran when their host went down; else they are shown as SHUTOFF.",
    ),
    cfg.StrOpt(
        "external_bridge",
        default="",
        help="A bridge that leads to external networks: routers and floating IPs may be here; empty: they may not.",
    ),
]
CONSOLE = [
    cfg.StrOpt("bind_host", default="127.0.0.1", help="Address of the console proxy."),
    cfg.PortOpt("bind_port", default=6080, help="Port of the console proxy: Nova's."),
    cfg.StrOpt("base_url", default="", help="URL browsers use for the proxy; empty: from bind_host and port."),
    cfg.ListOpt(
        "allowed_origins",
        default=[],
        help="Origins (scheme://host[:port]) of further pages that may open consoles, such as a dashboard's.",
    ),
    cfg.StrOpt("web_root", default="/usr/share/novnc", help="noVNC's files."),
    cfg.IntOpt("token_ttl", default=600, help="Seconds a console token may wait to be used: Nova's."),
    cfg.BoolOpt(
        "serial_enabled",
        default=False,
        help="Let users open guests' first serial ports by websocket. Said to a cell's hosts and console authority "
        "alike; a guest has it from its next power-on. Off: Nova's.",
    ),
    cfg.StrOpt(
        "serial_ports",
        default="10000:20000",
        regex=r"[0-9]{1,5}:[0-9]{1,5}",
        help="First and last TCP port of a host at which its guests' serial ports listen, and nothing else: Nova's.",
    ),
]
METADATA = [
    cfg.StrOpt("bind_host", default="127.0.0.1", help="Address nodes' proxies reach the service at."),
    cfg.PortOpt("bind_port", default=8775, help="Port of the metadata service: Nova's."),
    cfg.StrOpt("secret", secret=True, default="", help="The key node keys are derived from. Never empty."),
    cfg.StrOpt("node_key", secret=True, default="", help="A host's own key, hexadecimal, in place of the secret."),
]
VOLUME = [
    cfg.StrOpt("driver", default="nbd", choices=["nbd", "fake"], help="How volumes reach hosts: over NBD, or not."),
    cfg.StrOpt(
        "bind_host",
        default="",
        help="Address at which a volume service exports volumes, over TLS, to hosts on other machines. Empty: to those "
        "on its own alone, at UNIX sockets.",
    ),
    cfg.StrOpt(
        "ports",
        default="10810:14809",
        regex=r"[0-9]{1,5}:[0-9]{1,5}",
        help="First and last TCP port of exports over TLS, one a volume.",
    ),
    cfg.IntOpt("reserved_gb", default=1, min=0, help="GiB of a volume service's disk that no volume is to have."),
]
GROUPS: dict[str, list[Any]] = {
    "DEFAULT": DEFAULT,
    "top": TOP,
    "quota": QUOTA,
    "identity": IDENTITY,
    "adapters": ADAPTERS,
    "network": NETWORK,
    "cell": CELL,
    "compute": COMPUTE,
    "console": CONSOLE,
    "metadata": METADATA,
    "volume": VOLUME,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TopConfig:
    connection: str
    bind_host: str
    bind_port: int
    tls_certificate: str
    tls_key: str
    public_url: str
    trusted_proxies: list[str]
    workers: int
    threads: int
    max_body: int
    max_limit: int
    rate_limit: str
    scheduler_hints: list[str]
    cell_timeout: float
    breaker_seconds: float
    health_interval: float
    follow_interval: float
    intent_lease: float
    intent_deadline: float
    deleted_days: float
    usage_days: float
    keys_days: float
    cells: dict[str, str] = field(repr=False)
    placements_key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaConfig:
    instances: int
    cores: int
    ram: int
    key_pairs: int
    metadata_items: int
    server_groups: int
    server_group_members: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityConfig:
    adapter: str
    auth_url: str
    cafile: str
    username: str
    password: str = field(repr=False)
    project_name: str
    cache_seconds: float
    token_hours: float
    lockout_failure_attempts: int
    lockout_duration: int
    password_expires_days: int
    unique_last_password_count: int
    password_regex: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptersConfig:
    image_adapter: str
    network_adapter: str
    volume_adapter: str
    max_image_bytes: int
    image_count_total: int
    image_size_total: int
    property_protection_file: str
    web_download_networks: list[str]
    web_download_ports: list[str]
    web_download_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """The embedded network service's limits of a project."""

    quota_network: int = 100
    quota_subnet: int = 100
    quota_port: int = 500
    quota_router: int = 10
    quota_floatingip: int = 50
    quota_security_group: int = 10
    quota_security_group_rule: int = 100
    quota_rbac_policy: int = 10  # Neutron's
    shared_network_percent: int = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class CellConfig:
    name: str
    connection: str = field(repr=False)
    transport_url: str = field(repr=False)
    zone: str
    hold_seconds: float
    run_lease: float
    resend_after: float
    service_down_time: float
    report_interval: float
    fence_unknown_guests: bool
    allow_resize_to_same_host: bool
    resize_confirm_window: float
    shelved_offload_time: float
    max_attempts: int
    deleted_days: float
    runs_days: float
    decisions_days: float
    feed_entries: int
    precache_concurrency: int
    engine_threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeConfig:
    driver: str
    image_cache_mib: int
    fake_hosts: int
    fake_delay: float
    fake_host_description: str
    cpu_shared_set: str
    cpu_dedicated_set: str
    pci_device_spec: list[str]
    virt_type: str
    cpu_allocation_ratio: float
    ram_allocation_ratio: float
    disk_allocation_ratio: float
    shutdown_timeout: float
    wait_soft_reboot_seconds: float
    max_concurrent_builds: int
    resume_guests_state_on_host_boot: bool
    external_bridge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleConfig:
    bind_host: str
    bind_port: int
    base_url: str
    allowed_origins: list[str]
    web_root: str
    token_ttl: int
    serial_enabled: bool
    serial_ports: str

    @property
    def url(self) -> str:
        """What browsers open, without a path."""
        return (self.base_url or f"http://{self.bind_host}:{self.bind_port}").rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataConfig:
    bind_host: str
    bind_port: int
    secret: str = field(repr=False)
    node_key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeConfig:
    driver: str
    bind_host: str
    ports: str
    reserved_gb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One file's options. ``path``: the file, for libraries that read their own options."""

    state_dir: Path
    host: str
    database_timeout: float
    log_level: str
    reclaim_instance_interval: int
    top: TopConfig
    quota: QuotaConfig
    identity: IdentityConfig
    adapters: AdaptersConfig
    network: NetworkConfig
    cell: CellConfig
    compute: ComputeConfig
    console: ConsoleConfig
    metadata: MetadataConfig
    volume: VolumeConfig
    path: Path | None = None

    @property
    def public_url(self) -> str:
        """The API's URL as clients use it, without a path."""
        scheme = "https" if self.top.tls_certificate else "http"
        return (self.top.public_url or f"{scheme}://{self.top.bind_host}:{self.top.bind_port}").rstrip("/")


def _registered() -> Any:
    options = cfg.ConfigOpts()
    for group, opts in GROUPS.items():
        options.register_opts(opts, group=None if group == "DEFAULT" else group)
    return options


def load(path: Path | str | None = None) -> Config:
    """Read an option file; None gives every default. Raises Misconfigured with the option at fault."""
    options = _registered()
    try:
        options([], project="cellcloud", default_config_files=[str(path)] if path else [])
        values = {
            group: {opt.dest: options[group][opt.dest] for opt in opts}
            for group, opts in GROUPS.items()
            if group != "DEFAULT"
        }
    except (cfg.Error, ValueError) as error:
        raise errors.Misconfigured(f"The option file is wrong: {error}") from error
    return Config(
        state_dir=Path(options.state_dir),
        host=options.host,
        database_timeout=options.database_timeout,
        log_level=options.log_level,
        reclaim_instance_interval=options.reclaim_instance_interval,
        top=TopConfig(**values["top"]),
        quota=QuotaConfig(**values["quota"]),
        identity=IdentityConfig(**values["identity"]),
        adapters=AdaptersConfig(**values["adapters"]),
        network=NetworkConfig(**values["network"]),
        cell=CellConfig(**values["cell"]),
        compute=ComputeConfig(**values["compute"]),
        console=ConsoleConfig(**values["console"]),
        metadata=MetadataConfig(**values["metadata"]),
        volume=VolumeConfig(**values["volume"]),
        path=Path(path) if path else None,
    )


def list_opts() -> list[tuple[str | None, list[Any]]]:
    """For oslo-config-generator, which writes ``etc/cellcloud.conf.sample``."""
    return [(None if group == "DEFAULT" else group, opts) for group, opts in GROUPS.items()]
