"""Every column that a list may be filtered and sorted by, on every database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cellcloud import errors
from cellcloud.db import identity, images, networks, ports
from cellcloud.db.engine import Database
from cellcloud.db.listing import Condition, Page
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.identity import Project, User
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
        (identity.USERS.columns, identity.USERS.list_all),
        (identity.PROJECTS.columns, identity.PROJECTS.list_all),
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


def test_texts_are_compared_at_their_ends_with_regard_to_case(top_database: Database) -> None:
    with top_database.write() as c:
        for name in ("Alpha_1", "beta%2", "alpha"):
            identity.USERS.insert(c, User(id=name, name=name), password_hash="")
    for operator, value, found in (
        ("contains", "lph", ["Alpha_1", "alpha"]),
        ("contains", "LPH", []),
        ("icontains", "LPH", ["Alpha_1", "alpha"]),
        ("contains", "_", ["Alpha_1"]),
        ("contains", "%", ["beta%2"]),
        ("contains", "", ["Alpha_1", "alpha", "beta%2"]),
        ("startswith", "al", ["alpha"]),
        ("istartswith", "al", ["Alpha_1", "alpha"]),
        ("endswith", "a%2", ["beta%2"]),
        ("endswith", "PHA", []),
        ("iendswith", "PHA", ["alpha"]),
        ("endswith", "longer than alpha", []),
        ("iequals", "ALPHA", ["alpha"]),
    ):
        with top_database.read() as c:
            users = identity.USERS.list_all(c, Page(where=[Condition("name", [value], operator)]))
        assert sorted(user.name for user in users) == found, (operator, value)


def test_projects_are_found_by_tags(top_database: Database) -> None:
    with top_database.write() as c:
        for name, tags in (("a", ("x", "y")), ("b", ("y",)), ("c", ())):
            identity.PROJECTS.insert(c, Project(id=name, name=name, tags=tags))
        c.execute(sa.update(identity.identity_projects).where(identity.identity_projects.c.id == "c").values(tags=None))
    for operator, found in (("every", "a"), ("in", "ab"), ("not_every", "bc"), ("not_in", "c")):
        with top_database.read() as c:
            projects = identity.PROJECTS.list_all(c, Page(where=[Condition("tags", ["x", "y"], operator)]))
        assert "".join(project.name for project in projects) == found
