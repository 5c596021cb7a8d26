"""Odd paths: every answer of every service is JSON, none sends the client elsewhere, and slashes in a row are one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from werkzeug.test import TestResponse

from cellcloud.embedded.bootstrap import bootstrap
from cellcloud.model.image import Image
from tests.api.test_public_address import Client
from tests.api.world import World
from tests.embedded_cloud import PASSWORDS, make_top_database

ROOTS = (
    "",
    "/v2.1",
    "/v2",
    "/v2.1/{project}",
    "/identity/v3",
    "/image/v2",
    "/network/v2.0",
    "/operator/v1",
    "/nothing",
)
LISTS = ("/v2.1/servers", "/v2/flavors", "/v2.1/{project}/servers/detail", "/identity/v3/auth/projects",
         "/image/v2/images", "/network/v2.0/networks", "/network/v2.0/ports")  # fmt: skip
TAILS = ("", "/", "//", "///", "/x", "//x", "/x//", "/./x", "/x/../y", "/%2e%2e/x", "/%2F", "/%00", "/%ff", "/%0d%0a",
         "/ x", "/x?a=%ff", "/x;y", "/servers//%2f", "/*", "/images//x//file", "/auth//tokens",
         "/" + "x/" * 60)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO")


class Odd:
    """A client whose paths go to the application as they are."""

    def __init__(self, folder: Path) -> None:
        self.database = make_top_database(folder / "top.db")
        bootstrap(self.database, PASSWORDS)
        self._client = Client(self.database, folder, "127.0.0.1", {})
        self.project = self._client.sign_in().get_json()["token"]["project"]["id"]

    def ask(self, method: str, path: str) -> TestResponse:
        path, _, query = path.format(project=self.project).partition("?")
        return self._client.ask(method, "/", PATH_INFO=unquote(path, "latin-1"), QUERY_STRING=query)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Odd]:
    made = Odd(tmp_path_factory.mktemp("paths"))
    yield made
    made.database.close()


@pytest.mark.parametrize("path", LISTS)
def test_slashes_in_a_row_are_one(odd: Odd, path: str) -> None:
    plain = odd.ask("GET", path)
    assert plain.status_code == 200
    for doubled in (path.replace("/", "//"), f"//{path}", path.replace("/", "///")):
        answer = odd.ask("GET", doubled)
        assert (answer.status_code, answer.get_json()) == (200, plain.get_json()), doubled


@pytest.mark.parametrize("root", ROOTS)
def test_every_answer_is_json(odd: Odd, root: str) -> None:
    for tail in TAILS:
        for method in METHODS:
            answer = odd.ask(method, root + tail)
            asked = (method, root + tail, answer.status_code, answer.text[:80])
            assert answer.status_code < 500, asked
            assert not 301 <= answer.status_code < 400, asked
            assert "Location" not in answer.headers or answer.status_code in (201, 202, 300), asked
            if answer.status_code != 204:
                assert answer.mimetype == "application/json", asked
            if answer.data:
                json.loads(answer.data)


@pytest.mark.parametrize("path", ["/servers/", "/flavors/", "/os-simple-tenant-usage/", "/images/", "/os-keypairs/"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_empty_id_is_nobody_s(world: World, method: str, path: str) -> None:
    """As in Nova: neither the list nor a wrong method."""
    answer = world.call(method, path, token="admin")
    assert (answer.status_code, [*answer.get_json()]) == (404, ["itemNotFound"])


def test_a_link_leads_to_what_it_is_of_whatever_letters_that_has(world: World) -> None:
    flavor = {"name": "odd", "id": "a b. c", "ram": 1, "vcpus": 1, "disk": 1}
    made = world.post("/flavors", {"flavor": flavor}, token="admin").get_json()["flavor"]
    links = [link["href"] for link in made["links"]]
    assert links == ["http://localhost/v2.1/flavors/a%20b.%20c", "http://localhost/flavors/a%20b.%20c"]
    assert world.get(links[0].removeprefix("http://localhost")).get_json()["flavor"]["name"] == "odd"
    server = world.create(flavorRef="a b. c")
    shown = world.get(f"/servers/{server}").get_json()["server"]["flavor"]
    assert shown["links"][0]["href"] == links[1]
    tagged = world.call("PUT", f"/servers/{server}/tags/a%20%25%3F", version="2.26")
    assert tagged.headers["Location"] == f"http://localhost/v2.1/servers/{server}/tags/a%20%25%3F"
    assert world.get(tagged.headers["Location"].removeprefix("http://localhost"), version="2.26").status_code == 204
    image = Image(id=str(uuid.uuid4()), name="i", visibility="public", properties={"instance_uuid": "a/b c\u00fc?"})
    world.images.create_image(image)
    of = world.get(f"/images/{image.id}").get_json()["image"]["server"]
    assert of["id"] == "a/b c\u00fc?"
    assert of["links"][0]["href"] == "http://localhost/v2.1/servers/a%2Fb%20c%C3%BC%3F"
