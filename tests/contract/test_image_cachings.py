"""Hosts that fetch images ahead of servers: so many at once, none forgotten, whoever dies and whatever is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cell.compute.image_cache import ImageCache
from cell.compute.image_prefetch import ImagePrefetch
from cell.conductor.image_cachings import ImageCachings
from cell.conductor.scheduling_store import SchedulingStoreService
from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import cell_schema, hosts, image_cachings
from cellcloud.db.engine import Database
from cellcloud.model.image import FETCHING, Image
from tests.unit.cell_world import IMAGE, MemoryImages
from tests.workflows.world import CONTEXT, make_report

HOSTS = [f"h{number}" for number in range(5)]
IMAGES = [Image(id=f"00000000-0000-4000-8000-{number:012d}") for number in range(2)]


@dataclass
class SlowHosts:
    """Hosts that have an image once they were asked twice. ``mute``: they answer nobody; ``lost``: answers to lose."""

    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    begun: set[str] = field(default_factory=set)
    mute: set[str] = field(default_factory=set)
    failing: dict[str, errors.CellcloudError] = field(default_factory=dict)
    lost: int = 0

    def compute_of(self, host: str) -> SlowHosts:
        return self

    def cache_images(self, context: RequestContext, host: str, images: list[Image]) -> dict[str, str]:
        self.asked.append((host, tuple(image.id for image in images)))
        if host in self.mute:
            raise errors.Unreachable("no answer")
        if host in self.failing:
            raise self.failing[host]
        state = "cached" if host in self.begun else FETCHING
        self.begun.add(host)
        if self.lost and state == "cached":
            self.lost -= 1
            raise errors.Unreachable("the answer was lost")
        return {image.id: state for image in images}


@dataclass
class Cell:
    database: Database
    slow: SlowHosts

    def conductor(self, most: int = 2) -> ImageCachings:
        return ImageCachings(self.database, self.slow.compute_of, most)  # type: ignore[arg-type]

    def ask(self, *images: Image, names: list[str] = HOSTS) -> None:
        SchedulingStoreService(self.database).cache_images(CONTEXT, names, list(images))

    def left(self) -> dict[str, int]:
        with self.database.read() as connection:
            rows = connection.execute(cell_schema.image_cachings.select()).all()
        return {row.host: len(row.images) for row in rows}

    def set_down(self, host: str) -> None:
        with self.database.write() as connection:
            hosts.set_state(connection, host, enabled=None, disabled_reason=None, forced_down=True)


@pytest.fixture
def cell(cell_database: Database) -> Cell:
    with cell_database.write() as connection:
        hosts.report(connection, [make_report(name) for name in HOSTS])
    return Cell(cell_database, SlowHosts())


def test_so_many_hosts_at_once_until_all_have_all(cell: Cell) -> None:
    cell.ask(*IMAGES)
    cell.ask(IMAGES[0])  # again: nothing more to do
    conductors = [cell.conductor(), cell.conductor()]
    rounds = 0
    while cell.left():
        before = len(cell.slow.asked)
        conductors[rounds % 2].look()  # another one goes on
        assert len({host for host, _ in cell.slow.asked[before:]}) <= 2
        rounds += 1
        assert rounds < 20
    assert cell.slow.begun == set(HOSTS)
    assert {ids for _, ids in cell.slow.asked} == {tuple(image.id for image in IMAGES)}
    assert not cell.conductor().look()


def test_what_comes_between_is_fetched_too(cell: Cell) -> None:
    cell.ask(IMAGES[0], names=HOSTS[:1])
    cell.conductor().look()
    cell.ask(IMAGES[1], names=HOSTS[:2])
    assert cell.left() == {"h0": 2, "h1": 1}
    for _ in range(3):
        cell.conductor().look()
    assert cell.left() == {}


def test_hosts_that_are_away_keep_nobody_waiting(cell: Cell) -> None:
    cell.set_down("h0")
    cell.ask(*IMAGES)
    assert "h0" not in cell.left()
    cell.slow.mute.add("h1")
    cell.slow.failing["h2"] = errors.NotFound("This compute service does not serve that host.")
    cell.slow.lost = 1
    for _ in range(12):
        cell.conductor().look()
    assert cell.left() == {"h1": 2}, "one that does not answer is asked again"
    cell.set_down("h1")
    cell.conductor().look()
    assert cell.left() == {}


def test_what_nobody_comes_to_is_given_up(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    cell.ask(*IMAGES)
    cell.slow.mute.update(HOSTS)
    with cell.database.write() as connection:
        assert image_cachings.expire(connection, 60.0) == []
        assert sorted(image_cachings.expire(connection, -60.0)) == HOSTS
    assert cell.left() == {}


def test_a_host_fetches_an_image_once_and_tells_how_it_ended(tmp_path: Path) -> None:
    service = MemoryImages({IMAGE.id: b"bytes" * 100})
    later: list[Callable[[], None]] = []
    prefetch = ImagePrefetch(ImageCache(tmp_path, lambda: service, max_bytes=1 << 20), later.append)
    missing = Image(id="00000000-0000-4000-8000-000000000009", size=1)
    assert prefetch.look("h0", [IMAGE, missing], 0.0) == {IMAGE.id: FETCHING, missing.id: FETCHING}
    assert prefetch.look("h1", [IMAGE], 0.0) == {IMAGE.id: FETCHING}
    (work,) = later
    work()
    told = prefetch.look("h0", [IMAGE, missing], 0.0)
    assert (told[IMAGE.id], told[missing.id]) == ("cached", "error: No image found.")
    assert prefetch.look("h1", [IMAGE], 0.0) == {IMAGE.id: "existing"}
    assert service.opened == [IMAGE.id, missing.id]
    prefetch.look("h0", [IMAGE], 0.0)
    later[1]()
    assert prefetch.look("h0", [IMAGE], 0.0) == {IMAGE.id: "existing"}, "as often as it is asked"
