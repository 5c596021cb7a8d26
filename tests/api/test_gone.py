"""What Nova has given up answers 410, at every microversion, to whoever has a token."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellcloud.db import top_schema
from cellcloud.db.engine import Database
from tests.api.world import World

GONE = """
GET /os-agents; POST /os-agents; PUT /os-agents/{id}; DELETE /os-agents/{id}; POST /os-cells; GET /os-cells;
GET /os-cells/capacities; GET /os-cells/detail; GET /os-cells/info; POST /os-cells/sync_instances; GET /os-cells/{id};
PUT /os-cells/{id}; DELETE /os-cells/{id}; GET /os-cells/{id}/capacities; POST /os-certificates;
GET /os-certificates/{id}; GET /os-cloudpipe; POST /os-cloudpipe; PUT /os-cloudpipe/{id}; GET /os-fixed-ips/{id};
POST /os-fixed-ips/{id}/action [reserve]; POST /os-fixed-ips/{id}/action [unreserve]; GET /os-floating-ip-dns;
PUT /os-floating-ip-dns/{id}; DELETE /os-floating-ip-dns/{id}; GET /os-floating-ip-dns/{domain_id}/entries/{id};
PUT /os-floating-ip-dns/{domain_id}/entries/{id}; DELETE /os-floating-ip-dns/{domain_id}/entries/{id};
GET /os-floating-ips-bulk; POST /os-floating-ips-bulk; GET /os-floating-ips-bulk/{id}; PUT /os-floating-ips-bulk/{id};
GET /os-fping; GET /os-fping/{id}; POST /os-networks; POST /os-networks/add; DELETE /os-networks/{id};
POST /os-networks/{id}/action [disassociate]; POST /os-networks/{id}/action [disassociate_host];
POST /os-networks/{id}/action [disassociate_project]; POST /os-networks/{id}/action [associate_host];
GET /os-security-group-default-rules; POST /os-security-group-default-rules;
GET /os-security-group-default-rules/{id}; DELETE /os-security-group-default-rules/{id}; POST /os-tenant-networks;
DELETE /os-tenant-networks/{id}; POST /servers/{id}/action [resetNetwork]; POST /servers/{id}/action [os-getRDPConsole];
GET /servers/{server_id}/consoles; POST /servers/{server_id}/consoles; GET /servers/{server_id}/consoles/{id};
DELETE /servers/{server_id}/consoles/{id}; GET /servers/{server_id}/os-virtual-interfaces
"""
ROWS = [row.strip() for row in GONE.split(";")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all: nothing here is ever done."""
    folder: Path = tmp_path_factory.mktemp("gone")
    database = Database(f"sqlite:///{folder}/top.db")
    with database.write() as connection:
        top_schema.metadata.create_all(connection)
    made = World(database, folder)
    yield made
    made.close()
    database.close()


def test_the_table_is_whole() -> None:
    assert len(ROWS) == 54


@pytest.mark.parametrize("row", ROWS)
def test_it_is_gone(world: World, row: str) -> None:
    method, path, action = (re.fullmatch(r"(\w+) (\S+)(?: \[(.+)\])?", row) or pytest.fail(row)).groups()
    path = re.sub(r"\{\w+\}", "x", path)
    body = {action: {}} if action else {} if method in ("POST", "PUT") else None
    for version in ("2.1", "2.36", "2.44", "2.100"):
        answer = world.call(method, path, body, version=version)
        assert answer.status_code == 410, (version, answer.text)
        assert answer.get_json()["computeFault"]["code"] == 410
    assert world.call(method, path, body, token=None).status_code == 401


@pytest.mark.parametrize("path", ["/os-networks", "/os-networks/x", "/os-tenant-networks", "/os-tenant-networks/x"])
def test_networks_are_asked_of_the_network_service(world: World, path: str) -> None:
    assert world.get(path, version="2.36").status_code == 404


@pytest.mark.parametrize("path", ["/os-volumes_boot", "/os-volumes_boot/detail", "/os-volumes_boot/x"])
def test_the_old_name_of_servers_is_not_served(world: World, path: str) -> None:
    assert world.get(path).status_code == 404
