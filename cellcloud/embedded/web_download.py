"""Bytes from a URI that a user names, without lending the user this machine's place in the network.

A name is looked up once; every address it has must be one that may be asked, and the connection goes to that address,
whatever the name means a moment later. Each redirect is a URI like the first. Who answers slowly, or without end, is
left.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import SplitResult, urljoin, urlsplit

import psutil
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import BaseHTTPResponse

from cellcloud import clock, errors
from cellcloud.safe_regex import Pattern

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MOST_REDIRECTS = 5
MOST_ADDRESSES = 4  # of a name that are tried
IDLE_SECONDS = 30.0  # that a server may take to be reached, or to send another piece
LEAST_RATE = 8 << 10  # bytes a second, after IDLE_SECONDS
PIECE = 1 << 18
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_URI = Pattern(r"[!#-;=?-\[\]_a-z~]+", most=2048)  # letters of a URI, without the backslash that readers differ about
_HOST = Pattern(r"[0-9A-Za-z_.-]+|[0-9A-Fa-f:.]+", most=253)
# Of the Internet by their form, but they stand for IPv4 addresses, or for some that were the site's own.
_DISGUISES = tuple(
    ipaddress.ip_network(text)
    for text in ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10")
)


def _look_up(name: str) -> list[str]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class WebDownloadRules:
    """What may be fetched: from addresses of the Internet, but no machine's own, and of ``networks``; at ``ports``,
    none: any. ``seconds``: that a download may take in all. ``look_up``: the addresses that a name means; raises
    OSError."""

    networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset(_PORTS.values())
    seconds: float = 3600.0
    look_up: Callable[[str], Sequence[str]] = _look_up

    def allows(self, address: Address) -> bool:
        """Return whether that address may be asked."""
        address = getattr(address, "ipv4_mapped", None) or address
        if any(address in network for network in self.networks):
            return True
        return (
            address.is_global
            and not address.is_multicast
            and not any(address in network for network in _DISGUISES)
            and address not in _own_addresses()
        )


def make_rules(networks: list[str], ports: list[str], seconds: float) -> WebDownloadRules:
    """Read the options. Raises Misconfigured."""
    try:
        return WebDownloadRules(
            networks=tuple(ipaddress.ip_network(text) for text in networks),
            ports=frozenset(int(text) for text in ports),
            seconds=seconds,
        )
    except ValueError as error:
        raise errors.Misconfigured(f"What images may be imported from is not understood: {error}") from error


def check_uri(uri: object, rules: WebDownloadRules) -> SplitResult:
    """Return the parts of a URI that may be asked as far as it itself tells: what its name means is not looked up.
    Raises Invalid."""
    if isinstance(uri, str) and _URI.matches(uri):
        with suppress(ValueError):
            parts = urlsplit(uri)
            host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
            named = parts.scheme in _PORTS and "@" not in parts.netloc and _HOST.matches(host)
            if named and parts.port != 0 and (not rules.ports or port in rules.ports) and _may_be(host, rules):
                return parts
    raise _refusal(str(uri))


def download(uri: str, rules: WebDownloadRules) -> Iterator[bytes]:
    """Yield what is at the URI, in pieces. Raises Invalid where it may not be asked, or does not answer with it."""
    with _Deadline(rules.seconds) as deadline:
        for _ in range(MOST_REDIRECTS + 1):
            parts = check_uri(uri, rules)
            with closing(_connect(parts, rules, deadline)) as connection:
                try:
                    with closing(_ask(connection, parts)) as response:
                        where = response.headers.get("Location") if response.status in _REDIRECTS else None
                        if where is None:
                            yield from _pieces(response, deadline)
                            return
                except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
                    deadline.check()
                    host = parts.hostname
                    raise errors.Invalid(f"{host} did not send the image as it should.", detail=str(error)) from error
            uri = urljoin(uri, where)
    raise errors.Invalid(f"The URI led to more than {MOST_REDIRECTS} others.")


def _refusal(uri: str) -> errors.Invalid:
    return errors.Invalid(f"URI for web-download does not pass filtering: {uri[:200]}")


def _may_be(host: str, rules: WebDownloadRules) -> bool:
    """Return whether a host is no address, or one that may be asked."""
    try:
        return rules.allows(ipaddress.ip_address(host))
    except ValueError:
        return True


def _own_addresses() -> set[Address]:
    found = {address.address.partition("%")[0] for some in psutil.net_if_addrs().values() for address in some}
    own: set[Address] = set()
    for text in found:
        with suppress(ValueError):  # of a link, not of a network
            own.add(ipaddress.ip_address(text))
    return own


def _addresses_of(parts: SplitResult, rules: WebDownloadRules) -> list[str]:
    """Return what the host's name means, if all of it may be asked. Raises Invalid."""
    host = parts.hostname or ""
    try:
        addresses = rules.look_up(host)
        allowed = all(rules.allows(ipaddress.ip_address(address)) for address in addresses)
    except (OSError, ValueError) as error:  # UnicodeError is one of those
        raise errors.Invalid(f"The host {host} is not known.", detail=str(error)) from error
    if not allowed:
        raise _refusal(parts.geturl())
    return list(addresses[:MOST_ADDRESSES])


def _connect(parts: SplitResult, rules: WebDownloadRules, deadline: _Deadline) -> HTTPConnection:
    """Return a connection to the first address that takes one. Raises Invalid."""
    port, why = parts.port or _PORTS[parts.scheme], ""
    for address in _addresses_of(parts, rules):
        deadline.check()
        connection = _connection(parts, address, port)
        try:
            connection.connect()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            connection.close()
            why = str(error)
            continue
        deadline.watch(connection)
        return connection
    raise errors.Invalid(f"{parts.hostname} cannot be reached.", detail=why)


def _connection(parts: SplitResult, address: str, port: int) -> HTTPConnection:
    """Return a connection to that address, which has to prove that it is the host of the URI, where that is https."""
    if parts.scheme == "http":
        return HTTPConnection(address, port, timeout=IDLE_SECONDS)
    host = parts.hostname
    context = ssl.create_default_context()
    return HTTPSConnection(
        address, port, timeout=IDLE_SECONDS, ssl_context=context, server_hostname=host, assert_hostname=host
    )


def _ask(connection: HTTPConnection, parts: SplitResult) -> BaseHTTPResponse:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Host": parts.netloc, "User-Agent": "cellcloud", "Accept-Encoding": "identity", "Connection": "close"}
    connection.request("GET", path, headers=headers, preload_content=False, decode_content=False)
    return connection.getresponse()


def _pieces(response: BaseHTTPResponse, deadline: _Deadline) -> Iterator[bytes]:
    """Yield the body as it comes. Raises Invalid for another answer, and for one that comes too slowly."""
    if response.status != 200:
        raise errors.Invalid(f"The URI was answered with {response.status}.")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise errors.Invalid("The URI was answered with packed data, which was not asked for.")
    began, size = clock.monotonic(), 0
    while piece := response.read1(PIECE):
        size += len(piece)
        if size < (clock.monotonic() - began - IDLE_SECONDS) * LEAST_RATE:
            raise errors.Invalid("The image comes too slowly.")
        yield piece
    deadline.check()  # it is what cut the connection, perhaps


class _Deadline:
    """Cuts a connection once the time for a whole download is over, whatever is waited for."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._over = False
        self._socket: socket.socket | None = None

    def __enter__(self) -> _Deadline:
        threading.Thread(target=self._wait, name="image-download-deadline", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()

    def watch(self, connection: HTTPConnection) -> None:
        """Cut that connection in time. Raises Invalid where it is over."""
        with self._lock:
            self._socket = connection.sock
        self.check()

    def check(self) -> None:
        """Raise Invalid where the time is over."""
        if self._over:
            raise errors.Invalid("The download of the image took too long.")

    def _wait(self) -> None:
        if self._done.wait(self._seconds):
            return
        with self._lock:
            self._over = True
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
