"""What the API says of a request by its head alone: which threads it needs, and whether its body is to be read."""

from __future__ import annotations

from collections.abc import Mapping

from cellcloud import errors
from cellcloud.clients.identity import IdentityClient
from cellcloud.safe_regex import Pattern
from top_api.auth import TOKEN
from top_api.public_address import plain

LOGIN = ("POST", "/identity/v3/auth/tokens")
_FILE = Pattern(r"/image/v2/images/[^/]+/(file|stage)", most=200)


class HeadGate:
    """``most``: bytes of a body that the API takes; images' bytes are streamed."""

    def __init__(self, identity: IdentityClient, *, most: int) -> None:
        self.most = most
        self._identity = identity

    def lane(self, method: str, path: str) -> str:
        """ "login", "transfer" or "ordinary"."""
        path = plain(path).rstrip("/")
        if (method, path) == LOGIN:
            return "login"
        return "transfer" if method in ("PUT", "GET") and _FILE.matches(path) else "ordinary"

    def admits(self, headers: Mapping[str, str]) -> str | None:
        """Return the project of the token; None where the request would be refused for it."""
        token = headers.get("x-auth-token", "")
        if not TOKEN.matches(token):
            return None
        try:
            return self._identity.validate_token(token).project_id or None
        except errors.CellcloudError:
            return None
