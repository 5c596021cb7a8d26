"""Whose the ports of a server are that was placed in one cell and then in the next: what the old cell still asks for,
whenever it arrives, moves, takes and ends nothing of what the next one has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cellcloud import errors
from cellcloud.clients.network import NetworkClient
from cellcloud.clients.neutron import NeutronClient
from cellcloud.clients.session import make_session
from cellcloud.db.engine import Database
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network import NewPort, Port, RequestedNetwork
from tests.embedded_cloud import EmbeddedCloud, make_cloud, served

ADMIN = Viewer(project_id="", is_admin=True)
OLD, NEXT = 0, 1_700_000_000_000
VERBS = ("ensure_ports", "delete_ports")
MOMENTS = ("before", "hanging", "after")
STARTS = ("made", "lent", "nothing")  # what the server has from the old cell


class Hanging:
    """The old cell's session: its next request that changes something waits until something else has happened."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.meanwhile: Callable[[], object] | None = None

    def request(self, url: str, method: str, **rest: Any) -> Any:
        if method != "GET" and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return self._session.request(url, method, **rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@dataclass
class Cells:
    """The network clients of the old cell and of the next one."""

    cloud: EmbeddedCloud
    old: NetworkClient
    next: NetworkClient
    hanging: Hanging | None = None

    def ensure(self, number: int, asked: RequestedNetwork, *, placement: int, adopt: bool = True) -> tuple[Port, ...]:
        return (self.next if placement else self.old).ensure_ports(
            server_id=server(number),
            project_id=self.cloud.project("demo"),
            host="next" if placement else "old",
            zone="nova",
            hostname="vm",
            requested=(asked,),
            adopt=adopt,
            placement=placement,
        )

    def ask_late(self, verb: str, number: int, asked: RequestedNetwork, *, adopt: bool) -> None:
        """What the old cell asks for. It may be told that it comes too late."""
        with suppress(errors.Stale, errors.Conflict):
            if verb == "ensure_ports":
                self.ensure(number, asked, placement=OLD, adopt=adopt)
            else:
                self.old.delete_ports(server(number), placement=OLD)

    def together(self, late: Callable[[], None], rightful: Callable[[], object]) -> None:
        """The late request is under way while the next cell's is answered."""
        if self.hanging is not None:
            self.hanging.meanwhile = rightful
            late()
            if self.hanging.meanwhile is not None:  # nothing was to be changed
                self.hanging.meanwhile = None
                rightful()
            return
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(late), pool.submit(rightful)]:
                done.result()


@pytest.fixture(params=["embedded", "http"])
def cells(request: pytest.FixtureRequest, top_database: Database, tmp_path: Path) -> Iterator[Cells]:
    if request.param == "embedded":
        cloud = make_cloud(top_database, tmp_path)
        yield Cells(cloud, cloud.networks, cloud.networks)
        return
    with served(top_database, tmp_path) as cloud:
        hanging: Any = Hanging(make_session(cloud.settings.identity))
        yield Cells(cloud, NeutronClient(hanging), NeutronClient.from_config(cloud.settings), hanging)


def server(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def start(cells: Cells, how: str, number: int) -> RequestedNetwork:
    (wanted,) = cells.next.check_networks(cells.cloud.project("demo"), None, count=1)
    if how == "lent":
        new = NewPort(network_id=wanted.network_id or "", project_id=cells.cloud.project("demo"))
        wanted = RequestedNetwork(port_id=cells.cloud.networks.create_ports(ADMIN, [new])[0].port.id)
    if how != "nothing":
        cells.ensure(number, wanted, placement=OLD)
    return wanted


@pytest.mark.parametrize("verb", VERBS)
def test_what_the_old_cell_asks_for_leaves_the_ports_where_the_next_one_has_them(cells: Cells, verb: str) -> None:
    for number, (moment, how) in enumerate((moment, how) for moment in MOMENTS for how in STARTS):
        case, wanted = f"{verb} {moment} {how}", start(cells, how, number)
        given: list[tuple[Port, ...]] = []

        def late(number: int = number, wanted: RequestedNetwork = wanted, how: str = how) -> None:
            cells.ask_late(verb, number, wanted, adopt=how != "nothing")

        def rightful(number: int = number, wanted: RequestedNetwork = wanted) -> None:
            given.append(cells.ensure(number, wanted, placement=NEXT))  # noqa: B023 -- called at once

        if moment == "hanging":
            cells.together(late, rightful)
        else:
            for act in (late, rightful) if moment == "before" else (rightful, late):
                act()
        (port,) = cells.next.list_ports(server(number))
        ((told,),) = given
        assert (port.id, port.fixed_ips, port.host_id) == (told.id, told.fixed_ips, "next"), case
        assert cells.ensure(number, wanted, placement=NEXT) == (told,), case
        assert len(port.fixed_ips) == 1
        with pytest.raises(errors.Stale):
            cells.ensure(number, wanted, placement=OLD)
        cells.next.delete_ports(server(number), placement=NEXT)
        assert cells.next.list_ports(server(number)) == (), case
    left = cells.cloud.networks.list_port_records(ADMIN)
    assert [(one.port.device_id, one.placement) for one in left] == [("", 0)] * len(MOMENTS)  # what was lent


def test_what_the_next_cell_takes_over_keeps_its_address(cells: Cells) -> None:
    for number, how in enumerate(("made", "lent")):
        wanted = start(cells, how, number)
        (before,) = cells.old.list_ports(server(number))
        (after,) = cells.ensure(number, wanted, placement=NEXT)
        assert (after.id, after.fixed_ips, after.mac_address) == (before.id, before.fixed_ips, before.mac_address)
        assert (before.host_id, after.host_id) == ("old", "next")


def test_a_port_that_others_change_meanwhile_is_read_again(cells: Cells) -> None:
    """As the agent of its host does in Neutron."""
    wanted = start(cells, "made", 1)
    (port,) = cells.old.list_ports(server(1))

    def rename() -> None:
        cells.cloud.networks.update_port(ADMIN, port.id, {"name": "another"})

    if cells.hanging is not None:
        cells.together(lambda: cells.ask_late("delete_ports", 1, wanted, adopt=True), rename)
        assert cells.old.list_ports(server(1)) == ()
        return
    at = replace(ADMIN, revision=cells.cloud.networks.get_port(ADMIN, port.id).revision)
    rename()
    for act in (
        lambda: cells.cloud.networks.update_port(at, port.id, {"host_id": "other"}),
        lambda: cells.cloud.networks.delete_port(at, port.id),
    ):
        with pytest.raises(errors.Stale):
            act()
    assert cells.old.list_ports(server(1)) == (port,)


def test_what_was_deleted_since_is_not_made_again_for_a_server_that_moves(cells: Cells) -> None:
    project = cells.cloud.project("demo")
    (wanted,) = cells.next.check_networks(project, None, count=1)
    given: dict[str, object] = {"server_id": server(1), "project_id": project, "zone": "nova", "hostname": "vm"}
    given |= {"requested": (wanted, wanted)}
    first, second = cells.next.ensure_ports(host="old", **given)  # type: ignore[arg-type]  # by name
    cells.cloud.networks.delete_port(ADMIN, first.id)
    (moved,) = cells.next.ensure_ports(host="new", anew=False, **given)  # type: ignore[arg-type]
    assert (moved.id, moved.host_id, moved.fixed_ips) == (second.id, "new", second.fixed_ips)
    cells.cloud.networks.delete_port(ADMIN, second.id)
    assert cells.next.ensure_ports(host="new", anew=False, **given) == ()  # type: ignore[arg-type]
    assert len(cells.next.ensure_ports(host="new", **given)) == 2  # type: ignore[arg-type]
