"""Keypairs: reading public keys, and generating pairs for those who ask for one."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cellcloud import clock, errors
from cellcloud.db import keypairs as table
from cellcloud.db.engine import Connection, transact
from cellcloud.model.keypair import Keypair
from top_api import quota_limits
from top_api.services import ApiServices

_BITS = 3072
_LONGEST_NAME = 64  # characters of a common name
_PRINCIPAL_NAME = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")  # Microsoft's: who logs in


def create_keypair(
    services: ApiServices, *, project_id: str, user_id: str, name: str, kind: str, public_key: str | None
) -> tuple[Keypair, str | None]:
    """Return a keypair and, when it was generated, its private key, which is kept nowhere.

    The limit is that of the project, or a lower one of the user within it. Raises Invalid for a key that cannot be
    read, QuotaExceeded, Conflict for a name that is taken.
    """
    private_key = None
    if public_key is None:
        public_key, private_key = _generate() if kind == "ssh" else _generate_certificate(user_id)
    keypair = Keypair(
        name=name,
        user_id=user_id,
        type=kind,
        public_key=public_key,
        fingerprint=fingerprint_of(public_key, kind),
    )

    def store(connection: Connection) -> Keypair:
        most = quota_limits.most_of_user(connection, project_id, user_id, services.config.quota, "key_pairs")
        return table.create_keypair(connection, keypair, most=most)

    return transact(services.database, store), private_key


def _generate() -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{public.decode()} Generated-by-cellcloud\n", private.decode()


def _generate_certificate(user_id: str) -> tuple[str, str]:
    """Make a certificate that its user logs in with at a Windows guest, as PEM, and it with its key as PKCS 12 without
    a password, in base64. Source: Nova's, of ten years."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user_id[:_LONGEST_NAME])])
    utf8 = f"{user_id}@localhost".encode()
    principal = x509.OtherName(_PRINCIPAL_NAME, b"\x0c" + _der_length(len(utf8)) + utf8)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(clock.now() - dt.timedelta(days=1))
        .not_valid_after(clock.now() + dt.timedelta(days=3650))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([principal]), critical=False)
        .sign(key, hashes.SHA256())
    )
    both = pkcs12.serialize_key_and_certificates(None, key, certificate, None, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), base64.b64encode(both).decode()


def _der_length(length: int) -> bytes:
    """Return how DER says how long a value of less than 64 KiB is."""
    if length < 128:
        return bytes([length])
    return b"\x81" + bytes([length]) if length < 256 else b"\x82" + length.to_bytes(2, "big")


def fingerprint_of(public_key: str, kind: str) -> str:
    """MD5 of an ssh key as the API shows it, SHA-1 of a certificate. Raises Invalid."""
    if kind == "x509":
        try:
            certificate = x509.load_pem_x509_certificate(public_key.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise errors.Invalid("Keypair data is invalid: failed to generate fingerprint") from error
        return certificate.fingerprint(hashes.SHA1()).hex(":")  # noqa: S303 -- an identifier, as in Nova
    words = public_key.split()
    try:
        serialization.load_ssh_public_key(" ".join(words[:2]).encode())
        blob = base64.b64decode(words[1], validate=True)
    except (ValueError, UnsupportedAlgorithm, IndexError, binascii.Error) as error:
        raise errors.Invalid("Keypair data is invalid: failed to generate fingerprint") from error
    if "\n" in public_key.strip() or "\r" in public_key.strip():
        raise errors.Invalid("Keypair data is invalid: a public key is one line")
    return hashlib.md5(blob, usedforsecurity=False).digest().hex(":")
