"""What the top gives a server on its way to a cell, to know it again when nothing else is known of it any more.

A top whose database fell back takes in servers that its cells tell of. That it had placed them there itself, for that
project, is proven by a word only the top can make, which stays with the server.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

from cellcloud.model.server import ServerSpec


class Proofs:
    """Made and checked with the top's own key."""

    def __init__(self, key: str = "") -> None:
        self._key = hashlib.sha256(f"placements:{key}".encode()).digest()

    def sign(self, spec: ServerSpec, cell: str) -> ServerSpec:
        """Return the request as it goes to that cell."""
        return replace(spec, placement_proof=self._word(spec, cell))

    def holds(self, spec: ServerSpec, cell: str) -> bool:
        """Return whether the top once sent this server, of that project and user, to that cell."""
        return hmac.compare_digest(spec.placement_proof.encode(), self._word(spec, cell).encode())

    def _word(self, spec: ServerSpec, cell: str) -> str:
        told = "\n".join((cell, spec.id, spec.project_id, spec.user_id))
        return hmac.new(self._key, told.encode(), hashlib.sha256).hexdigest()
