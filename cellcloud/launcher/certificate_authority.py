"""A small certificate authority of one cloud: what its servers on this machine prove themselves with to its clients.

Its files lie beside the cloud's secrets. Certificates are made when first asked for, and anew when they come near their
end, or when the addresses or the authority have changed.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cellcloud import clock
from cellcloud.launcher.confinement import give_to, write_private

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397  # what clients accept at most
RENEW_DAYS = 120  # before the end; looked at whenever a server starts
SLACK = dt.timedelta(hours=1)  # for clocks that go behind
SERVERS_FILES = ("authority.pem", "server.pem", "server.key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The files of one server. ``authority``: what its clients verify it by."""

    authority: Path
    certificate: Path
    key: Path

    @property
    def authority_in_url(self) -> str:
        """The authority's file as a URL's query takes it."""
        return quote(str(self.authority))

    def copy_to(self, directory: Path, user: str = "") -> None:
        """Put the three files, by the names of SERVERS_FILES, where a server with a directory of its own sees them."""
        sources = (self.authority, self.certificate, self.key)
        for source, name in zip(sources, SERVERS_FILES, strict=True):
            write_private(directory / name, source.read_text())
            if user:
                give_to(user, directory / name)


class Authority:
    """Its certificate and key are ``authority.pem`` and ``authority.key`` in the directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.certificate = directory / "authority.pem"
        self._key_file = directory / "authority.key"

    def issue(self, name: str, addresses: Iterable[str]) -> Certificate:
        """Return the certificate of the server ``name`` for host names and IP addresses: the one there is, or a new
        one."""
        issuer, signing = self._own()
        wanted = sorted(set(addresses))
        files = Certificate(
            authority=self.certificate,
            certificate=self._directory / f"{name}.pem",
            key=self._directory / f"{name}.key",
        )
        if not _is_good(files, issuer, wanted):
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = (
                _begin(name, issuer.subject, key, SERVER_DAYS)
                .add_extension(x509.SubjectAlternativeName([_general_name(each) for each in wanted]), critical=False)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
                .add_extension(_usage(signing=False), critical=True)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
                .sign(signing, hashes.SHA256())
            )
            write_private(files.key, _pem_of(key))
            write_private(files.certificate, certificate.public_bytes(serialization.Encoding.PEM).decode())
        return files

    def _own(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        if self.certificate.exists() and self._key_file.exists():
            known = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            key = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
            if isinstance(key, ec.EllipticCurvePrivateKey) and _lasts(known, SERVER_DAYS + RENEW_DAYS):
                return known, key
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cellcloud authority")])
        made = (
            _begin("cellcloud authority", subject, key, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signing=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        write_private(self._key_file, _pem_of(key))
        write_private(self.certificate, made.public_bytes(serialization.Encoding.PEM).decode())
        return made, key


def _begin(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    now = clock.now()
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLACK)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _is_good(files: Certificate, issuer: x509.Certificate, addresses: list[str]) -> bool:
    if not (files.certificate.exists() and files.key.exists()):
        return False
    known = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    names = known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if list(names) != [_general_name(each) for each in addresses] or not _lasts(known, RENEW_DAYS):
        return False
    identifier = known.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return identifier.key_identifier == own.digest


def _lasts(certificate: x509.Certificate, days: int) -> bool:
    return certificate.not_valid_after_utc > clock.now() + dt.timedelta(days=days)


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _usage(*, signing: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signing,
        crl_sign=signing,
        encipher_only=False,
        decipher_only=False,
    )


def _pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
