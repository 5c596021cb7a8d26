"""Every column that a list may be filtered and sorted by, on every database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cellcloud import errors
from cellcloud.db import images, networks, ports
from cellcloud.db.engine import Database
from cellcloud.db.listing import Condition, Page
from cellcloud.embedded.networks import Viewer
from cellcloud.model.network import NewPort
from tests.embedded_cloud import make_cloud

ADMIN = Viewer(project_id="", is_admin=True)


def test_each_column_orders_and_walks(top_database: Database, tmp_path: Path) -> None:
    cloud = make_cloud(top_database, tmp_path)
    for number in range(3):
        made = cloud.network("p", f"10.{number}.0.0/24")
        cloud.networks.create_ports(ADMIN, [NewPort(network_id=made.id, project_id="p", name=f"n{number}")])
        cloud.image(name=f"i{number}")
    lists: list[tuple[Any, Any]] = [
        (networks.NETWORK_COLUMNS, lambda c, page: networks.list_networks(c, project_id=None, page=page)),
        (networks.SUBNET_COLUMNS, lambda c, page: networks.list_subnets(c, project_id=None, page=page)),
        (
            ports.PORT_COLUMNS,
            lambda c, page: [r.port for r in ports.list_ports(c, project_id=None, page=page)],
        ),
        (images.COLUMNS, lambda c, page: images.list_images(c, project_id="p", is_admin=True, page=page)),
    ]
    for columns, rows in lists:
        for name, column in columns.items():
            if not isinstance(column, sa.ColumnElement):
                continue
            for rises in (True, False):
                with top_database.read() as c:
                    whole = [row.id for row in rows(c, Page(sort=[(name, rises)]))]
                    walked: list[str] = []
                    while page := rows(c, Page(sort=[(name, rises)], after=walked[-1] if walked else None, limit=2)):
                        walked += [row.id for row in page]
                        assert len(walked) <= len(whole), name
                    back = rows(c, Page(sort=[(name, rises)], after=whole[-1], limit=10, backwards=True))
                assert walked == whole, name
                assert len(whole) >= 3
                assert [row.id for row in back] == whole[:-1]
    with top_database.read() as c, pytest.raises(errors.NotFound):
        networks.list_networks(c, project_id=None, page=Page(after="absent"))


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (Condition("tag", ["both"], "every"), "ab"),
        (Condition("tag", ["both", "a"], "every"), "a"),
        (Condition("tag", ["both", "a"], "not_every"), "b"),
        (Condition("tag", ["a", "b"]), "ab"),
        (Condition("tag", ["a"], "not_in"), "b"),
        (Condition("tag", ["A"]), ""),
        (Condition("tag", ["bot"]), ""),
        (Condition("tag", ['"a']), "a"),
        (Condition("tag", ["äö,\\"]), "a"),
        (Condition("properties", [("os", "a")]), "a"),
        (Condition("properties", [("os", "a"), ("both", "yes")]), "a"),
        (Condition("properties", [("s", "a")]), ""),
        (Condition("os_hidden", [False]), "ab"),
        (Condition("size", [0], "gt"), ""),
        (Condition("protected", [True]), "b"),
    ],
)
def test_conditions(top_database: Database, tmp_path: Path, condition: Condition, found: str) -> None:
    cloud = make_cloud(top_database, tmp_path)
    cloud.image(name="a", tags=("both", "a", '"a', "äö,\\"), properties={"os": "a", "both": "yes"})
    cloud.image(name="b", tags=("both", "b"), properties={"os": "b", "both": "yes"}, protected=True)
    with top_database.read() as c:
        listed = images.list_images(c, project_id="", is_admin=True, page=Page(where=[condition]))
    assert "".join(sorted(image.name for image in listed)) == found
