"""Messages that dispatch many records, reports or events: 1 MiB each at most, and nothing is left out for good."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from cell.compute.inventory import Inventory
from cell.compute.report_queue import ReportQueue
from cellcloud import config as options
from cellcloud.batching import MOST_BYTES, in_full
from cellcloud.context import RequestContext, service_context
from cellcloud.model import codec
from cellcloud.model.guest_commands import ExpectedGuest, GuestEvent, GuestOrders
from cellcloud.model.host import HostReport
from cellcloud.model.observed_guests import GuestState
from cellcloud.model.placement_messages import DeleteRequest
from cellcloud.model.server import ServerSpec
from cellcloud.rpc.conductor import Conductor
from tests.functional.measured_cell import Measured, confirm, reserve
from tests.functional.router_world import FakeCell, Line, World, open_lines, open_world
from tests.unit.cell_world import MemoryConductor
from tests.workflows.world import make_report, make_spec
from top_api.router.feed_follower import VERSIONS, FeedFollower

IDS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(12)]
LARGEST = {f"{number:03}{'é' * 252}": "😀" * 255 for number in range(128)}  # metadata of one server
Ask = Callable[[Conductor, Sequence[str]], Sequence[str]]


def specs(ids: Sequence[str]) -> list[ServerSpec]:
    return [make_spec(one, metadata=LARGEST) for one in ids]


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[Measured]:
    made = Measured(tmp_path)
    yield made
    made.close()


def _get(conductor: Conductor, ids: Sequence[str]) -> Sequence[str]:
    records = in_full(
        lambda some: conductor.get_servers(service_context(), some, partly=True),
        [*ids, "unknown"],
        key_of=str,
        answers=lambda record: record.id,
    )
    return [record.id for record in records]


def _begin_deletes(conductor: Conductor, ids: Sequence[str]) -> Sequence[str]:
    answers = in_full(
        lambda some: conductor.begin_deletes(service_context(), some),
        [DeleteRequest(server_id=one, request_id="r", user_id="u", project_id="p") for one in ids],
        key_of=lambda request: request.server_id,
        answers=lambda answer: answer.server_id,
    )
    return [answer.server_id for answer in answers if answer.record is not None]


VERBS: dict[str, Ask] = {
    "reserve": lambda conductor, ids: reserve(conductor, specs(ids)),
    "confirm": confirm,
    "get_servers": _get,
    "begin_deletes": _begin_deletes,
}


def test_no_answer_with_records_is_larger_than_a_message(measured: Measured) -> None:
    for verb, ask in VERBS.items():
        assert sorted(ask(measured.conductor, IDS)) == IDS, verb
        assert len(measured.sizes[verb]) > 1, verb
        assert max(measured.sizes[verb]) <= MOST_BYTES + 10, verb


class Weighing(MemoryConductor):
    """Notes the bytes of what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def report_hosts(self, context: RequestContext, reports: list[HostReport]) -> None:
        self.sizes.append(codec.wire_size(reports))
        super().report_hosts(context, reports)

    def report_events(self, context: RequestContext, events: list[GuestEvent]) -> None:
        self.sizes.append(codec.wire_size(events))
        super().report_events(context, events)


def _tell_events(conductor: Weighing) -> int:
    box = ReportQueue(conductor)
    for number in range(100):
        box.post(GuestEvent(host="h", server_id=str(number), generation=1, power_state=1, detail="x" * 30_000))
    while box.deliver():
        continue
    return len(conductor.events)


def _tell_hosts(conductor: Weighing) -> int:
    facts = replace(make_report("h").facts, cpu_info={"features": ["x" * 30_000]})
    driver = types.SimpleNamespace(get_facts=lambda: facts)
    drivers = {f"h{number}": cast(Any, driver) for number in range(100)}
    Inventory(conductor, drivers, options.load().compute, zone="nova", queue="q").report()
    return len({report.host for report in conductor.reports})


@pytest.mark.parametrize("tell", [_tell_events, _tell_hosts])
def test_what_hosts_tell_is_split(tell: Callable[[Weighing], int]) -> None:
    conductor = Weighing()
    assert tell(conductor) == 100
    assert len(conductor.sizes) > 1
    assert max(conductor.sizes) <= MOST_BYTES + 10


@pytest.mark.parametrize(
    "message",
    [
        [(IDS[0], 1 << 62)] * VERSIONS,
        [GuestState(server_id=IDS[0], power_state=1, generation=1 << 31, project_id="p" * 32)] * 4000,
        GuestOrders(
            expected=(ExpectedGuest(server_id=IDS[0], generation=1 << 31, running=True, project_id="p" * 32),) * 4000
        ),
    ],
    ids=["list_versions", "guests of a host", "orders of a host"],
)
def test_what_is_bounded_by_its_number_is_small(message: object) -> None:
    assert codec.wire_size(message) <= MOST_BYTES


class Terse(FakeCell):
    """Answers for three servers in one message."""

    def _some(self, answers: list[Any]) -> list[Any]:
        return answers[:3]

    def reserve(self, *args: Any, **kwargs: Any) -> Any:
        return self._some(super().reserve(*args, **kwargs))

    def confirm(self, *args: Any, **kwargs: Any) -> Any:
        return self._some(super().confirm(*args, **kwargs))

    def begin_deletes(self, *args: Any, **kwargs: Any) -> Any:
        return self._some(super().begin_deletes(*args, **kwargs))

    def get_servers(self, context: RequestContext, server_ids: list[str], partly: bool = False) -> Any:
        assert partly
        self.messages["get"] += 1
        return self._some(super().get_servers(context, server_ids))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_lines("east") as lines, open_world(tmp_path, lines) as made:
        yield made


def _terse(line: Line) -> Terse:
    line.cell = Terse(line.name)
    return line.cell


def test_the_router_asks_again_for_what_did_not_fit(world: World) -> None:
    east = _terse(world.lines["east"])
    ids = world.accept(10)
    world.deliver()
    assert world.unfinished() == []
    world.assert_started_once(ids)
    for server_id in ids[:5]:
        world.delete(server_id)
    world.deliver()
    assert world.unfinished() == []
    for server_id in ids[5:]:
        east.servers[server_id] = replace(east.servers[server_id], version=50, host="moved")
    east.oldest = len(east.feed) + 2
    follower = FeedFollower(world.database, "east", world.lines["east"].transport.client(Conductor))
    follower._resync()
    assert east.messages["get"] > 1
    assert {world.shown(server_id).host for server_id in ids[5:]} == {"moved"}


def test_user_data_is_told_and_no_password(measured: Measured) -> None:
    ids = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(20)]
    asked = [make_spec(one, user_data="x" * 60_000 + one, admin_pass="secret") for one in ids]
    for some in (asked[:10], asked[10:]):
        measured.conductor.reserve(service_context(), some)
    specs = [record.spec for record in measured.conductor.get_servers(service_context(), ids)]
    texts = in_full(
        lambda some: measured.conductor.get_user_data(service_context(), some),
        [one for spec in specs for one in (spec.user_data_id, spec.admin_pass_id, "unknown")],
        key_of=str,
        answers=lambda text: text[0],
    )
    assert dict(texts) == {spec.user_data_id: "x" * 60_000 + spec.id for spec in specs}
    assert len(texts) == len(ids)
    assert len(measured.sizes["get_user_data"]) > 1
    assert max(measured.sizes["get_user_data"]) <= MOST_BYTES + 10
