"""One way to talk to an OpenStack service: a pooled session, the service account's token, time-outs, our errors."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import requests
from keystoneauth1 import exceptions as keystone_errors
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from requests.adapters import HTTPAdapter

from cellcloud import errors
from cellcloud.config import IdentityConfig

TIMEOUT = 20.0
UPLOAD_TIMEOUT = 300.0  # seconds between two pieces, and for the service to take in what it got
DOMAIN = "default"
_CONNECTIONS = 32
_CHUNK = 1 << 20
_RAISED: dict[int, type[errors.CellcloudError]] = {
    401: errors.Misconfigured,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    412: errors.Stale,
    413: errors.TooLarge,
    429: errors.Busy,
}


def make_session(config: IdentityConfig, *, timeout: float = TIMEOUT, project_id: str = "") -> Session:
    """Return a session of the service account, in its own project unless another is named. Its token is fetched at
    first use and again when it is refused."""
    if not config.auth_url or not config.username:
        raise errors.Misconfigured("Set identity.auth_url, username and password for the service account.")
    auth = v3.Password(
        auth_url=identity_url(config.auth_url),
        username=config.username,
        password=config.password,
        user_domain_id=DOMAIN,
        project_id=project_id or None,
        project_name=None if project_id else config.project_name,
        project_domain_id=None if project_id else DOMAIN,
    )
    pool = requests.Session()
    for scheme in ("http://", "https://"):
        pool.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=_CONNECTIONS))
    pool.trust_env = False
    verify = config.cafile or True
    return Session(auth=auth, session=pool, verify=verify, timeout=timeout, user_agent="cellcloud")


def identity_url(auth_url: str) -> str:
    """Return the v3 root, whichever root was configured."""
    url = auth_url.rstrip("/")
    return url if url.endswith("/v3") else f"{url}/v3"


class _Pieces:
    """Bytes that come in pieces, and how many they are in all: so that they are sent with their length."""

    def __init__(self, size: int, data: Iterable[bytes]) -> None:
        self._size = size
        self._data = data

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._data)


class RestService:
    """One service of the catalog, or at a given URL. Safe to call from several threads."""

    def __init__(self, session: Session, kind: str, *, url: str = "", version: str = "") -> None:
        self._session = session
        self._kind = kind
        self._given = url
        self._version = version
        self._root = ""
        self._lock = threading.Lock()

    def get_url(self) -> str:
        """Return the service's root. Raises Misconfigured where the catalog has none."""
        return self._url()

    def get(self, path: str, params: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Return the answer's JSON. Raises the error that fits the answer, Unreachable for none."""
        return self._send("GET", path, params=params, headers=headers).json()

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Any:
        """As ``get``. Never repeated by itself: a lost answer does not tell whether the thing was made."""
        return self._send("POST", path, json=body, headers=headers).json()

    def act(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """As ``post``, where nothing is answered."""
        self._send("POST", path, json=body, headers=headers)

    def put(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Any:
        """As ``get``."""
        return self._send("PUT", path, json=body, headers=headers).json()

    def patch(self, path: str, body: Any, headers: Mapping[str, str]) -> Any:
        """As ``get``."""
        return self._send("PATCH", path, json=body, headers=headers).json()

    def upload(self, path: str, size: int, data: Iterable[bytes]) -> None:
        """Send bytes, ``size`` of them in all; they can be read once only, so that nothing of it is repeated."""
        headers = {"Content-Type": "application/octet-stream"}
        once = {"allow_reauth": False, "connect_retries": 0, "timeout": UPLOAD_TIMEOUT}
        self._send("PUT", path, headers=headers, data=_Pieces(size, data), **once)

    def delete(self, path: str, headers: Mapping[str, str] | None = None) -> None:
        """Absent is success."""
        try:
            self._send("DELETE", path, headers=headers)
        except errors.NotFound:
            return

    def stream(self, path: str) -> Iterator[bytes]:
        """Return the answer's bytes in pieces; raises before the first piece, or Unreachable when it breaks off."""
        return self._pieces(self._send("GET", path, stream=True))

    def _pieces(self, response: requests.Response) -> Iterator[bytes]:
        try:
            with response:
                yield from response.iter_content(_CHUNK)
        except requests.RequestException as error:
            raise errors.Unreachable(f"The {self._kind} service broke off.", detail=str(error)) from error

    def _send(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        try:
            response: requests.Response = self._session.request(
                self._url() + path,
                method,
                raise_exc=False,
                redirect=False,
                log=False,
                **{"connect_retries": 0 if method == "POST" else 1, **kwargs},
            )
        except (keystone_errors.ConnectFailure, keystone_errors.RetriableConnectionFailure) as error:
            raise errors.Unreachable(f"The {self._kind} service does not answer.", detail=str(error)) from error
        except keystone_errors.Unauthorized as error:
            raise errors.Misconfigured("The service account was refused.", detail=str(error)) from error
        except keystone_errors.ClientException as error:
            raise errors.Unreachable(f"The {self._kind} service cannot be used now.", detail=str(error)) from error
        if response.status_code >= 300:
            raise self._error(response)
        return response

    def _error(self, response: requests.Response) -> errors.CellcloudError:
        status, said = response.status_code, _message(response)
        if status >= 500 or status < 400:
            return errors.Unreachable(f"The {self._kind} service has a fault.", detail=f"{status} {said}")
        raised = _RAISED.get(status, errors.Invalid)
        start = response.text[:200]
        if (status == 409 and "OverQuota" in start) or (status == 413 and '"overLimit"' in start):
            raised = errors.QuotaExceeded  # in Neutron's words, and in Cinder's
        return raised(said, detail=f"{self._kind} {status}")

    def _url(self) -> str:
        with self._lock:
            root = self._root
        if root:
            return root
        found = self._given or self._session.get_endpoint(service_type=self._kind, interface="public")
        if not found:
            raise errors.Misconfigured(f"The catalog has no {self._kind} service.")
        root = str(found).rstrip("/")
        if self._version and not root.endswith(self._version):
            root += self._version
        with self._lock:
            self._root = root
        return root


def _message(response: requests.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return response.reason or "refused"
    found: Any = body
    if isinstance(body, dict):
        nested = (one for one in body.values() if isinstance(one, dict) and "message" in one)
        found = next(nested, body)  # of each service under another word: "error", "NeutronError", "badRequest"
    if isinstance(found, dict):
        found = found.get("message")
    return str(found)[:500] if found else "refused"
