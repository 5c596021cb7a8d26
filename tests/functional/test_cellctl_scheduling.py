"""cellctl asks why, what if and by which policy: through the top's API, of two cells with real schedulers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from cell.admin.__main__ import main
from cell.admin.cell_rpc_source import LocalSource
from cell.admin.common_options import Terminal
from cell.conductor.placement import reservation_batching, reservation_confirmation
from cell.conductor.scheduling_store import SchedulingStoreService
from cell.scheduler.service import SchedulerService
from cellcloud import config as options
from cellcloud.context import RequestContext
from cellcloud.db import cell_schema, hosts, scheduler_change_log, server_index, servers
from cellcloud.db.engine import Database
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import Host, ServiceRecord
from cellcloud.model.placement_messages import ConfirmAnswer, ReserveAnswer
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.scheduler import Scheduler
from cellcloud.rpc.scheduling_store import SchedulingStore
from tests.functional import router_world
from tests.functional.router_world import FakeCell, Line, World, open_lines, open_world
from tests.unit.test_cellctl_remote import serving_api
from tests.unit.test_metrics import read
from tests.workflows.world import make_report

HUGE = Flavor(id="huge", name="huge", vcpus=64, memory_mb=1 << 20, root_gb=1)
PACKING = {"options": {"filter_scheduler.ram_weight_multiplier": -9.0, "filter_scheduler.cpu_weight_multiplier": -9.0}}


class SchedulingCell(FakeCell):
    """A cell whose placing, log and schedulers are the real ones, over a database of its own."""

    def __init__(self, name: str, line: Line, folder: Path) -> None:
        super().__init__(name)
        self.database = Database(f"sqlite:///{folder}/{name}.db")
        with self.database.write() as connection:
            cell_schema.metadata.create_all(connection)
        self.store = SchedulingStoreService(self.database)
        settings = options.load()
        settings = replace(settings, host=f"s-{name}", cell=replace(settings.cell, name=name))
        self._servers = [line.transport.serve(SchedulingStore, self.store, server=f"conductor-{name}")]
        self.scheduler = SchedulerService(settings, line.transport)
        self.scheduler.start()

    def report(self, **vcpus: int) -> None:
        with self.database.write() as connection:
            hosts.report(
                connection, [make_report(name, vcpus=count, zone=f"zone-{self.name}") for name, count in vcpus.items()]
            )

    def disable(self, host: str) -> None:
        with self.database.write() as connection:
            hosts.set_state(connection, host, enabled=False, disabled_reason="repair", forced_down=None)

    def end(self) -> None:
        self.scheduler.stop()
        for server in self._servers:
            server.stop()
        self.database.close()

    def reserve(self, context: RequestContext, specs: Sequence[ServerSpec]) -> list[ReserveAnswer]:
        return reservation_batching.reserve(self.database, self.scheduler, context, specs, hold_seconds=600.0)

    def confirm(
        self,
        context: RequestContext,
        server_ids: Sequence[str],
        holds: dict[str, int] | None = None,
        placements: dict[str, int] | None = None,
    ) -> list[ConfirmAnswer]:
        return reservation_confirmation.confirm(self.database, context, server_ids, holds=holds, placements=placements)[
            0
        ]

    def get_servers(
        self, context: RequestContext, server_ids: Sequence[str], partly: bool = False
    ) -> list[ServerRecord]:
        with self.database.read() as connection:
            return servers.list_by_id(connection, list(server_ids))

    def list_hosts(self, context: RequestContext) -> list[Host]:
        with self.database.read() as connection:
            return hosts.list_hosts(connection, down_time=600.0)

    def list_services(self, context: RequestContext) -> list[ServiceRecord]:
        known = self.list_hosts(context)
        return [ServiceRecord(id=one.id, binary="nova-compute", host=one.host, zone=one.zone) for one in known]


@dataclasses.dataclass
class Cloud:
    world: World
    east: SchedulingCell
    west: SchedulingCell

    def settle(self) -> None:
        """Schedulers know what was changed."""
        for cell in (self.east, self.west):
            cell.scheduler.tailer.catch_up(RequestContext())

    def create(self, name: str, *, zone: str | None = None, flavor: Flavor | None = None) -> ServerRecord:
        """A server, as far as it came."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(router_world, "FLAVOR", flavor or router_world.FLAVOR)
            (server_id,) = self.world.accept(zone=zone, name=name)
        self.world.deliver()
        with self.world.database.read() as connection:
            found = server_index.find_record(connection, server_id)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Two cells behind the top's API, and a clouds.yaml for it."""
    folder = tmp_path_factory.mktemp("cloud")
    with open_lines("east", "west") as lines, open_world(folder, lines) as world, pytest.MonkeyPatch.context() as patch:
        cells = [SchedulingCell(line.name, line, folder) for line in lines]
        for line, cell in zip(lines, cells, strict=True):
            line.cell = cell
        cells[0].report(e1=4, e2=8, e3=8)
        cells[0].disable("e3")
        cells[1].report(w1=2)
        with serving_api(world, folder / "clouds.yaml", patch):
            yield Cloud(world, *cells)
        for cell in cells:
            cell.end()


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def ask(*words: str) -> Any:
    result = run(*words, "-f", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_why_by_name_by_id_by_request_and_by_decision(cloud: Cloud) -> None:
    record = cloud.create("web-1", zone="zone-east")
    (told,) = ask("why", "web-1")
    assert (told["server_id"], told["cell"], told["chosen"]) == (record.id, "east", record.host)
    for subject in (record.id, told["decision"]):
        assert ask("why", subject) == [told]
    text = run("why", "web-1").output
    for word in ("e2", "RAMWeigher", "is disabled", "margin", "Nearest miss: e3 is disabled; enabled, it would fit"):
        assert word in text
    assert "Traceback" not in text


def test_why_not(cloud: Cloud) -> None:
    cloud.create("web-2", zone="zone-east")
    text = run("why-not", "web-2", "e3").output
    assert "Smallest change: e3 is disabled; enabled, it would fit" in text
    first, second = ask("why", "web-2")[0]["offered"]
    assert "passed all filters, at rank 2" in run("why-not", "web-2", second).output
    assert "was the best host" in run("why-not", "web-2", first).output
    assert "is not a host of this cell" in run("why-not", "web-2", "w1", "--cell", "east").output


def test_a_server_that_no_cell_took(cloud: Cloud) -> None:
    refused = read("cellcloud_filter_refusals_total", filter="ResourceClassFilter")
    record = cloud.create("giant", flavor=HUGE)
    assert record.status == "ERROR"
    assert read("cellcloud_filter_refusals_total", filter="ResourceClassFilter") > refused
    assert read("cellcloud_rank_seconds_count", cell="east") > 0
    told = ask("why", record.id)
    assert {one["cell"] for one in told} == {"east", "west"}
    assert all(one["chosen"] is None and one["nearest"] for one in told)
    assert "MEMORY_MB" in run("why", "giant").output


def test_replays(cloud: Cloud, tmp_path: Path) -> None:
    cloud.create("web-3", zone="zone-east")
    decision = ask("why", "web-3")[0]["decision"]
    told = ask("replay", "decision", decision)
    assert (told["same"], told["identical"]) == (True, True)
    for name, text in (("p.yaml", yaml.safe_dump(PACKING)), ("p.json", json.dumps(PACKING))):
        (tmp_path / name).write_text(text)
        other = ask("replay", "decision", decision, "--policy", str(tmp_path / name))
        assert (other["same"], other["policy"]) == (False, None)
    (tmp_path / "bad.yaml").write_text("filters: [ComputeFilte]")
    wrong = run("replay", "decision", decision, "--policy", str(tmp_path / "bad.yaml"))
    assert wrong.exit_code == 2
    assert "did you mean ComputeFilter" in wrong.output
    (tmp_path / "list.yaml").write_text("- 1")
    assert run("replay", "decision", decision, "--policy", str(tmp_path / "list.yaml")).exit_code == 2


def test_plans(cloud: Cloud) -> None:
    found = {one["cell"]: one for one in ask("plan", "fits", "2:1024:1", "-n", "50")}
    assert found["west"]["fit"] == 1
    assert {one["host"] for one in found["east"]["where"]} == {"e1", "e2"}
    assert found["east"]["nearest"]["host"].startswith("e")
    text = run("plan", "fits", "2:1024:1", "-n", "50", "--cell", "west").output
    assert "1 of 50 fit" in text
    assert "VCPU" in text
    busy = cloud.create("web-4", zone="zone-east")
    assert busy.host is not None
    for words in (("plan", "lose", busy.host), ("plan", "drain", busy.host)):
        (loss,) = ask(*words)
        assert busy.id in {move["server_id"] for move in loss["moves"]}
        assert {move["to"] for move in loss["moves"]} == {"e1" if busy.host == "e2" else "e2"}
        assert f"{len(loss['moves'])} servers find a place" in run(*words).output
    both = run("plan", "lose", "e1", "e2").output
    assert "nowhere" in both
    assert run("plan", "lose", "e9").exit_code == 4
    assert run("plan", "fits", "no-such").exit_code == 4


def test_policies(cloud: Cloud, tmp_path: Path) -> None:
    path = tmp_path / "packing.yaml"
    path.write_text(yaml.safe_dump(PACKING))
    assert [one["policy"]["role"] for one in ask("policy", "list", "--cell", "east")] == ["active"]
    assert run("policy", "diff-report").exit_code == 4
    added = ask("policy", "set", str(path), "--comment", "fill up", "--shadow", "--cell", "east")
    assert [(one["policy"]["version"], one["policy"]["role"]) for one in added] == [(1, "shadow")]
    assert "fill up" in run("policy", "list").output
    assert "ram_weight_multiplier" in run("policy", "show", "1").output
    cloud.settle()
    cloud.create("web-5", zone="zone-east")
    (report,) = ask("policy", "diff-report")
    assert report["summary"]["differing"] >= 1
    assert ask("why", report["summary"]["examples"][0])
    assert run("policy", "shadow", "--off", "--cell", "east").exit_code == 0
    assert run("policy", "shadow").exit_code == 2
    assert run("policy", "activate", "1", "--cell", "east").exit_code == 0
    cloud.settle()
    filled = cloud.create("web-6", zone="zone-east")
    (told,) = ask("why", filled.id)
    assert told["policy"] == 1
    assert run("policy", "activate", "0").exit_code == 0
    assert run("policy", "activate", "9").exit_code == 4
    assert run("policy", "show", "9").exit_code == 4
    (tmp_path / "bad.yaml").write_text("weighers: [RAMWeighe]")
    assert run("policy", "set", str(tmp_path / "bad.yaml")).exit_code == 2


def test_aggregates(cloud: Cloud) -> None:
    made = ask("aggregate", "create", "fast", "--property", "ssd=true")
    assert "ssd=true" in run("aggregate", "list").output
    assert ask("aggregate", "add-host", "fast", "e1")["hosts"] == ["e1"]
    (known,) = ask("aggregate", "list", "--cell", "east")
    assert (known["id"], known["hosts"], known["metadata"]) == (made["id"], ["e1"], {"ssd": "true"})
    assert [one["hosts"] for one in ask("aggregate", "list", "--cell", "west")] == [[]]
    assert run("aggregate", "delete", "fast").exit_code == 2
    assert ask("aggregate", "set", "fast", "--name", "faster", "--unset", "ssd")["metadata"] == {}
    assert run("aggregate", "set", "faster").exit_code == 2
    assert run("aggregate", "add-host", "faster", "nobody").exit_code == 4
    assert run("aggregate", "remove-host", "faster", "e1").exit_code == 0
    assert run("aggregate", "delete", "faster").exit_code == 0
    assert ask("aggregate", "create", "zoned", "--zone", "z")["metadata"] == {"availability_zone": "z"}
    assert run("aggregate", "delete", "zoned").exit_code == 0
    assert ask("aggregate", "list") == ask("aggregate", "list", "--cell", "east") == []


def test_what_is_not_there_and_who_does_not_answer(cloud: Cloud) -> None:
    assert run("why", "nobody").exit_code == 4
    assert run("why", "ab-0").exit_code == 4
    assert run("replay", "decision", "ab-0").exit_code == 4
    cloud.create("twin", zone="zone-east")
    cloud.create("twin", zone="zone-east")
    twins = run("why", "twin")
    assert twins.exit_code == 2
    assert "2 servers are named twin" in twins.output
    cloud.world.lines["west"].cut = True
    try:
        assert run("why", "web-1").exit_code == 0
        silent = run("why", "ab-0")
        assert silent.exit_code == 3
        assert "west" in silent.output
        assert run("plan", "fits", "1:1:1").exit_code == 3
        assert run("plan", "fits", "1:1:1", "--cell", "east").exit_code == 0
    finally:
        cloud.world.lines["west"].cut = False


def test_a_cell_alone_says_the_same(cloud: Cloud) -> None:
    record = cloud.create("web-7", zone="zone-east")
    settings = options.load()
    settings = replace(settings, cell=replace(settings.cell, name="east"))
    transport = cloud.world.lines["east"].transport
    clients = transport.client(Conductor), transport.client(Scheduler), transport.client(SchedulingStore)
    terminal = Terminal(source_override=LocalSource(settings, *clients), form="json")

    def alone(*words: str) -> Result:
        return CliRunner().invoke(main, list(words), obj=terminal)

    assert json.loads(alone("why", record.id).output) == ask("why", record.id)
    decision = json.loads(alone("why", record.id).output)[0]["decision"]
    assert json.loads(alone("replay", "decision", decision).output)["same"]
    assert json.loads(alone("plan", "fits", "1:512:1", "-n", "2").output)[0]["fit"] == 2
    assert json.loads(alone("plan", "drain", record.host or "").output)[0]["moves"]
    assert alone("plan", "fits", "m1.tiny").exit_code == 2
    assert alone("policy", "list").exit_code == 0
    assert alone("why", "nobody-0").exit_code == 4
    assert alone("plan", "fits", "1:512:1", "--cell", "west").exit_code == 4


def test_a_decision_whose_log_is_gone_is_told_from_what_is_stored(cloud: Cloud) -> None:
    record = cloud.create("old", zone="zone-east")
    decision = ask("why", record.id)[0]["decision"]
    cloud.create("younger", zone="zone-east")
    assert run("plan", "fits", "1:512:1").exit_code == 0  # the scheduler has followed the log now: no step is to come
    with cloud.east.database.write() as connection:
        scheduler_change_log.prune(connection, 0.0)
    assert "no longer reaches back" in run("why", record.id).output
    again = run("replay", "decision", decision)
    assert again.exit_code == 1
    assert "no longer reaches back" in again.output


def test_the_fault_says_why_and_names_nobody(cloud: Cloud) -> None:
    record = cloud.create("giant-2", flavor=HUGE)
    assert record.fault is not None
    assert record.fault.message.startswith("No valid host was found. No host fits: ")
    assert "lack memory by at least" in record.fault.message or "lack CPUs by at least" in record.fault.message
    assert not [name for name in ("e1", "e2", "e3", "w1", "west", "Filter") if name in record.fault.message]
    for word in ("east: ", "west: ", "ResourceClassFilter refused"):
        assert word in record.fault.details
