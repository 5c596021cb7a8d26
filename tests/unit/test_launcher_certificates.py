"""The authority of a cloud: what it issues verifies, lasts, and is renewed in time."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellcloud import clock
from cellcloud.clock import ManualClock
from cellcloud.launcher.certificate_authority import (
    AUTHORITY_DAYS,
    RENEW_DAYS,
    SERVER_DAYS,
    SERVERS_FILES,
    Authority,
    Certificate,
)


@pytest.fixture
def hand() -> Iterator[ManualClock]:
    made = ManualClock(dt.datetime.now(dt.UTC))
    with clock.using(made):
        yield made


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


def greets(certificate: Certificate, trusted: Path, name: str) -> bool:
    """Whether a client that trusts that authority, and means that name, believes the server."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate.certificate, certificate.key)
    client = ssl.create_default_context(cafile=str(trusted))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(there, server_side=True).close()
        except OSError:
            there.close()

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        client.wrap_socket(here, server_hostname=name).close()
    except ssl.SSLCertVerificationError:
        return False
    finally:
        here.close()
        serving.join()
    return True


def test_a_client_believes_it_for_its_own_addresses_by_its_own_authority(tmp_path: Path, authority: Authority) -> None:
    made = authority.issue("api", ["127.0.0.1", "cloud.example.com"])
    stranger = Authority(tmp_path / "other").issue("api", ["127.0.0.1"])
    assert greets(made, authority.certificate, "127.0.0.1")
    assert greets(made, authority.certificate, "cloud.example.com")
    assert not greets(made, authority.certificate, "127.0.0.2")
    assert not greets(made, authority.certificate, "example.com")
    assert not greets(stranger, authority.certificate, "127.0.0.1")
    made.copy_to(tmp_path)
    for path in (*(tmp_path / "tls").iterdir(), *(tmp_path / name for name in SERVERS_FILES)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_made_anew_when_it_must_be(tmp_path: Path, authority: Authority, hand: ManualClock) -> None:
    def issue(*addresses: str) -> bytes:
        """By another process, as each start is one."""
        return Authority(tmp_path / "tls").issue("api", addresses or ["127.0.0.1"]).certificate.read_bytes()

    first = issue()
    assert issue() == first
    hand.advance(86400.0)
    assert issue() == first
    other = issue("10.0.0.1", "127.0.0.1")
    assert other != first
    before = authority.certificate.read_bytes()
    hand.advance((SERVER_DAYS - RENEW_DAYS) * 86400.0)
    assert Authority(tmp_path / "tls").issue("api", ["10.0.0.1", "127.0.0.1"]).certificate.read_bytes() != other
    assert authority.certificate.read_bytes() == before
    hand.advance((AUTHORITY_DAYS - 2 * SERVER_DAYS) * 86400.0)
    renewed = Authority(tmp_path / "tls").issue("api", ["127.0.0.1"])
    assert authority.certificate.read_bytes() != before
    assert renewed.certificate.read_bytes() != other
