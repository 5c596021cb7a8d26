"""What commands to hosts tell beside what a server's record has: texts that are kept apart, and places on the host.

A host is told of no more than its own claims: CPUs, pages and devices that it gives to others it does not give to this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from msgspec import structs

from cellcloud.db import claims, user_data
from cellcloud.db.engine import Connection, Database
from cellcloud.model import flavor_image_validation
from cellcloud.model.guest_commands import DefiningCommand, GuestCommand
from cellcloud.model.numa import Placed
from cellcloud.model.server import ServerRecord, ServerSpec


def complete(database: Database, commands: Sequence[GuestCommand]) -> Sequence[GuestCommand]:
    """Return the commands, those that define a guest with all it is made from."""
    defining = [each for each in commands if isinstance(each, DefiningCommand)]
    lacking = [one.spec for one in defining if one.spec.user_data_id or one.spec.hints_id or one.spec.admin_pass_id]
    placed = [(one.spec, one.host) for one in defining if _asks_for_place(one.spec)]
    if not lacking and not placed:
        return commands
    with database.read() as connection:
        found = {spec.id: spec for spec in user_data.attach(connection, user_data.CELL, lacking, passwords=True)}
        places = list_places(connection, placed)

    def whole(command: DefiningCommand) -> ServerSpec:
        spec = found.get(command.server_id, command.spec)
        return replace(spec, placed=places[command.server_id]) if command.server_id in places else spec

    return [structs.replace(each, spec=whole(each)) if isinstance(each, DefiningCommand) else each for each in commands]


def _asks_for_place(spec: ServerSpec) -> bool:
    return flavor_image_validation.asks_for_place(spec.flavor, spec.image)


def attach_places(connection: Connection, records: Sequence[ServerRecord]) -> list[ServerRecord]:
    """Return the records, those of servers with a place on their host with what they have of it."""
    asking = [(record.spec, record.host) for record in records if record.host and _asks_for_place(record.spec)]
    places = list_places(connection, asking) if asking else {}
    return [
        replace(record, spec=replace(record.spec, placed=places[record.id])) if record.id in places else record
        for record in records
    ]


def list_places(connection: Connection, servers: Sequence[tuple[ServerSpec, str]]) -> Mapping[str, Placed]:
    """Server id -> what it has of that host. Of a server with two claims there, as one that changes its size, the
    claim that is of that flavor; its own rather than its migration's."""
    wanted = {spec.id: (spec, host) for spec, host in servers}
    places: dict[str, Placed] = {}
    held = claims.list_of(connection, *wanted) if wanted else []
    for claim in sorted(held, key=lambda one: one.id != one.server_id):
        (spec, host), placed = wanted[claim.server_id], claim.allocation.placed
        if placed is None or claim.host != host or claim.server_id in places:
            continue
        if flavor_image_validation.is_placed(replace(spec, placed=placed)):
            places[claim.server_id] = placed
    return places
