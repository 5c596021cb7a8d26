"""A guest's password, readable only with the private key of its server's keypair. Source: Nova's server passwords."""

from __future__ import annotations

import base64

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key


def seal(password: str, public_key: str) -> str:
    """Return base64 text; "" where there is no key, or none that can seal anything: RSA's can, up to their length."""
    try:
        key = load_ssh_public_key(public_key.encode())
        if isinstance(key, RSAPublicKey):
            return base64.b64encode(key.encrypt(password.encode(), PKCS1v15())).decode()
    except (ValueError, UnsupportedAlgorithm):
        return ""
    return ""
