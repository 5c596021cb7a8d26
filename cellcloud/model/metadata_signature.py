"""How a node's metadata proxy tells its cell's service, beyond doubt, which guest asks.

The proxy signs each request with the node's own key; the service derives the same key from the cell's secret. Nothing
but the standard library is imported here: the proxy is a small process.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

HOST = "X-Cellcloud-Host"
SERVER = "X-Cellcloud-Server"
PORT = "X-Cellcloud-Port"
TIME = "X-Cellcloud-Time"
NONCE = "X-Cellcloud-Nonce"
SIGNATURE = "X-Cellcloud-Signature"


def node_key(secret: bytes, host: str) -> bytes:
    """Return the key of one host: of no use for speaking as another."""
    return hmac.digest(secret, f"node:{host}".encode(), hashlib.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """What is signed. ``time`` is in whole seconds since 1970, as text; ``path`` as it stands in the request line;
    ``body`` empty where nothing is posted."""

    method: str
    path: str
    host: str
    server: str
    port: str
    time: str
    nonce: str
    body: bytes = b""

    def sign(self, key: bytes) -> str:
        """Return the signature in hexadecimal."""
        posted = (hashlib.sha256(self.body).hexdigest(),) if self.body else ()
        parts = (self.method, self.path, self.host, self.server, self.port, self.time, self.nonce, *posted)
        return hmac.new(key, "\n".join(parts).encode(), hashlib.sha256).hexdigest()

    def is_signed_by(self, key: bytes, signature: str) -> bool:
        """Return whether ``signature`` is this request's under ``key``, compared in constant time."""
        return hmac.compare_digest(self.sign(key).encode(), signature.encode())

    def headers(self, key: bytes) -> dict[str, str]:
        """Return the headers that carry the identity and its proof."""
        return {
            HOST: self.host,
            SERVER: self.server,
            PORT: self.port,
            TIME: self.time,
            NONCE: self.nonce,
            SIGNATURE: self.sign(key),
        }
