"""The metadata service: what a guest reads, and what nobody else may."""

from __future__ import annotations

import base64
import http.client
import json
import logging
import secrets
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pytest

from cell.compute.drivers.libvirt.config_drive import ensure_config_drive
from cell.metadata.__main__ import MetadataService, build
from cell.metadata.lookup import FRESH_SECONDS, STALE_SECONDS, Gatekeeper, Servers
from cellcloud import clock, config, errors
from cellcloud.context import RequestContext
from cellcloud.model.instance_metadata_documents import GuestFacts, config_drive_files
from cellcloud.model.keypair import Keypair
from cellcloud.model.metadata_signature import HOST, NONCE, PORT, SERVER, SIGNATURE, TIME, SignedRequest, node_key
from cellcloud.model.network import FixedIp, Plugging, Port, PortChange
from cellcloud.model.server import ServerRecord
from cellcloud.model.volume import AttachedVolume, AttachmentState
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.transport import Transport
from tests.unit.cell_world import MemoryConductor, eventually, make_record, make_spec, server_id

SECRET = "a secret of the cell"
ONE, TWO = server_id(1), server_id(2)
PORT_ONE, PORT_TWO = server_id(101), server_id(102)
SCRIPT = b"#!/bin/sh\necho \xff hello\n"


def record(number: int = 1, **values: object) -> ServerRecord:
    fixed = FixedIp(ip_address=f"10.0.0.{number}", subnet_id="s", cidr="10.0.0.0/24", dns_nameservers=("10.0.0.254",))
    port = Port(
        id=server_id(100 + number),
        network_id="n",
        network_name="net",
        mac_address="fa:16:3e:00:00:01",
        fixed_ips=(fixed,),
    )
    spec = make_spec(
        number,
        keypair=Keypair(name="k", user_id="u", public_key="ssh-ed25519 AAAA"),
        user_data=base64.b64encode(SCRIPT).decode(),
        metadata={"role": "web"},
    )
    made = make_record(number, spec=spec, ports=(port,), host=f"h{number}", availability_zone="east")
    return replace(made, **values)  # type: ignore[arg-type]


@dataclass
class Cell:
    conductor: MemoryConductor
    service: MetadataService

    def sign(
        self, path: str, *, method: str = "GET", key_of: str = "h1", body: bytes = b"", **values: str
    ) -> dict[str, str]:
        plain = {
            "host": "h1",
            "server": ONE,
            "port": PORT_ONE,
            "time": str(int(clock.now().timestamp())),
            "nonce": secrets.token_hex(16),
        }
        request = SignedRequest(method=method, path=path, body=body, **(plain | values))
        return request.headers(node_key(SECRET.encode(), key_of))

    def ask(
        self, path: str, headers: dict[str, str] | list[tuple[str, str]], method: str = "GET", body: bytes = b""
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=10)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers.items() if isinstance(headers, dict) else headers:
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def get(self, path: str, method: str = "GET", **values: str) -> tuple[int, bytes]:
        return self.ask(path, self.sign(path, method=method, **values), method)[:2]

    def post(self, path: str, body: bytes, **values: str) -> int:
        return self.ask(path, self.sign(path, method="POST", body=body, **values), "POST", body)[0]

    def read(self, path: str) -> str:
        status, body = self.get(path)
        assert status == 200, (path, status, body)
        return body.decode()


@pytest.fixture(scope="module")
def running() -> Iterator[Cell]:
    options = config.load()
    options = replace(
        options,
        host="m1",
        cell=replace(options.cell, name="unit", report_interval=0.2),
        metadata=replace(options.metadata, bind_port=0, secret=SECRET),
    )
    transport = Transport("unit", "kombu+memory://")
    conductor = MemoryConductor()
    server = transport.serve(Conductor, conductor, server="c1")
    service = build(options, transport=transport)
    service.start()
    yield Cell(conductor, service)
    service.stop()
    service.stop()
    server.stop()
    transport.close()


@pytest.fixture
def cell(running: Cell) -> Cell:
    running.conductor.records = {ONE: record(1), TWO: record(2)}
    running.conductor.away = False
    running.service._servers._known.clear()
    return running


def test_openstack_documents(cell: Cell) -> None:
    assert cell.read("/openstack").split("\n")[0] == "2012-08-10"
    assert cell.read("/openstack/").split("\n")[-1] == "latest"
    assert cell.read("/openstack/latest").split("\n") == [
        "meta_data.json",
        "user_data",
        "password",
        "vendor_data.json",
        "network_data.json",
        "vendor_data2.json",
    ]
    assert cell.read("/openstack/2012-08-10/").split("\n") == ["meta_data.json", "user_data"]
    meta = json.loads(cell.read("/openstack/latest/meta_data.json"))
    assert meta["uuid"] == ONE
    assert meta["hostname"] == "vm"
    assert meta["availability_zone"] == "east"
    assert meta["public_keys"] == {"k": "ssh-ed25519 AAAA"}
    assert meta["meta"] == {"role": "web"}
    network = json.loads(cell.read("/openstack/2018-08-27/network_data.json"))
    assert network["links"][0]["vif_id"] == PORT_ONE
    assert json.loads(cell.read("/openstack/latest/vendor_data2.json")) == {"static": {}}
    assert cell.get("/openstack/latest/user_data") == (200, SCRIPT)


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("//openstack", "/openstack"),
        ("/openstack//latest///vendor_data.json", "/openstack/latest/vendor_data.json"),
        ("/openstack/latest//", "/openstack/latest"),
        ("/openstack/latest/vendor_data.json/", "/openstack/latest/vendor_data.json"),
        ("/./openstack", "/openstack"),
        ("/latest/../openstack", "/openstack"),
        ("/ec2", "/"),
        ("/ec2/", "/"),
        ("/ec2/latest/meta-data/", "/latest/meta-data"),
        ("//ec2//2009-04-04/meta-data/instance-id/", "/2009-04-04/meta-data/instance-id"),
        ("/ec2/latest/user-data", "/latest/user-data"),
    ],
)
def test_paths_are_read_as_novas(cell: Cell, written: str, means: str) -> None:
    assert cell.get(written) == (200, cell.get(means)[1])


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ("2012-08-10", set()),
        ("2013-04-04", {"random_seed"}),
        ("2013-10-17", {"random_seed"}),
        ("2015-10-15", {"random_seed", "project_id"}),
        ("2016-06-30", {"random_seed", "project_id", "devices"}),
        ("2018-08-27", {"random_seed", "project_id", "devices"}),
        ("2020-10-14", {"random_seed", "project_id", "devices", "dedicated_cpus"}),
        ("2025-04-04", {"random_seed", "project_id", "devices", "dedicated_cpus"}),
        ("latest", {"random_seed", "project_id", "devices", "dedicated_cpus"}),
    ],
)
def test_each_dated_version_has_the_fields_of_its_time(cell: Cell, version: str, fields: set[str]) -> None:
    shown = json.loads(cell.read(f"/openstack/{version}/meta_data.json")).keys()
    always = {"uuid", "name", "hostname", "availability_zone", "launch_index", "meta", "public_keys", "keys"}
    assert shown == always | fields


@pytest.mark.parametrize(
    ("version", "trusted"), [("2016-06-30", {}), ("2017-02-22", {}), ("2018-08-27", {"vf_trusted": False})]
)
def test_tagged_devices_are_told(cell: Cell, version: str, trusted: dict[str, bool]) -> None:
    bare = record(1)
    coming = PortChange(kind=Plugging.ATTACHING)
    ports = (replace(bare.ports[0], tag="uplink"), replace(bare.ports[0], tag="to come", change=coming))
    named = AttachedVolume(id="d", volume_id="v", tag="data")
    volumes = (named, replace(named, tag=None), replace(named, state=AttachmentState.ATTACHING))
    cell.conductor.records[ONE] = replace(bare, ports=ports, volumes=volumes)
    device, disk = json.loads(cell.read(f"/openstack/{version}/meta_data.json"))["devices"]
    mac = bare.ports[0].mac_address
    assert device == {"type": "nic", "bus": "none", "address": "none", "mac": mac, "tags": ["uplink"], **trusted}
    assert disk == {"type": "disk", "bus": "pci", "address": "none", "serial": "v", "tags": ["data"]}


def test_the_config_drive_holds_what_the_service_answers(cell: Cell, tmp_path: Path) -> None:
    """Every file of a real drive, against the same path of the service; a seed is new each time."""
    made = record(1)
    drive = ensure_config_drive(tmp_path, GuestFacts(spec=made.spec, ports=made.ports, zone=made.zone))
    unpacked = tmp_path / "unpacked"
    argv = ["xorriso", "-osirrox", "on", "-indev", f"stdio:{drive}", "-extract", "/", str(unpacked)]
    subprocess.run(argv, check=True, capture_output=True)
    files = {str(path.relative_to(unpacked)): path.read_bytes() for path in unpacked.rglob("*") if path.is_file()}
    assert files.keys() > {
        "ec2/latest/meta-data.json",
        "ec2/2009-04-04/user-data",
        "openstack/2012-08-10/meta_data.json",
        "openstack/latest/user_data",
        "openstack/latest/vendor_data2.json",
    }
    for path, content in files.items():
        if path.startswith("openstack/"):
            assert _seedless(content) == _seedless(cell.get(f"/{path}")[1]), path
        elif path.endswith("user-data"):
            assert content == cell.get(f"/{path}")[1]
        else:
            assert _walk(cell, f"/{path.removesuffix('.json')}") == json.loads(content), path
    for version in cell.read("/openstack").split("\n"):
        for name in {*cell.read(f"/openstack/{version}").split("\n")} - {"password"}:
            assert f"openstack/{version}/{name}" in files


def _seedless(content: bytes) -> object:
    if not content.startswith(b"{"):
        return content
    return {name: value for name, value in json.loads(content).items() if name != "random_seed"}


def _walk(cell: Cell, path: str) -> dict[str, object]:
    """Amazon's tree as the service shows it, directory by directory."""
    found: dict[str, object] = {}
    for line in cell.read(path).split("\n"):
        name = line.partition("=")[0]
        below = f"{path}/{name.removesuffix('/')}"
        text = cell.read(below)
        folder = name.endswith("/") or "=" in line
        found[name.removesuffix("/")] = _walk(cell, below) if folder else text
    return found | ({"security-groups": [found["security-groups"]]} if "security-groups" in found else {})


def test_a_password_is_told_by_the_drive_alone(tmp_path: Path) -> None:
    made = record(1)
    facts = GuestFacts(spec=made.spec, ports=made.ports, zone=made.zone, admin_pass="s3cret")
    files = dict(config_drive_files(facts))
    assert json.loads(files["openstack/latest/meta_data.json"])["admin_pass"] == "s3cret"
    assert "admin_pass" not in json.loads(files["openstack/latest/vendor_data2.json"])


def test_amazons_tree(cell: Cell) -> None:
    assert "2009-04-04" in cell.read("/").split("\n")
    assert "openstack" not in cell.read("/")
    assert cell.read("/latest").split("\n") == ["meta-data/", "user-data"]
    names = cell.read("/latest/meta-data/").split("\n")
    assert {"instance-id", "local-ipv4", "hostname", "public-keys/", "placement/"} <= set(names)
    for name in names:
        if not name.endswith("/"):
            cell.read(f"/latest/meta-data/{name}")
    assert cell.read("/latest/meta-data/local-ipv4") == "10.0.0.1"
    assert cell.read("/2009-04-04/meta-data/public-keys/") == "0=k"
    assert cell.read("/latest/meta-data/public-keys/0/") == "openssh-key"
    assert cell.read("/latest/meta-data/public-keys/0/openssh-key") == "ssh-ed25519 AAAA"
    assert cell.read("/latest/meta-data/placement/availability-zone") == "east"
    assert cell.get("/latest/user-data") == (200, SCRIPT)


def test_a_server_without_key_and_user_data(cell: Cell) -> None:
    bare = record(1)
    cell.conductor.records[ONE] = replace(bare, spec=replace(bare.spec, keypair=None, user_data=None))
    assert cell.get("/openstack/latest/user_data")[0] == 404
    assert cell.get("/latest/user-data")[0] == 404
    assert cell.get("/latest/meta-data/public-keys/")[0] == 404
    assert "public_keys" not in json.loads(cell.read("/openstack/latest/meta_data.json"))


def test_only_the_head_is_sent_when_asked_so(cell: Cell) -> None:
    assert cell.get("/openstack/latest/meta_data.json", "HEAD") == (200, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_else_can_be_written(cell: Cell, method: str) -> None:
    status, body, _ = cell.ask("/openstack", cell.sign("/openstack", method=method), method)
    assert b"meta_data" not in body
    assert status in (200, 404, 405)


def test_a_guest_posts_its_password_once(cell: Cell) -> None:
    path = "/openstack/2013-04-04/password"
    assert cell.get(path) == (200, b"")
    for _ in range(2):  # the answer may have been lost
        assert cell.post(path, b"c2VhbGVk") == 200
    assert cell.get("/openstack/latest/password/") == (200, b"c2VhbGVk")
    assert cell.post(path, b"b3RoZXI=") == 409
    assert {number: each.spec.sealed_password for number, each in cell.conductor.records.items()} == {
        ONE: "c2VhbGVk",
        TWO: "",
    }


@pytest.mark.parametrize(
    ("path", "body", "values", "status"),
    [
        ("/openstack/latest/password", b"x" * 1020, {}, 200),
        ("/openstack/latest/password", b"x" * 1021, {}, 400),
        ("/openstack/latest/password", b"x" * 1024, {}, 400),
        ("/openstack/latest/password", b"", {}, 400),
        ("/openstack/latest/password", b"\xff\xfe", {}, 400),
        ("/openstack/latest/password", b"a\0b", {}, 400),
        ("/openstack/2012-08-10/password", b"x", {}, 404),
        ("/openstack/latest/meta_data.json", b"x", {}, 404),
        ("/latest/password", b"x", {}, 404),
        ("/openstack/latest/password", b"x", {"server": TWO}, 404),
        ("/openstack/latest/password", b"x", {"server": TWO, "port": PORT_TWO}, 404),
        ("/openstack/latest/password", b"x", {"key_of": "h2"}, 403),
    ],
)
def test_what_may_be_posted(cell: Cell, path: str, body: bytes, values: dict[str, str], status: int) -> None:
    assert cell.post(path, body, **values) == status
    kept = {each.spec.sealed_password for each in cell.conductor.records.values()}
    assert kept == ({"", body.decode()} if status == 200 else {""})


def test_a_password_that_another_service_took_meanwhile_stays(cell: Cell) -> None:
    path, bare = "/openstack/latest/password", cell.conductor.records[ONE]
    assert cell.get(path) == (200, b"")
    cell.conductor.records[ONE] = replace(bare, spec=replace(bare.spec, sealed_password="c2VhbGVk"))
    assert cell.post(path, b"b3RoZXI=") == 409
    assert cell.get(path) == (200, b"c2VhbGVk")


def test_a_signature_is_for_one_body(cell: Cell) -> None:
    path = "/openstack/latest/password"
    for signed, sent in ((b"", b"x"), (b"x", b""), (b"x", b"y"), (b"x", b"x" * 1021)):
        headers = cell.sign(path, method="POST", body=signed)
        assert cell.ask(path, headers, "POST", sent)[0] == 403
    assert cell.read(path) == ""


@pytest.mark.parametrize(
    "values",
    [
        {"key_of": "h2"},
        {"host": "h2"},
        {"host": "h2", "key_of": "h1", "server": TWO},
        {"time": "1"},
        {"time": str(int(clock.now().timestamp()) + 3600)},
    ],
)
def test_a_signature_proves_one_host_now(cell: Cell, values: dict[str, str]) -> None:
    status, body = cell.get("/openstack", **values)
    assert status == 403
    assert b"2012" not in body


@pytest.mark.parametrize("name", [HOST, SERVER, PORT, TIME, NONCE, SIGNATURE])
def test_a_changed_header_breaks_the_signature(cell: Cell, name: str) -> None:
    headers = cell.sign("/openstack")
    other = cell.sign("/openstack", host="h2", server=TWO, port=PORT_TWO, time=str(int(headers[TIME]) + 1))
    assert cell.ask("/openstack", headers | {name: other[name]})[0] == 403


@pytest.mark.parametrize("name", [HOST, SERVER, PORT, TIME, NONCE, SIGNATURE])
@pytest.mark.parametrize("change", ["missing", "twice", "comma", "empty", "long", "underscore"])
def test_malformed_headers_are_refused(cell: Cell, name: str, change: str) -> None:
    headers = cell.sign("/openstack")
    value = headers.pop(name)
    more = {
        "missing": [],
        "twice": [(name, value), (name, value)],
        "comma": [(name, f"{value},{value}")],
        "empty": [(name, "")],
        "long": [(name, value * 300)],
        "underscore": [(name.replace("-", "_"), value)],
    }[change]
    status, _, _ = cell.ask("/openstack", [*headers.items(), *more])
    assert status in (400, 431)


def test_headers_that_guests_could_send_count_for_nothing(cell: Cell) -> None:
    spoofed = {"X-Instance-ID": ONE, "X-Tenant-ID": "p", "X-Forwarded-For": "10.0.0.1", "X-Instance-ID-Signature": "0"}
    assert cell.ask("/openstack", spoofed)[0] == 400
    assert cell.ask("/openstack", cell.sign("/openstack", server=TWO, port=PORT_TWO) | spoofed)[0] == 404


def test_a_request_is_believed_once(cell: Cell) -> None:
    headers = cell.sign("/openstack")
    assert cell.ask("/openstack", headers)[0] == 200
    assert cell.ask("/openstack", headers)[0] == 403
    assert cell.ask("/openstack/latest", headers)[0] == 403


def test_a_signature_is_for_one_path_and_method(cell: Cell) -> None:
    assert cell.ask("/openstack/latest", cell.sign("/openstack"))[0] == 403
    assert cell.ask("/openstack?a=1", cell.sign("/openstack"))[0] == 403
    assert cell.ask("/openstack", cell.sign("/openstack", method="HEAD"))[0] == 403
    assert cell.get("/openstack?a=1")[0] == 200


@pytest.mark.parametrize(
    "values",
    [
        {"deleted": True, "vm_state": "deleted"},
        {"vm_state": "error"},
        {"vm_state": "shelved_offloaded", "host": None},
        {"held": True},
        {"host": "h2"},
        {"ports": ()},
    ],
)
def test_servers_that_are_not_there_have_no_metadata(cell: Cell, values: dict[str, object]) -> None:
    cell.conductor.records[ONE] = record(1, **values)
    assert cell.get("/openstack/latest/meta_data.json")[0] == 404


@pytest.mark.parametrize("vm_state", ["building", "active", "stopped"])
def test_servers_that_are_there_have_theirs(cell: Cell, vm_state: str) -> None:
    cell.conductor.records[ONE] = record(1, vm_state=vm_state)
    assert cell.get("/openstack/latest/meta_data.json")[0] == 200


@pytest.mark.parametrize("values", [{"server": TWO}, {"server": server_id(9)}, {"port": PORT_TWO}])
def test_another_servers_data_is_not_found(cell: Cell, values: dict[str, str]) -> None:
    assert cell.get("/openstack/latest/meta_data.json", **values)[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/openstack/latest/../../../etc/passwd",
        "/openstack%2flatest",
        "/openstack/latest%2fmeta_data.json",
        "/%2e%2e/etc/passwd",
        "/openstack/latest/meta_data.json/x",
        "/ec2/ec2/latest",
        "/ec2/openstack/latest",
        "/openstack/ec2/latest",
        "/openstack/2099-01-01/meta_data.json",
        "/latest/meta-data/public-keys/1/openssh-key",
        "/latest/meta-data/" + "a" * 5000,
        "/" + quote("\u202e"),
    ],
)
def test_paths_that_name_nothing(cell: Cell, path: str) -> None:
    status, body = cell.get(path)
    assert status == 404
    assert b"root:" not in body


def test_without_a_secret_it_does_not_start() -> None:
    with pytest.raises(errors.Misconfigured):
        Gatekeeper("")
    with pytest.raises(errors.Misconfigured):
        build(config.load(), transport=Transport("unit", "kombu+memory://"))


def test_refusals_tell_and_log_no_secret(cell: Cell, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    headers = cell.sign("/openstack")
    expected = headers[SIGNATURE]
    status, body, shown = cell.ask("/openstack", headers | {SIGNATURE: "0" * 64})
    assert status == 403
    assert expected not in caplog.text + body.decode() + str(shown)
    assert SECRET not in caplog.text
    assert "Server" not in shown


def test_a_short_memory_spares_the_conductor(cell: Cell) -> None:
    before = cell.conductor.lookups
    for _ in range(10):
        cell.read("/openstack/latest/meta_data.json")
    assert cell.conductor.lookups == before + 1


def test_memory_bridges_a_short_absence_and_no_longer() -> None:
    conductor = MemoryConductor()
    conductor.records = {ONE: record(1)}
    with clock.using(clock.ManualClock()) as hands:
        assert isinstance(hands, clock.ManualClock)
        context = RequestContext()
        servers = Servers(lambda host, server, posted: conductor.find_server_on(context, host, server, posted))
        assert servers.get("h1", ONE, PORT_ONE).id == ONE
        conductor.records[ONE] = record(1, deleted=True)
        hands.advance(FRESH_SECONDS + 0.1)
        with pytest.raises(errors.NotFound):
            servers.get("h1", ONE, PORT_ONE)
        conductor.records[ONE] = record(1)
        hands.advance(FRESH_SECONDS + 0.1)
        servers.get("h1", ONE, PORT_ONE)
        conductor.away = True
        hands.advance(STALE_SECONDS - 0.1)
        servers.get("h1", ONE, PORT_ONE)
        hands.advance(0.2)
        with pytest.raises(errors.Unreachable):
            servers.get("h1", ONE, PORT_ONE)
        with pytest.raises(errors.Unreachable):
            servers.get("h1", TWO, PORT_TWO)


def test_an_absent_conductor_is_not_an_absent_server(cell: Cell) -> None:
    cell.conductor.away = True
    status, _, headers = cell.ask("/openstack", cell.sign("/openstack"))
    assert status == 503
    assert headers["Retry-After"] == "2"


def test_half_a_request_gets_no_answer(cell: Cell) -> None:
    with socket.create_connection(("127.0.0.1", cell.service.port), timeout=5) as connection:
        connection.sendall(b"GET /openstack HTTP/1.1\r\nX-Cellcloud-Host: h1\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert b"meta_data" not in connection.recv(1000)


def test_it_says_that_it_lives(cell: Cell) -> None:
    eventually(lambda: ("nova-metadata", "m1") in cell.conductor.heartbeats)
    assert cell.service.check() == {"http": "ok"}
