"""Reading the whole cloud through the operators' routes of the top's API."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import yaml
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import v3

from cellcloud import errors
from cellcloud.model import codec
from cellcloud.model.cell import Cell, Finding
from cellcloud.model.host import Host
from cellcloud.model.run import RunRecord, TimelineEntry
from cellcloud.model.server import ServerRecord

T = TypeVar("T")
TIMEOUT = 40.0  # seconds; the books of every cell are checked in one request
BY_STATUS: dict[int, type[errors.CellcloudError]] = {
    400: errors.Invalid,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    503: errors.Unreachable,
    504: errors.Unreachable,
}


def find_cloud(name: str) -> dict[str, Any]:
    """The entry ``name`` of clouds.yaml: OS_CLIENT_CONFIG_FILE's, or the nearest one upwards from here.

    Raises Misconfigured with what to do.
    """
    given = os.environ.get("OS_CLIENT_CONFIG_FILE")
    here = Path.cwd()
    places = [Path(given)] if given else [folder / "clouds.yaml" for folder in (here, *here.parents)]
    for place in places:
        if place.is_file():
            try:
                clouds = (yaml.safe_load(place.read_text()) or {}).get("clouds") or {}
            except (OSError, yaml.YAMLError, AttributeError) as error:
                raise errors.Misconfigured(f"{place} cannot be read as YAML.") from error
            if not isinstance(clouds.get(name), dict):
                raise errors.Misconfigured(f"{place} has no cloud '{name}'; it has: {', '.join(clouds) or 'none'}.")
            return dict(clouds[name])
    raise errors.Misconfigured(
        "There is no clouds.yaml here. Run this where 'make cloud' wrote it, or set OS_CLIENT_CONFIG_FILE to it."
    )


class RemoteSource:
    """Asks the API with a cloud's credentials."""

    def __init__(self, cloud: Mapping[str, Any]) -> None:
        auth = {key: value for key, value in (cloud.get("auth") or {}).items() if value is not None}
        try:
            password = v3.Password(**auth)
        except TypeError as error:
            raise errors.Misconfigured("The cloud's 'auth' in clouds.yaml has a key that is not known.") from error
        self._session = session.Session(auth=password, verify=cloud.get("cacert") or cloud.get("verify", True))
        self._filter = {"region_name": cloud.get("region_name"), "interface": cloud.get("interface", "public")}

    def list_cells(self) -> list[Cell]:
        return self._read("/cells", "cells", list[Cell])

    def get_cell(self, name: str) -> Cell:
        return self._read(f"/cells/{name}", "cell", Cell)

    def list_hosts(self, cell: str | None) -> list[Host]:
        return self._read("/hosts", "hosts", list[Host], cell=cell)

    def list_servers(self, *, cell: str | None, project: str | None, limit: int) -> list[ServerRecord]:
        return self._read("/servers", "servers", list[ServerRecord], cell=cell, project=project, limit=limit)

    def get_server(self, server_id: str) -> ServerRecord:
        return self._read(f"/servers/{server_id}", "server", ServerRecord)

    def get_timeline(self, server_id: str) -> list[TimelineEntry]:
        return self._read(f"/servers/{server_id}/timeline", "timeline", list[TimelineEntry])

    def list_operations(self, *, server_id: str | None, unfinished: bool) -> list[RunRecord]:
        return self._read("/operations", "operations", list[RunRecord], server=server_id, unfinished=unfinished)

    def get_operation(self, run_id: str) -> RunRecord:
        return self._read(f"/operations/{run_id}", "operation", RunRecord)

    def list_findings(self) -> list[Finding]:
        return self._read("/findings", "findings", list[Finding])

    def _read(self, path: str, key: str, kind: type[T] | Any, **query: object) -> T:
        params = {name: str(value).lower() for name, value in query.items() if value is not None and value is not False}
        try:
            compute = self._session.get_endpoint(service_type="compute", **self._filter)
            if compute is None:
                raise errors.Misconfigured("The cloud's catalog has no compute service.")
            root = urlsplit(compute)
            url = f"{root.scheme}://{root.netloc}/operator/v1{path}"
            answer = self._session.get(url, params=params, raise_exc=False, timeout=TIMEOUT)
        except exceptions.Unauthorized as error:
            raise errors.Unauthenticated("The password in clouds.yaml is not accepted.") from error
        except (exceptions.ConnectFailure, exceptions.DiscoveryFailure, exceptions.HttpServerError) as error:
            raise errors.Unreachable("The cloud's API does not answer.", detail=str(error)) from error
        except exceptions.ClientException as error:
            raise errors.Misconfigured("Signing in with clouds.yaml did not work.", detail=str(error)) from error
        if answer.status_code != 200:
            raise BY_STATUS.get(answer.status_code, errors.CallHuman)(_message(answer))
        found: T = codec.from_plain(answer.json().get(key), kind)
        return found


def _message(answer: Any) -> str:
    try:
        body = answer.json()
        return str(next(iter(body.values()))["message"])
    except (ValueError, AttributeError, StopIteration, KeyError, TypeError):
        return f"The API answered {answer.status_code}."
