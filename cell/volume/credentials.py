"""What exports over TLS and the hosts that use them prove themselves with: an authority of the volume service's own."""

from __future__ import annotations

import datetime as dt
import ipaddress
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cell.volume.volume_files import write_durably
from cellcloud import clock

AUTHORITY_DAYS, SERVER_DAYS, HOST_DAYS = 3650, 3650, 825
SERVER_NAME = "volumes"
_SLACK = dt.timedelta(hours=1)  # for clocks that go behind


class ExportAuthority:
    """Its files have the names that QEMU looks for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()

    def ensure_server(self, address: str) -> None:
        """Have a certificate for exports at that address."""
        path = self.directory / "server-cert.pem"
        with self._lock:
            issuer, signing = self._own()
            wanted = _names_of(address)
            if path.exists():
                known = x509.load_pem_x509_certificate(path.read_bytes())
                found = known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
                if list(found) == wanted and known.issuer == issuer.subject:
                    return
            certificate, key = _issue(SERVER_NAME, SERVER_DAYS, issuer, signing, names=wanted)
            write_durably(self.directory / "server-key.pem", key)
            write_durably(path, certificate)

    def issue_to(self, host: str) -> dict[str, str]:
        """Return what a host proves itself with, and what it knows the server by (PEM)."""
        with self._lock:
            issuer, signing = self._own()
        certificate, key = _issue(host, HOST_DAYS, issuer, signing)
        authority = issuer.public_bytes(serialization.Encoding.PEM)
        return {"ca": authority.decode(), "certificate": certificate.decode(), "key": key.decode()}

    def _own(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        path, key_path = self.directory / "ca-cert.pem", self.directory / "ca-key.pem"
        if path.exists() and key_path.exists():
            key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
            if isinstance(key, ec.EllipticCurvePrivateKey):
                return x509.load_pem_x509_certificate(path.read_bytes()), key
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("cellcloud volumes")
        made = (
            _begin(name, name, key, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signing=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        write_durably(key_path, _pem_of(key))
        write_durably(path, made.public_bytes(serialization.Encoding.PEM))
        return made, key


def _issue(
    name: str,
    days: int,
    issuer: x509.Certificate,
    signing: ec.EllipticCurvePrivateKey,
    *,
    names: list[x509.GeneralName] | None = None,
) -> tuple[bytes, bytes]:
    """``names``: of a server; None: it is a client's."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.CLIENT_AUTH if names is None else ExtendedKeyUsageOID.SERVER_AUTH
    made = (
        _begin(_name(name), issuer.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(_usage(signing=False), critical=True)
    )
    if names is not None:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = made.sign(signing, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM), _pem_of(key)


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = clock.now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _names_of(address: str) -> list[x509.GeneralName]:
    try:
        return [x509.DNSName(SERVER_NAME), x509.IPAddress(ipaddress.ip_address(address))]
    except ValueError:
        return [x509.DNSName(SERVER_NAME), x509.DNSName(address)]


def _usage(*, signing: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signing,
        content_commitment=False,
        key_encipherment=not signing,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signing,
        crl_sign=signing,
        encipher_only=False,
        decipher_only=False,
    )


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
