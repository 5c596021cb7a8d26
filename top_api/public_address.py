"""The address by which clients reach this API, put into each request, so that every service builds its links from it.

With ``public_url`` it is that. Else it is what the request says: its Host, or what a listed proxy says in front of it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from werkzeug.middleware.proxy_fix import ProxyFix

from cellcloud import errors

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
FORWARDED = ("FOR", "PROTO", "HOST", "PORT", "PREFIX")


def plain(path: str) -> str:
    """Return the path with one slash for several in a row, as OpenStack's services read it."""
    while "//" in path:
        path = path.replace("//", "/")
    return path


class PublicAddress:
    """WSGI middleware. ``trusted_proxies``: addresses or networks whose X-Forwarded headers are believed; those of all
    others are dropped. Raises Misconfigured for a URL or network that has no such form."""

    def __init__(self, application: Application, *, public_url: str, trusted_proxies: Sequence[str]) -> None:
        self._application = application
        self._behind_proxy = ProxyFix(application, x_for=1, x_proto=1, x_host=1, x_prefix=1)
        self._trusted = [_network(each) for each in trusted_proxies]
        url = urlsplit(public_url.rstrip("/"))
        if public_url and (url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment):
            raise errors.Misconfigured("The option top.public_url is not of the form http[s]://host[:port][/path].")
        self._fixed = (
            {"wsgi.url_scheme": url.scheme, "HTTP_HOST": url.netloc, "SCRIPT_NAME": url.path} if public_url else {}
        )

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        trusted = self._is_trusted(environ.get("REMOTE_ADDR", ""))
        if not trusted:
            for name in FORWARDED:
                environ.pop(f"HTTP_X_FORWARDED_{name}", None)
        if self._fixed:
            environ.update(self._fixed)
        elif trusted:
            return self._behind_proxy(environ, start_response)
        return self._application(environ, start_response)

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise errors.Misconfigured(f"The option top.trusted_proxies has {text}, which is no network.") from error
