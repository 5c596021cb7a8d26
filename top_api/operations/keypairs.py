"""Keypairs: reading public keys, and generating pairs for those who ask for one."""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from cellcloud import errors
from cellcloud.db import keypairs as table
from cellcloud.db.engine import Connection, transact
from cellcloud.model.keypair import Keypair
from top_api import quota_limits
from top_api.services import ApiServices

_BITS = 3072


def create_keypair(
    services: ApiServices, *, project_id: str, user_id: str, name: str, kind: str, public_key: str | None
) -> tuple[Keypair, str | None]:
    """A keypair and, when it was generated, its private key, which is kept nowhere.

    The limit is that of the project, or a lower one of the user within it. Raises Invalid for a key that cannot be
    read, QuotaExceeded, Conflict for a name that is taken.
    """
    private_key = None
    if public_key is None:
        if kind != "ssh":
            raise errors.Invalid("A certificate must be given: pairs are generated for ssh only.")
        public_key, private_key = _generate()
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
