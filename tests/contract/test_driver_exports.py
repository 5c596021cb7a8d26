"""Volumes over NBD on libvirt: a guest whose exporter is away waits, and another machine's has them over TLS."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cell.compute.drivers.libvirt.driver import LibvirtDriver
from cell.compute.drivers.libvirt.volume_credentials import FILES
from cellcloud import errors
from cellcloud.embedded.volume.attachments import connection_info
from cellcloud.model.block_storage import Connector
from cellcloud.model.image import Image
from cellcloud.model.volume import AttachedVolume
from cellcloud.server_states import PowerState
from cellcloud.storage_daemons import end_all
from tests import counting_guest
from tests.cloud import until
from tests.contract.driver_rigs import VIRSH, OneImage
from tests.daemons import free_ports
from tests.libvirt_node import ON_DISK, LibvirtNode, make_spec
from tests.volume_store import HERE, THERE, Store

NO_IMAGES = OneImage(Path("/nonexistent"))


@pytest.fixture
def store(node: LibvirtNode) -> Iterator[Store]:
    """A volume service that the other machine reaches where nodes reach this one."""
    with tempfile.TemporaryDirectory(dir=ON_DISK, prefix="cellcloud-volumes-") as place:
        made = Store(Path(place), free_ports(5), node.config.gateway_ip)
        yield made
        made.endpoint.stop()
        end_all(made.directory / "exports")


@dataclass
class Guest:
    """A guest that counts, on a volume of which nothing else is known on its host."""

    node: LibvirtNode
    driver: LibvirtDriver
    server_id: str

    def log(self) -> str:
        return self.driver.get_console_output(self.server_id, -1)

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.log(), 240, what=f"{text!r}")

    def ticks(self) -> list[int]:
        return [int(number) for number in re.findall(r"tick (\d+)\r", self.log().rpartition("boot ")[2])]

    def wait_for_ticks(self, more: int = 2) -> None:
        wanted = max(self.ticks(), default=0) + more
        until(lambda: max(self.ticks(), default=0) >= wanted, 240, what=f"tick {wanted}")

    def is_waiting(self) -> bool:
        return "I/O error" in self.node.run(*VIRSH, "domstate", "--reason", self.server_id)

    def list_credentials(self) -> list[str]:
        return [name for name in FILES if (self.driver._options.nbd_credentials_dir / name).exists()]


def lose_export(store: Store, volume_id: str, guest: Guest) -> None:
    """The exporter is killed, and another started once the guest has missed it."""
    os.kill(store.pid(volume_id), signal.SIGKILL)
    until(guest.is_waiting, 120)
    found = guest.driver.find_guest(guest.server_id)
    assert found is not None
    assert found.power_state == PowerState.RUNNING
    store.endpoint.look_after()
    guest.wait_for_ticks()
    assert "disk error" not in guest.log()
    assert guest.ticks() == list(range(1, len(guest.ticks()) + 1))


def connect(store: Store, volume_id: str, connector: Connector, **values: object) -> AttachedVolume:
    connection = connection_info(store.connect(volume_id, f"of {volume_id}", connector))
    given: dict[str, object] = {"device": "/dev/vda", "boot_index": 0, "connection": connection} | values
    return AttachedVolume(id=volume_id, volume_id=volume_id, size_gb=1, **given)  # type: ignore[arg-type]


def test_what_a_guest_wrote_is_there_on_another_machine(node: LibvirtNode, store: Store, tmp_path: Path) -> None:
    volume_id, server_id = store.create(), str(uuid.uuid4())
    with store.files.data(volume_id).open("r+b") as content:
        content.write(counting_guest.build(tmp_path).read_bytes())
    first = Guest(node, node.make_driver(), server_id)
    other_node = LibvirtNode(beside=node)
    second = Guest(other_node, other_node.make_driver(), server_id)
    try:
        first.driver.connect()
        second.driver.connect()
        spec = make_spec(server_id, Image(id=""), volumes=(connect(store, volume_id, HERE),))
        first.driver.spawn(spec, 1, [], NO_IMAGES)
        first.wait_for("boot 1 of this disk")
        first.wait_for_ticks()
        lose_export(store, volume_id, first)
        first.driver.destroy(server_id, 2)

        remote = connect(store, volume_id, THERE)
        assert remote.connection["data"]["tls"]
        spec = make_spec(server_id, Image(id=""), volumes=(remote,))
        second.driver.spawn(spec, 3, [], NO_IMAGES)
        second.wait_for("boot 2 of this disk")
        lose_export(store, volume_id, second)
        more = store.create()
        second.driver.attach_volume(server_id, 4, connect(store, more, THERE, device="/dev/vdb", boot_index=None))
        assert more in other_node.run(*VIRSH, "dumpxml", server_id)
        second.driver.reboot(server_id, 5, hard=True, timeout=0.0)
        second.wait_for("boot 3 of this disk")
        assert second.list_credentials() == []
        second.driver.destroy(server_id, 6)
    finally:
        for guest in (first, second):
            guest.driver.destroy(server_id, 99)
            guest.driver.close()
        other_node.close()


def test_who_halts_a_guest_that_waits_is_told_to_come_again(node: LibvirtNode, store: Store, tmp_path: Path) -> None:
    """libvirt would not tell the two apart."""
    volume_id, server_id = store.create(), str(uuid.uuid4())
    with store.files.data(volume_id).open("r+b") as content:
        content.write(counting_guest.build(tmp_path).read_bytes())
    guest = Guest(node, node.make_driver(), server_id)
    guest.driver.connect()
    try:
        spec = make_spec(server_id, Image(id=""), volumes=(connect(store, volume_id, HERE),))
        guest.driver.spawn(spec, 1, [], NO_IMAGES)
        guest.wait_for_ticks()
        os.kill(store.pid(volume_id), signal.SIGKILL)
        until(guest.is_waiting, 120)
        with pytest.raises(errors.Busy):
            guest.driver.pause(server_id, 2)
        store.endpoint.look_after()
        guest.wait_for_ticks()
        assert guest.driver.pause(server_id, 3).power_state == PowerState.PAUSED
        assert guest.driver.unpause(server_id, 4).power_state == PowerState.RUNNING
        guest.wait_for_ticks()
    finally:
        guest.driver.destroy(server_id, 99)
        guest.driver.close()
