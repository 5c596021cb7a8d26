"""Reading the whole cloud through the operators' routes of the top's API."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import yaml
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import v3

from cellcloud import errors
from cellcloud.model import codec
from cellcloud.model.cell import Cell, Finding
from cellcloud.model.explanation import (
    CellAggregate,
    CellPolicy,
    CellShadow,
    Explanation,
    Fits,
    Loss,
    Replayed,
)
from cellcloud.model.host import Aggregate, Host
from cellcloud.model.observed_guests import UnknownGuest
from cellcloud.model.run import RunRecord, TimelineEntry
from cellcloud.model.server import ServerRecord

T = TypeVar("T")
OPERATORS, AGGREGATES = "/operator/v1", "/v2.1/os-aggregates"
MICROVERSION = "2.41"  # of the Compute API, where it is asked
TIMEOUT = 70.0  # seconds; decisions are made again from long logs
BY_STATUS: dict[int, type[errors.CellcloudError]] = {
    400: errors.Invalid,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    503: errors.Unreachable,
    504: errors.Unreachable,
}


def find_cloud(name: str) -> dict[str, Any]:
    """Return the entry ``name`` of clouds.yaml: OS_CLIENT_CONFIG_FILE's, or the nearest one upwards from here.

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

    def repair(self, server_ids: list[str], *, keep: str | None) -> list[Finding]:
        return self._write("/repairs", "findings", list[Finding], servers=server_ids, keep=keep)

    def list_unknown_guests(self, *, host: str | None, cell: str | None) -> list[UnknownGuest]:
        return self._read("/guests", "guests", list[UnknownGuest], host=host, cell=cell)

    def adopt_guest(self, server_id: str, *, host: str, cell: str | None) -> ServerRecord:
        path = f"/guests/{quote(server_id, safe='')}/adopt"
        return self._write(path, "server", ServerRecord, host=host, cell=cell)

    def remove_host(self, host: str, *, force: bool, cell: str | None) -> None:
        self._write(f"/hosts/{quote(host, safe='')}/remove", "removed", str, force=force, cell=cell)

    def release_name(self, host: str, *, cell: str | None) -> None:
        self._write(f"/hosts/{quote(host, safe='')}/release", "released", str, cell=cell)

    def remove_guest(self, server_id: str, *, host: str, cell: str | None) -> list[UnknownGuest]:
        path = f"/guests/{quote(server_id, safe='')}/remove"
        return self._write(path, "guests", list[UnknownGuest], host=host, cell=cell)

    # ---- scheduling --------------------------------------------------------------------------------------------
    def find_servers(self, name: str) -> list[ServerRecord]:
        return self._read("/servers", "servers", list[ServerRecord], name=name)

    def find_projects(self, name: str) -> list[str] | None:
        wanted = {"service_type": "identity", "region_name": self._filter["region_name"], "version": (3, 0)}
        try:
            answer = self._session.get("/projects", endpoint_filter=wanted, params={"name": name}, timeout=TIMEOUT)
        except (exceptions.ClientException, ValueError) as error:
            raise errors.Unreachable("The identity service does not list projects.", detail=str(error)) from error
        return [project["id"] for project in answer.json()["projects"]]

    def explain(self, key: str, *, host: str | None, cell: str | None, most: int) -> list[Explanation]:
        return self._read(
            "/explanations", "explanations", list[Explanation], key=key, host=host, cell=cell, most=str(most)
        )

    def replay(self, decision: str, *, policy: dict[str, object] | None, cell: str | None) -> Replayed:
        return self._write(
            f"/decisions/{quote(decision, safe='')}/replay", "replayed", Replayed, policy=policy, cell=cell
        )

    def plan_fits(self, flavor: str, *, servers: int, zone: str | None, cell: str | None) -> list[Fits]:
        return self._write("/plans/fits", "fits", list[Fits], flavor=flavor, servers=servers, zone=zone, cell=cell)

    def plan_loss(self, hosts: list[str], *, drain: bool) -> list[Loss]:
        return self._write("/plans/loss", "losses", list[Loss], hosts=hosts, drain=drain)

    def list_policies(self, cell: str | None) -> list[CellPolicy]:
        return self._read("/policies", "policies", list[CellPolicy], cell=cell)

    def add_policy(self, document: dict[str, object], *, comment: str, cell: str | None) -> list[CellPolicy]:
        return self._write("/policies", "policies", list[CellPolicy], document=document, comment=comment, cell=cell)

    def set_policy_role(self, role: str, *, version: int | None, cell: str | None) -> list[CellPolicy]:
        return self._write("/policies/roles", "policies", list[CellPolicy], role=role, version=version, cell=cell)

    def list_shadows(self, cell: str | None) -> list[CellShadow]:
        return self._read("/policies/shadow", "shadows", list[CellShadow], cell=cell)

    def list_aggregates(self, cell: str | None) -> list[CellAggregate]:
        if cell is not None:
            return self._read("/aggregates", "aggregates", list[CellAggregate], cell=cell)
        found: list[Aggregate] = self._ask("GET", AGGREGATES, "aggregates", list[Aggregate])
        return [CellAggregate(cell="", aggregate=one) for one in found]

    def create_aggregate(self, name: str, zone: str | None) -> Aggregate:
        given = {"name": name, **({"availability_zone": zone} if zone else {})}
        made: Aggregate = self._ask("POST", AGGREGATES, "aggregate", Aggregate, json={"aggregate": given})
        shown: Aggregate = self._ask("GET", f"{AGGREGATES}/{made.id}", "aggregate", Aggregate)
        return shown  # the answer to a create has no metadata, and so no zone

    def change_aggregate(self, number: int, action: str, what: dict[str, object]) -> Aggregate:
        method, path, key = ("PUT", "", "aggregate") if action == "update" else ("POST", "/action", action)
        changed: Aggregate = self._ask(method, f"{AGGREGATES}/{number}{path}", "aggregate", Aggregate, json={key: what})
        return changed

    def delete_aggregate(self, number: int) -> None:
        self._ask("DELETE", f"{AGGREGATES}/{number}", "", None)

    # ---- requests ----------------------------------------------------------------------------------------------
    def _read(self, path: str, key: str, kind: type[T] | Any, /, **query: object) -> T:
        given = {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in query.items()
            if value is not None and value is not False
        }
        found: T = self._ask("GET", path, key, kind, params=given)
        return found

    def _write(self, path: str, key: str, kind: type[T] | Any, /, **body: object) -> T:
        found: T = self._ask("POST", path, key, kind, json=body)
        return found

    def _ask(self, method: str, path: str, key: str, kind: type[T] | Any, **what: Any) -> T:
        """Ask for a path of the operators' routes or, if it begins with /v2.1, of the Compute API."""
        try:
            compute = self._session.get_endpoint(service_type="compute", **self._filter)
            if compute is None:
                raise errors.Misconfigured("The cloud's catalog has no compute service.")
            root = urlsplit(compute)
            url = f"{root.scheme}://{root.netloc}{path if path.startswith('/v2.1/') else OPERATORS + path}"
            headers = {"OpenStack-API-Version": f"compute {MICROVERSION}"}
            answer = self._session.request(url, method, raise_exc=False, timeout=TIMEOUT, headers=headers, **what)
        except exceptions.Unauthorized as error:
            raise errors.Unauthenticated("The password in clouds.yaml is not accepted.") from error
        except (exceptions.ConnectFailure, exceptions.DiscoveryFailure, exceptions.HttpServerError) as error:
            raise errors.Unreachable("The cloud's API does not answer.", detail=str(error)) from error
        except exceptions.ClientException as error:
            raise errors.Misconfigured("Signing in with clouds.yaml did not work.", detail=str(error)) from error
        if answer.status_code != 200:
            raise BY_STATUS.get(answer.status_code, errors.CallHuman)(_message(answer))
        found: T = codec.from_plain(answer.json().get(key) if key else None, kind)
        return found


def _message(answer: Any) -> str:
    try:
        body = answer.json()
        return str(next(iter(body.values()))["message"])
    except (ValueError, AttributeError, StopIteration, KeyError, TypeError):
        return f"The API answered {answer.status_code}."
