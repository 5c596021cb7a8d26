"""Every command of cellctl takes a name wherever it takes an id, and says so where a name is not enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from cell.admin.__main__ import main
from cell.admin.common_options import Terminal
from cellcloud.model.explanation import CellAggregate
from cellcloud.model.host import Aggregate, Host
from cellcloud.model.server import ServerRecord
from tests.unit.test_cellctl import FakeSource, make_server

ONE, TWO, THREE = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
HOST, PROJECT = f"{8:032x}", f"{9:032x}"


class NamedSource(FakeSource):
    """Server web is one, two servers are called twin; hosts east-1 and twin, the latter in two cells."""

    def __init__(self) -> None:
        super().__init__(servers=[make_server(ONE), make_server(TWO, "twin"), make_server(THREE, "twin")])
        self.told: list[object] = []
        self.key = ONE

    def find_servers(self, name: str) -> list[ServerRecord]:
        return [server for server in self.servers if server.spec.name == name]

    def find_projects(self, name: str) -> list[str]:
        return {"demo": [PROJECT], "twin": [PROJECT, ONE]}.get(name, [])

    def list_hosts(self, cell: str | None) -> list[Host]:
        (host,) = super().list_hosts(cell)
        facts = replace(host.facts, hypervisor_hostname="east-1.example.org")
        named = replace(host, id=HOST, facts=facts)
        return [
            named,
            *(
                replace(host, id=one, host=f"twin-{one}", cell="east", facts=replace(facts, hypervisor_hostname="twin"))
                for one in "ab"
            ),
        ]

    def list_aggregates(self, cell: str | None) -> list[CellAggregate]:
        names = {1: "fast", 2: "twin", 3: "twin"}
        return [CellAggregate(cell="east", aggregate=Aggregate(id=n, name=name)) for n, name in names.items()]

    def get_server(self, server_id: str) -> ServerRecord:
        self.told.append(server_id)
        return super().get_server(server_id)

    def get_timeline(self, server_id: str) -> Any:
        self.told.append(server_id)
        return super().get_timeline(server_id)

    def list_servers(self, *, cell: str | None, project: str | None, limit: int) -> list[ServerRecord]:
        self.told.append(project)
        return []

    def list_operations(self, *, server_id: str | None, unfinished: bool) -> Any:
        self.told.append(server_id)
        return []

    def explain(self, key: str, *, host: str | None, cell: str | None, most: int) -> Any:
        self.key = key
        self.told.append(host or key)
        return []

    def plan_loss(self, hosts: list[str], *, drain: bool) -> Any:
        self.told += hosts
        return []

    def list_unknown_guests(self, *, host: str | None, cell: str | None) -> Any:
        self.told.append(host)
        return []

    def adopt_guest(self, server_id: str, *, host: str, cell: str | None) -> ServerRecord:
        self.told.append(host)
        return self.servers[0]

    def remove_guest(self, server_id: str, *, host: str, cell: str | None) -> Any:
        self.told.append(host)
        return []

    def release_name(self, host: str, *, cell: str | None) -> None:
        self.told.append(host)

    def repair(self, server_ids: list[str], *, keep: str | None) -> Any:
        self.told += server_ids
        return []

    def change_aggregate(self, number: int, action: str, what: dict[str, object]) -> Aggregate:
        self.told.append((number, what["host"]) if "host" in what else number)
        return Aggregate(id=number, name="fast")

    def delete_aggregate(self, number: int) -> None:
        self.told.append(number)


# What each kind of thing is called: its id first, then its names; and what the source is asked about.
CALLED: dict[str, tuple[tuple[str, ...], object]] = {
    "server": ((ONE, "web"), ONE),
    "host": ((HOST, "east-1", "east-1.example.org"), "east-1"),
    "project": ((PROJECT, "demo"), PROJECT),
    "aggregate": (("1", "fast"), 1),
}
# Command -> (its words with @ for the thing, the kind of thing).
COMMANDS: dict[str, list[tuple[str, str]]] = {
    "server show": [("server show @", "server")],
    "server timeline": [("server timeline @", "server")],
    "server list": [("server list --project @", "project")],
    "op list": [("op list --server @", "server")],
    "why": [("why @", "server")],
    "why-not": [(f"why-not {ONE} @", "host"), ("why-not @ east-1", "server")],
    "plan lose": [("plan lose @", "host")],
    "plan drain": [("plan drain @", "host")],
    "host guests": [("host guests @", "host")],
    "host release": [("host release @", "host")],
    "guest list": [("guest list --host @", "host")],
    "guest adopt": [("guest adopt g1 --host @", "host")],
    "guest remove": [("guest remove g1 --host @", "host")],
    "doctor repair": [("doctor repair @", "server")],
    "aggregate set": [("aggregate set @ --zone z", "aggregate")],
    "aggregate delete": [("aggregate delete @", "aggregate")],
    "aggregate add-host": [("aggregate add-host @ east-1", "aggregate"), ("aggregate add-host 1 @", "host")],
    "aggregate remove-host": [("aggregate remove-host @ east-1", "aggregate"), ("aggregate remove-host 1 @", "host")],
}
CASES = [(words, kind, text) for command in COMMANDS.values() for words, kind in command for text in CALLED[kind][0]]
# Values that name nothing of these kinds: of commands' own ids and names (flavors are named to the scheduler itself).
ELSEWHERE = {
    "cell", "cloud", "config", "form", "file", "policy", "comment", "role", "version", "limit", "most", "servers",
    "zone", "flavor", "keep", "run_id", "decision", "server_id", "name", "properties", "unset",
}  # fmt: skip


def run(source: NamedSource, words: str, text: str) -> Result:
    said = [text if word == "@" else word for word in words.split()]
    return CliRunner().invoke(main, said, obj=Terminal(source_override=source))


@pytest.mark.parametrize(("words", "kind", "text"), CASES)
def test_a_thing_is_named_by_its_id_or_its_name(words: str, kind: str, text: str) -> None:
    source = NamedSource()
    result = run(source, words, text)
    assert result.exit_code == 0, result.output
    meant = (
        "east-1"
        if words == "why-not @ east-1"
        else (1, "east-1")
        if "aggregate" in words and "-host" in words
        else CALLED[kind][1]
    )
    assert source.told == [meant]
    assert source.key == ONE


@pytest.mark.parametrize(("words", "kind"), [case for command in COMMANDS.values() for case in command])
def test_a_name_of_several_is_refused_with_their_ids(words: str, kind: str) -> None:
    source = NamedSource()
    result = run(source, words, "twin")
    assert result.exit_code == 2, result.output
    ids = {
        "server": (TWO, THREE),
        "host": ("a in cell", "b in cell"),
        "project": (PROJECT, ONE),
        "aggregate": ("2, 3",),
    }
    assert all(one in result.output for one in ids[kind]), result.output
    assert source.told == []


@pytest.mark.parametrize(
    ("words", "kind"), [case for command in COMMANDS.values() for case in command if case[1] != "host"]
)
def test_a_name_of_nothing_is_not_found(words: str, kind: str) -> None:
    result = run(NamedSource(), words, "nothing")
    assert (result.exit_code, f"There is no {kind} named nothing" in result.output) == (4, True), result.output


def _commands(group: click.Group, words: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        path = f"{words} {name}".strip()
        if isinstance(command, click.Group):
            yield from _commands(command, path)
        else:
            yield path, command


def test_every_command_that_names_a_thing_is_tried() -> None:
    """An argument or option of text is of one of the kinds above, or is said to be none."""
    naming = {
        path
        for path, command in _commands(main)
        for parameter in command.params
        if parameter.type is click.STRING and parameter.name not in ELSEWHERE
    }
    assert naming | {"host guests", "host release"} == set(COMMANDS)
