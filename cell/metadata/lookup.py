"""Which server asks: the proof its node's proxy gives, and the record behind it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cellcloud import clock, errors
from cellcloud.model import metadata_signature as names
from cellcloud.model.metadata_signature import SignedRequest, node_key
from cellcloud.model.server import ServerRecord
from cellcloud.safe_regex import Pattern
from cellcloud.server_states import VmState

WINDOW_SECONDS = 60.0
FRESH_SECONDS = 2.0
STALE_SECONDS = 15.0
MOST_ENTRIES = 10_000
UUID = Pattern(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FORMS = {
    names.HOST: Pattern(r"[A-Za-z0-9._-]{1,255}"),
    names.SERVER: UUID,
    names.PORT: UUID,
    names.TIME: Pattern(r"[0-9]{1,12}"),
    names.NONCE: Pattern(r"[0-9a-f]{32}"),
    names.SIGNATURE: Pattern(r"[0-9a-f]{64}"),
}
UNSERVED = {VmState.DELETED, VmState.SOFT_DELETED, VmState.SHELVED_OFFLOADED, VmState.ERROR}

Find = Callable[[str, str, str], ServerRecord | None]


class Gatekeeper:
    """Believes a request only when the node's own key signed it, just now and for the first time.

    Raises Misconfigured for an empty secret.
    """

    def __init__(self, secret: str) -> None:
        if not secret:
            raise errors.Misconfigured("The option metadata.secret must not be empty.")
        self._secret = secret.encode()
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    def verify(
        self, method: str, path: str, read_header: Callable[[str], str | None], body: bytes = b""
    ) -> SignedRequest:
        """Return the identity that a request carries. ``path``: as in the request line.

        Raises Invalid when its headers are not of the right form, Forbidden when they prove nothing.
        """
        given = {name: _read(name, read_header) for name in FORMS}
        request = SignedRequest(
            method=method,
            path=path,
            host=given[names.HOST],
            server=given[names.SERVER],
            port=given[names.PORT],
            time=given[names.TIME],
            nonce=given[names.NONCE],
            body=body,
        )
        fresh = abs(clock.now().timestamp() - int(request.time)) <= WINDOW_SECONDS
        genuine = request.is_signed_by(node_key(self._secret, request.host), given[names.SIGNATURE])
        if not (genuine and fresh and self._is_first(request)):
            raise errors.Forbidden("The request's signature is not valid.")
        return request

    def _is_first(self, request: SignedRequest) -> bool:
        """Remember the nonce for as long as its time would be believed."""
        now = clock.monotonic()
        with self._lock:
            while self._seen and next(iter(self._seen.values())) < now:
                self._seen.popitem(last=False)
            if (request.host, request.nonce) in self._seen:
                return False
            self._seen[request.host, request.nonce] = now + 2 * WINDOW_SECONDS
            return True


def _read(name: str, read_header: Callable[[str], str | None]) -> str:
    """One header's value; a second one of the same name would have been joined to it by a comma."""
    value = read_header(name)
    if value is None or not FORMS[name].matches(value):
        raise errors.Invalid(f"The header {name} is missing or malformed.")
    return value


@dataclass(frozen=True, slots=True)
class _Known:
    record: ServerRecord | None
    read_at: float


class Servers:
    """Records by host and server, kept for moments: long enough for a guest's boot to ask once, not many times.

    ``find`` is told the host, the server, and the password that its guest has posted, if it has.
    """

    def __init__(self, find: Find) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def get(self, host: str, server_id: str, port_id: str) -> ServerRecord:
        """Return the server on that host behind that port. Raises NotFound; Unreachable when nobody can say."""
        record = self._recall(host, server_id)
        if record is None or record.deleted or record.held or record.vm_state in UNSERVED:
            raise errors.NotFound("No metadata for this guest.")
        if record.host != host or record.id != server_id or all(port.id != port_id for port in record.ports):
            raise errors.NotFound("No metadata for this guest.")
        return record

    def keep_password(self, record: ServerRecord, password: str) -> None:
        """Keep what the server's guest has posted. Raises Conflict when there is another, NotFound, Unreachable."""
        if not record.spec.sealed_password:
            found = self._find(str(record.host), record.id, password)
            if found is None:
                raise errors.NotFound("No metadata for this guest.")
            record = found
            self._remember((str(record.host), record.id), record)
        if record.spec.sealed_password != password:
            raise errors.Conflict("The guest has a password already.")

    def _recall(self, host: str, server_id: str) -> ServerRecord | None:
        key = (host, server_id)
        known, now = self._known.get(key), clock.monotonic()
        if known is not None and now - known.read_at <= FRESH_SECONDS:
            return known.record
        try:
            record = self._find(host, server_id, "")
        except errors.TryLater:
            if known is None or now - known.read_at > STALE_SECONDS:
                raise
            return known.record
        self._remember(key, record)
        return record

    def _remember(self, key: tuple[str, str], record: ServerRecord | None) -> None:
        with self._lock:
            self._known[key] = _Known(record, clock.monotonic())
            self._known.move_to_end(key)
            while len(self._known) > MOST_ENTRIES:
                self._known.popitem(last=False)
