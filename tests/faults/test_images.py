"""Images of servers by the whole cloud: each message lost, answered in vain, repeated or late."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from cellcloud.model.image import Image, ImageQuery
from tests.cloud import until
from tests.faults.one_process import Fate, OneProcess, one_process

CASES = [
    ("Conductor.begin_operation", 1, Fate.REQUEST_LOST),  # nobody knows of the first image; another is asked for
    *(("Compute.apply", nth, fate) for nth in (1, 2) for fate in (Fate.REQUEST_LOST, Fate.REPEATED, Fate.LATE)),
    *(("Conductor.report_events", nth, fate) for nth in (1, 2) for fate in Fate),
]
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneProcess]:
    with one_process(tmp_path_factory.mktemp("cloud")) as made:
        yield made


def images_of(cloud: OneProcess, server_id: str) -> list[Image]:
    query = ImageQuery(properties=(("instance_uuid", server_id),))
    return cloud.images.search_images(query, project_id="", is_admin=True)


@pytest.mark.parametrize(("verb", "nth", "fate"), CASES)
def test_an_image_is_whole_whatever_becomes_of_a_message(cloud: OneProcess, verb: str, nth: int, fate: Fate) -> None:
    number = next(NUMBERS)
    server_id = cloud.create(f"server-{number}", f"key-{number}")
    cloud.wait_for(server_id, "ACTIVE")
    cloud.messages.arm(verb, nth, fate)
    image_id = cloud.create_image(server_id)
    unknown = ["queued"] if verb == "Conductor.begin_operation" else []  # it may be all that is left of a disk
    until(lambda: sorted(one.status for one in images_of(cloud, server_id)) == ["active", *unknown], 30.0)
    assert b"".join(cloud.images.open_image(image_id)).startswith(b"QFI\xfb")
    cloud.delete(server_id)
    cloud.wait_for(server_id, "gone")


def test_a_delete_ends_an_image_under_way_and_leaves_nothing(cloud: OneProcess) -> None:
    servers = [cloud.create(f"gone-{number}", f"gone-{number}") for number in range(4)]
    for server_id in servers:
        cloud.wait_for(server_id, "ACTIVE")
    for server_id in servers:
        cloud.create_image(server_id)
        cloud.delete(server_id)
    for server_id in servers:
        cloud.wait_for(server_id, "gone")
        until(lambda server_id=server_id: not cloud.hosts_with(server_id), 30.0)  # type: ignore[misc]
        assert all(one.status == "active" for one in images_of(cloud, server_id))
