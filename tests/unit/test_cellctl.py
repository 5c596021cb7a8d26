"""cellctl as operators use it: tables, JSON, exit codes, and words that say what to do next."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cell.admin.__main__ import main
from cell.admin.cell_rpc_source import LocalSource
from cell.admin.common_options import Terminal
from cell.admin.output import clean
from cellcloud import config as options
from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.model.cell import Cell, Finding
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import Host, HostFacts
from cellcloud.model.image import Image
from cellcloud.model.placement_messages import CellDigest
from cellcloud.model.run import RunRecord, StepRecord, TimelineEntry
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.server_states import VmState

AT = dt.datetime(2026, 3, 1, 12, 30, tzinfo=dt.UTC)
FACTS = HostFacts(
    hypervisor_hostname="east-1",
    hypervisor_type="QEMU",
    hypervisor_version=7,
    host_ip="10.77.1.11",
    vcpus=4,
    memory_mb=4096,
    disk_gb=40,
)


def make_server(server_id: str, name: str = "web", project: str = "demo") -> ServerRecord:
    flavor = Flavor(id="1", name="m1.tiny", vcpus=1, memory_mb=128, root_gb=1)
    spec = ServerSpec(id=server_id, name=name, project_id=project, user_id="u", flavor=flavor, image=Image(id="i"))
    return ServerRecord(spec=spec, version=3, generation=1, vm_state=VmState.ACTIVE, cell="east", host="east-1")


@dataclass
class FakeSource:
    """A cloud with one of each."""

    servers: list[ServerRecord] = field(default_factory=lambda: [make_server("s1")])
    findings: list[Finding] = field(
        default_factory=lambda: [Finding(check="claims", severity="ok", subject="-", text="nothing wrong")]
    )
    trouble: errors.CellcloudError | None = None
    asked: dict[str, object] = field(default_factory=dict)

    def _ask(self, **what: object) -> None:
        self.asked |= what
        if self.trouble is not None:
            raise self.trouble

    def list_cells(self) -> list[Cell]:
        self._ask()
        digest = CellDigest(cell="east", hosts_total=2, hosts_up=1, servers=7, running_runs=3, zones=("z",))
        return [Cell(name="east", health="up", digest=digest, last_seen=AT), Cell(name="west")]

    def get_cell(self, name: str) -> Cell:
        found = [cell for cell in self.list_cells() if cell.name == name]
        if not found:
            raise errors.NotFound(f"Cell {name} could not be found.")
        return found[0]

    def list_hosts(self, cell: str | None) -> list[Host]:
        self._ask(cell=cell)
        return [
            Host(
                id="h",
                host="east-1",
                zone="z",
                facts=FACTS,
                enabled=False,
                disabled_reason="disk swap",
                forced_down=False,
                up=True,
                capacity={"VCPU": 16, "MEMORY_MB": 3584, "DISK_GB": 40},
                used={"VCPU": 2, "MEMORY_MB": 256, "DISK_GB": 2},
                total={},
                servers=2,
                created_at=AT,
                last_seen=AT,
                cell="east",
            )
        ]

    def list_servers(self, *, cell: str | None, project: str | None, limit: int) -> list[ServerRecord]:
        self._ask(cell=cell, project=project, limit=limit)
        return self.servers[:limit]

    def get_server(self, server_id: str) -> ServerRecord:
        for server in self.servers:
            if server.id == server_id:
                return server
        raise errors.NotFound(f"Instance {server_id} could not be found.")

    def find_servers(self, name: str) -> list[ServerRecord]:
        return [server for server in self.servers if name in (server.spec.name, server.id)]

    def find_projects(self, name: str) -> list[str]:
        return [name]

    def get_timeline(self, server_id: str) -> list[TimelineEntry]:
        later = TimelineEntry(at=AT + dt.timedelta(seconds=5), kind="step", text="guests.spawn done")
        return [later, TimelineEntry(at=AT, kind="top", text="create accepted", request_id="req-1")]

    def list_operations(self, *, server_id: str | None, unfinished: bool) -> list[RunRecord]:
        self._ask(server_id=server_id, unfinished=unfinished)
        return [self.get_operation("r1")]

    def get_operation(self, run_id: str) -> RunRecord:
        return RunRecord(
            id=run_id,
            server_id="s1",
            operation="create",
            state="running",
            step="guests.spawn",
            direction="do",
            attempt=2,
            request_id="req-1",
            user_id="u",
            project_id="demo",
            generation=1,
            steps=(
                StepRecord(
                    step="networks.allocate_ports",
                    direction="do",
                    outcome="done",
                    started_at=AT,
                    finished_at=AT + dt.timedelta(seconds=1.25),
                ),
            ),
        )

    def list_findings(self) -> list[Finding]:
        self._ask()
        return self.findings


def run(source: FakeSource, *words: str) -> Result:
    return CliRunner().invoke(main, list(words), obj=Terminal(source_override=source))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("cell", "list"), ["east", "up", "1/2", "7", "2026-03-01 12:30:00", "west", "unknown"]),
        (("cell", "show", "east"), ["zones", "feed cursor"]),
        (("host", "list"), ["east-1", "disabled: disk swap", "2/16", "256/3584"]),
        (("server", "list"), ["s1", "web", "ACTIVE", "east-1"]),
        (("server", "show", "s1"), ["generation", "m1.tiny", "fault"]),
        (("op", "list"), ["r1", "create", "guests.spawn", "running"]),
        (("op", "show", "r1"), ["deadline", "networks.allocate_ports", "done", "1.250"]),
        (("doctor", "check"), ["claims", "nothing wrong", "1 checked, 0 wrong."]),
    ],
)
def test_tables_say_it(words: tuple[str, ...], expected: list[str]) -> None:
    result = run(FakeSource(), *words)
    assert result.exit_code == 0, result.output
    assert [word for word in expected if word not in result.output] == []


def test_a_timeline_is_in_order_of_time() -> None:
    lines = run(FakeSource(), "server", "timeline", "s1").output.splitlines()
    assert "create accepted" in lines[2]
    assert "guests.spawn done" in lines[3]


@pytest.mark.parametrize(
    "words",
    [
        ("cell", "list"),
        ("cell", "show", "east"),
        ("host", "list"),
        ("server", "list"),
        ("server", "show", "s1"),
        ("server", "timeline", "s1"),
        ("op", "list"),
        ("op", "show", "r1"),
        ("doctor", "check"),
    ],
)
def test_json_is_the_whole_record_whether_asked_before_or_after(words: tuple[str, ...]) -> None:
    after, before = run(FakeSource(), *words, "-f", "json"), run(FakeSource(), "-f", "json", *words)
    assert json.loads(after.output) == json.loads(before.output)
    assert after.exit_code == before.exit_code == 0


def test_names_cannot_steer_the_terminal() -> None:
    hostile = "\x1b]0;owned\x07evil\r\n\u202egnp\x9b31m"
    source = FakeSource(servers=[make_server("s1", hostile)])
    for words in (("server", "list"), ("server", "show", "s1")):
        output = run(source, *words).output
        assert "evil" in output
        assert not [letter for letter in output if letter != "\n" and not letter.isprintable()]
    told = run(source, "server", "list", "-f", "json").output
    assert json.loads(told)[0]["spec"]["name"] == hostile
    assert "\x1b" not in told


def test_cells_of_a_table_read_well() -> None:
    assert [clean(value) for value in (None, "", True, False, 0, "a\nb")] == ["-", "-", "yes", "no", "0", "a; b"]


@pytest.mark.parametrize(
    ("trouble", "code", "advice"),
    [
        (errors.Unreachable("The cloud's API does not answer."), 3, "cellcloud status"),
        (errors.Busy(), 3, "cellcloud status"),
        (errors.NotFound("No."), 4, "list"),
        (errors.Forbidden("Policy."), 1, "--cloud"),
        (errors.Misconfigured("No clouds.yaml."), 1, "correct that"),
        (errors.Invalid("A message is not of the expected form."), 2, "--help"),
        (errors.CallHuman("An internal error occurred."), 1, "doctor check"),
    ],
)
def test_errors_end_in_the_documented_code_and_say_what_next(
    trouble: errors.CellcloudError, code: int, advice: str
) -> None:
    result = run(FakeSource(trouble=trouble), "server", "list")
    assert result.exit_code == code
    assert "Traceback" not in result.output
    assert trouble.message in result.output
    assert advice in result.output
    assert "Exit codes:" in run(FakeSource(), "--help").output


def test_what_does_not_exist_is_four() -> None:
    assert run(FakeSource(), "server", "show", "nope").exit_code == 4
    assert run(FakeSource(), "cell", "show", "nope").exit_code == 4


@pytest.mark.parametrize(
    "words", [("server", "show"), ("nonsense",), ("server", "list", "--limit", "0"), ("cell", "list", "-f", "xml")]
)
def test_a_wrong_command_line_is_two(words: tuple[str, ...]) -> None:
    assert run(FakeSource(), *words).exit_code == 2


def test_findings_are_one() -> None:
    source = FakeSource(findings=[Finding(check="claims", severity="error", subject="east-1", text="2 lost")])
    result = run(source, "doctor", "check")
    assert result.exit_code == 1
    assert "1 wrong" in result.output
    assert run(source, "doctor", "check", "-f", "json").exit_code == 1


def test_filters_reach_the_source() -> None:
    source = FakeSource()
    run(source, "server", "list", "--cell", "east", "--project", "demo", "--limit", "5")
    assert source.asked == {"cell": "east", "project": "demo", "limit": 5}
    run(source, "op", "list")
    assert (source.asked["server_id"], source.asked["unfinished"]) == (None, True)
    run(source, "op", "list", "--server", "s1")
    assert (source.asked["server_id"], source.asked["unfinished"]) == ("s1", False)
    run(source, "op", "list", "--all")
    assert source.asked["unfinished"] is False


def test_no_clouds_yaml_says_where_it_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OS_CLIENT_CONFIG_FILE", raising=False)
    result = CliRunner().invoke(main, ["cell", "list"])
    assert result.exit_code == 1
    assert "OS_CLIENT_CONFIG_FILE" in result.output
    (tmp_path / "clouds.yaml").write_text("clouds: {other: {}}")
    assert "it has: other" in CliRunner().invoke(main, ["cell", "list"]).output
    (tmp_path / "clouds.yaml").write_text("clouds: [")
    assert "cannot be read as YAML" in CliRunner().invoke(main, ["cell", "list"]).output


def test_local_needs_a_cells_own_option_file(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["--local", "cell", "list"]).exit_code == 2
    top = tmp_path / "top.conf"
    top.write_text("[top]\n")
    assert (
        "not the option file of a cell"
        in CliRunner().invoke(main, ["cell", "list", "--local", "--config", str(top)]).output
    )
    inside = tmp_path / "cell.conf"
    inside.write_text("[cell]\nname = east\n")
    result = CliRunner().invoke(main, ["--local", "--config", str(inside), "cell", "list"])
    assert result.exit_code == 3
    assert "embedded profile" in result.output


class FakeConductor:
    """What a cell's conductor knows of its servers."""

    def __init__(self, count: int) -> None:
        self.records = {f"s{n:04}": make_server(f"s{n:04}", project="ab"[n % 2]) for n in range(count)}

    def get_digest(self, context: RequestContext) -> CellDigest:
        return CellDigest(cell="east", hosts_total=1, hosts_up=1)

    def list_versions(self, context: RequestContext, after_id: str, limit: int) -> list[tuple[str, int]]:
        return [(one, 3) for one in sorted(self.records) if one > after_id][:limit]

    def get_servers(self, context: RequestContext, server_ids: list[str], partly: bool = False) -> list[ServerRecord]:
        return [self.records[one] for one in server_ids if one in self.records]


def test_a_cell_is_read_by_itself() -> None:
    config = options.load()
    config = replace(config, cell=replace(config.cell, name="east"))
    source = LocalSource(config, FakeConductor(450))  # type: ignore[arg-type]
    assert source.get_cell("east").digest is not None
    assert len(source.list_servers(cell="east", project=None, limit=1000)) == 450
    assert len(source.list_servers(cell=None, project="a", limit=150)) == 150
    assert source.get_server("s0003").spec.project_id == "b"
    for ask in (lambda: source.get_server("nope"), lambda: source.get_cell("west")):
        with pytest.raises(errors.NotFound):
            ask()
