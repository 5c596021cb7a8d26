"""Wires a compute service. Start one with ``cellcloud-compute --config FILE``."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cell.compute.driver import Driver
from cell.compute.drivers.host_description import HostShare, describe_file
from cell.compute.identity import Identity
from cell.compute.image_cache import ImageCache
from cell.compute.service import ComputeService
from cellcloud import errors, log
from cellcloud.clients.image import ImageClient
from cellcloud.config import Config, load
from cellcloud.model.metadata_signature import node_key
from cellcloud.rpc.transport import Transport
from cellcloud.service import run

TUNNEL_SUFFIX = ".tunnel"  # of the name, in the hosts file, of the address where other hosts' packets come


def build(
    config: Config,
    *,
    transport: Transport | None = None,
    images: ImageClient | None = None,
    drivers: Mapping[str, Driver] | None = None,
    **_others: Any,
) -> ComputeService:
    """Build a compute service; what is not given is made from the configuration. ``drivers``: host name -> its
    driver."""
    let_go = contextlib.ExitStack()
    return ComputeService(
        config,
        transport or Transport(config.cell.name, config.cell.transport_url),
        drivers or make_drivers(config, let_go),
        ImageCache(
            config.state_dir / "cells" / config.cell.name / "images-cache",
            functools.cache(lambda: images or make_images(config)),
            max_bytes=config.adapters.max_image_bytes,
            most_unused=config.compute.image_cache_mib << 20 if config.compute.image_cache_mib >= 0 else None,
        ),
        queue=config.host,
        identity=Identity(config.state_dir / "compute" / f"{config.cell.name}-{config.host}.identity"),
        on_stopped=let_go.close,
    )


def make_drivers(config: Config, let_go: contextlib.ExitStack) -> Mapping[str, Driver]:
    """Return the hosts of this process: one with libvirt, as many as configured with the fake driver.

    ``let_go`` is told what to close behind them.
    """
    if config.compute.driver == "fake":
        return _make_fakes(config, let_go)
    return {config.host: _make_libvirt(config)}


def _make_fakes(config: Config, let_go: contextlib.ExitStack) -> Mapping[str, Driver]:
    """Hosts on one hypervisor in memory, whose guests outlive the process in a file."""
    from cell.compute.drivers.fake import FakeDriver
    from cell.compute.drivers.fake_hypervisor import FakeHypervisor, described_capacity

    cell = config.cell.name
    journal = config.state_dir / "cells" / cell / "fake-guests.jsonl"
    hypervisor = FakeHypervisor(journal, delay=config.compute.fake_delay)
    let_go.callback(hypervisor.close)
    names = [f"{cell}-fake-{number:04d}" for number in range(1, config.compute.fake_hosts + 1)]
    capacity = None
    if config.compute.fake_host_description:
        capacity = described_capacity(describe_file(Path(config.compute.fake_host_description), _share(config)))
    return {name: FakeDriver(hypervisor, name, capacity=capacity) for name in names}


def _share(config: Config) -> HostShare:
    """Return what of the host is for guests."""
    compute = config.compute
    return HostShare.parse(compute.cpu_shared_set, compute.cpu_dedicated_set, compute.pci_device_spec)


def _make_libvirt(config: Config) -> Driver:
    """Return the driver of the node called as this host, when there is one, else of the machine itself."""
    from cell.compute.drivers.libvirt.driver import LibvirtDriver
    from cell.compute.drivers.libvirt.options import LibvirtOptions

    node = config.state_dir / "nodes" / config.host
    in_node = node.is_dir()
    hosts_file = node / "hosts" if in_node else Path("/etc/hosts")
    options = LibvirtOptions(
        host=config.host,
        state_dir=node if in_node else config.state_dir / "compute",
        in_node=in_node,
        host_ip=_address_of(config.host, hosts_file),
        metadata_key=_metadata_key(config),
        metadata_address=config.metadata.bind_host,
        metadata_port=config.metadata.bind_port,
        virt_type=config.compute.virt_type,
        serial_ports=_serial_ports(config),
        tunnel_address=_find_address(f"{config.host}{TUNNEL_SUFFIX}", hosts_file),
        external_bridge=config.compute.external_bridge,
        share=_share(config),
    )
    return LibvirtDriver(options)


def _serial_ports(config: Config) -> range:
    """Return the ports that guests' serial ports take; none where they are not served. Raises Misconfigured."""
    first, last = (int(number) for number in config.console.serial_ports.split(":"))
    if not 0 < first <= last < 65536:
        raise errors.Misconfigured("The option console.serial_ports must name a range of ports, as 10000:20000.")
    return range(first, last + 1) if config.console.serial_enabled else range(0)


def _metadata_key(config: Config) -> bytes:
    """Return the key that this host's requests for metadata are signed with."""
    if config.metadata.node_key:
        return bytes.fromhex(config.metadata.node_key)
    return node_key(config.metadata.secret.encode(), config.host)


def _address_of(host: str, hosts_file: Path) -> str:
    """Return the host's address, from a file in the form of /etc/hosts. Raises Misconfigured where it is not there."""
    found = _find_address(host, hosts_file)
    if not found:
        raise errors.Misconfigured(f"The address of host {host} is not in its hosts file.")
    return found


def _find_address(name: str, hosts_file: Path) -> str:
    for line in hosts_file.read_text().splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if name in names:
            return address
    return ""


def make_images(config: Config) -> ImageClient:
    """Return the image service that the configuration names."""
    from cellcloud.clients.glance import GlanceClient

    return GlanceClient.from_config(config)


@click.command()
@click.option("--config", "path", required=True, type=click.Path(exists=True), help="The host's option file.")
def main(path: str) -> None:
    """Run a compute service until SIGTERM."""
    config = load(path)
    log.set_up("compute", level=config.log_level)
    run(build(config), health_socket=config.state_dir / "run" / f"compute-{config.host}.sock")


if __name__ == "__main__":
    main()
