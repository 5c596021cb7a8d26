"""What each start does once, and most of it only the first time: guest image, schemas, first contents, nodes.

Every function here may be repeated; it finds what an earlier start made.
"""

from __future__ import annotations

import functools
import http.client
import ipaddress
import json
import platform
import selectors
import ssl
import subprocess
import threading
from contextlib import closing
from email.message import Message
from pathlib import Path
from typing import Any

from cellcloud import clock, config, errors
from cellcloud.db import cells, flavors, migrate
from cellcloud.db.engine import Database, transact
from cellcloud.embedded import bootstrap
from cellcloud.embedded.images import EmbeddedImages
from cellcloud.launcher import guest_image, libvirt_nodes, node_networks
from cellcloud.launcher.layout import CELLS, CellPlace, Layout
from cellcloud.rpc.accounts import Account, Role

FIRST_LOOK = 90.0  # seconds all hosts have to report
KVM_PROOF = 6.0  # seconds a guest has to greet: without KVM it takes about four
GREETING = b"login:"
ONE_MIGRATION = threading.Lock()  # Alembic keeps what it is at in its modules


def make_guest_image(layout: Layout) -> None:
    """Build the tiny guest, where guests are real."""
    if layout.real_guests:
        guest_image.ensure_guest_image(layout.choices.cache)


def choose_virt_type(layout: Layout) -> None:
    """Settle how guests run, and write every option file with it.

    KVM is taken only where a guest was seen to start with it: a device that opens proves nothing.
    """
    choice = layout.choices.virt_type
    if choice == "auto":
        choice = _seen_to_work(layout) if layout.real_guests else "qemu"
    layout.virt_file.write_text(choice)
    layout.write_option_files(choice)


def _seen_to_work(layout: Layout) -> str:
    if not Path("/dev/kvm").exists():
        return "qemu"
    known = layout.choices.cache / f"kvm-{platform.release()}"
    if not known.exists():
        image = guest_image.ensure_guest_image(layout.choices.cache)
        known.write_text("kvm" if _boots_with_kvm(image) else "qemu")
    return known.read_text()


def _boots_with_kvm(image: Path) -> bool:
    """Return whether the tiny guest shows its login under KVM in time."""
    drive = f"file={image},format=qcow2,if=virtio,snapshot=on"
    machine = ["-machine", "pc,accel=kvm", "-cpu", "qemu64", "-m", "96", "-nodefaults", "-no-reboot"]
    argv = ["qemu-system-x86_64", *machine, "-display", "none", "-serial", "stdio", "-drive", drive]
    deadline = clock.monotonic() + KVM_PROOF
    seen = b""
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as guest:
        assert guest.stdout is not None  # noqa: S101 - by the line above
        with selectors.DefaultSelector() as selector:
            selector.register(guest.stdout, selectors.EVENT_READ)
            while GREETING not in seen and b"KVM internal error" not in seen:
                if not selector.select(max(0.0, deadline - clock.monotonic())):
                    break
                got = guest.stdout.read1(4096)  # type: ignore[attr-defined]
                if not got:
                    break
                seen += got
        guest.kill()
    return GREETING in seen


def start_node(layout: Layout, cell: CellPlace, index: int) -> None:
    """Start one node of a cell, or adopt it."""
    libvirt_nodes.ensure_node(layout.node(cell, index, layout.virt_file.read_text()))


def migrate_top(layout: Layout) -> None:
    """Bring the top cell's schema up to date and list the cells in it."""
    with closing(Database(layout.top_database_url, timeout=0)) as database:
        with ONE_MIGRATION:
            migrate.upgrade(database, "top")
        for cell in CELLS:
            url = layout.transport_url(cell, Account(Role.TOP))
            transact(database, functools.partial(cells.register_cell, name=cell.name, transport_url=url))


def migrate_cell(layout: Layout, cell: CellPlace) -> None:
    """Bring a cell's schema up to date."""
    with closing(Database(layout.cell_database_url(cell), timeout=0)) as database, ONE_MIGRATION:
        migrate.upgrade(database, "cell")


def fill_top(layout: Layout) -> None:
    """Projects, users, flavors, the tiny image and a network, where they are missing."""
    settings = config.load(layout.top_file)
    passwords = bootstrap.Passwords(
        admin=layout.secret("user.admin"), demo=layout.secret("user.demo"), service=layout.secret("user.service")
    )
    with closing(Database(layout.top_database_url)) as database:
        bootstrap.bootstrap(database, passwords)
        transact(database, flavors.ensure_starters)
        images = EmbeddedImages.of(database, layout.images, settings.adapters)
        images.sweep()
        form = "qcow2" if layout.real_guests else "raw"
        bootstrap.upload_image(images, database, name="tiny", path=_image_file(layout), disk_format=form)


def open_external_network(layout: Layout) -> None:
    """Let the machine reach floating IPs: an external network where there is none, and an address for the machine on
    it. One whose range somebody else took meanwhile becomes another, unless it is in use. Raises Misconfigured."""
    with closing(Database(layout.top_database_url)) as database:
        subnet = bootstrap.ensure_external_subnet(database, layout.external_cidr)
        if node_networks.find_taken(ipaddress.ip_network(subnet.cidr), layout.external_bridge) != ("", ""):
            subnet = bootstrap.replace_external_subnet(database, subnet, layout.external_cidr)
    length = ipaddress.ip_network(subnet.cidr).prefixlen
    node_networks.open_external(layout.external_bridge, f"{subnet.gateway_ip}/{length}")


def _image_file(layout: Layout) -> Path:
    """Return the tiny guest; for guests that are only pretended, a disk with nothing on it."""
    if layout.real_guests:
        return guest_image.ensure_guest_image(layout.choices.cache)
    blank = layout.world / "blank.raw"
    blank.write_bytes(bytes(1 << 20))
    return blank


def wait_until_it_serves(layout: Layout) -> None:
    """Ask the API as its administrator until every host is listed and up. Raises Unreachable when that takes long."""
    expected = len(CELLS) * layout.choices.hosts
    deadline = clock.monotonic() + FIRST_LOOK
    problem = "nothing was heard"
    while clock.monotonic() < deadline:
        try:
            hosts = _list_hypervisors(layout)
            up = sum(host["state"] == "up" for host in hosts)
            if up >= min(expected, 1000):
                return
            problem = f"{up} hosts are up, {len(hosts)} listed, {expected} expected"
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = str(error)
        clock.sleep(0.1)
    raise errors.Unreachable(f"The cloud does not serve: {problem}.")


def _list_hypervisors(layout: Layout) -> list[dict[str, Any]]:
    """Ask with nothing but the standard library: keystoneauth and all below it would be loaded for two requests of each
    start. Raises OSError, HTTPException, ValueError."""
    domain = {"id": "default"}
    user = {"name": "admin", "password": layout.secret("user.admin"), "domain": domain}
    identity = {"methods": ["password"], "password": {"user": user}}
    login = {"auth": {"identity": identity, "scope": {"project": {"name": "admin", "domain": domain}}}}
    address = layout.public_url.partition("://")[2]
    connection = http.client.HTTPConnection(address, timeout=10)
    if layout.cafile:
        trusted = ssl.create_default_context(cafile=layout.cafile)
        connection = http.client.HTTPSConnection(address, timeout=10, context=trusted)
    with closing(connection):
        headers, _ = _ask(connection, "POST", "/identity/v3/auth/tokens", login)
        _, answer = _ask(connection, "GET", "/v2.1/os-hypervisors/detail", token=headers["X-Subject-Token"])
    found: list[dict[str, Any]] = answer["hypervisors"]
    return found


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: object = None, token: str = ""
) -> tuple[Message, Any]:
    headers = {"Content-Type": "application/json", "X-Auth-Token": token}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    if answer.status >= http.HTTPStatus.BAD_REQUEST:
        raise OSError(f"{method} {path}: {answer.status} {answer.reason}")
    return answer.headers, json.load(answer)
