"""The metadata service: what a guest reads, and what nobody else may."""

from __future__ import annotations

import base64
import http.client
import json
import logging
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import quote

import pytest

from cell.metadata.__main__ import MetadataService, build
from cell.metadata.lookup import FRESH_SECONDS, STALE_SECONDS, Gatekeeper, Servers
from cellcloud import clock, config, errors
from cellcloud.model.keypair import Keypair
from cellcloud.model.metadata_signature import HOST, NONCE, PORT, SERVER, SIGNATURE, TIME, SignedRequest, node_key
from cellcloud.model.network import FixedIp, Port
from cellcloud.model.server import ServerRecord
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

    def sign(self, path: str, *, method: str = "GET", key_of: str = "h1", **values: str) -> dict[str, str]:
        plain = {
            "host": "h1",
            "server": ONE,
            "port": PORT_ONE,
            "time": str(int(clock.now().timestamp())),
            "nonce": secrets.token_hex(16),
        }
        request = SignedRequest(method=method, path=path, **(plain | values))
        return request.headers(node_key(SECRET.encode(), key_of))

    def ask(
        self, path: str, headers: dict[str, str] | list[tuple[str, str]], method: str = "GET"
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=10)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers.items() if isinstance(headers, dict) else headers:
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def get(self, path: str, method: str = "GET", **values: str) -> tuple[int, bytes]:
        return self.ask(path, self.sign(path, method=method, **values), method)[:2]

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
    assert json.loads(cell.read("/openstack/latest/vendor_data2.json")) == {}
    assert cell.get("/openstack/latest/user_data") == (200, SCRIPT)


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
def test_nothing_can_be_written(cell: Cell, method: str) -> None:
    status, body, _ = cell.ask("/openstack", cell.sign("/openstack", method=method), method)
    assert b"meta_data" not in body
    assert status in (200, 405)


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
        "//openstack",
        "/openstack//latest",
        "/openstack/../openstack",
        "/./openstack",
        "/openstack/latest/../../../etc/passwd",
        "/openstack%2flatest",
        "/openstack/latest%2fmeta_data.json",
        "/%2e%2e/etc/passwd",
        "/openstack/latest/meta_data.json/",
        "/openstack/latest/meta_data.json/x",
        "/openstack/latest//",
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
        servers = Servers(lambda host, server: conductor.find_server_on(None, host, server))  # type: ignore[arg-type]
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
