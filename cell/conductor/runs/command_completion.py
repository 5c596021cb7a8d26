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
from cellcloud.model.server import ServerSpec


def complete(database: Database, commands: Sequence[GuestCommand]) -> Sequence[GuestCommand]:
    """The commands, those that define a guest with all it is made from."""
    defining = [each for each in commands if isinstance(each, DefiningCommand)]
    lacking = [one.spec for one in defining if one.spec.user_data_id or one.spec.hints_id or one.spec.admin_pass_id]
    placed = [one for one in defining if flavor_image_validation.asks_for_place(one.spec.flavor, one.spec.image)]
    if not lacking and not placed:
        return commands
    with database.read() as connection:
        found = {spec.id: spec for spec in user_data.attach(connection, user_data.CELL, lacking, passwords=True)}
        places = _list_places(connection, placed)

    def whole(command: DefiningCommand) -> ServerSpec:
        spec = found.get(command.server_id, command.spec)
        return replace(spec, placed=places[command.server_id]) if command.server_id in places else spec

    return [structs.replace(each, spec=whole(each)) if isinstance(each, DefiningCommand) else each for each in commands]


def _list_places(connection: Connection, commands: Sequence[DefiningCommand]) -> Mapping[str, Placed]:
    """Server id -> what it has of the host that its command is for. Of a server with two claims there, as one that
    changes its size, the claim that is of the command's flavor; its own rather than its migration's."""
    wanted = {command.server_id: command for command in commands}
    places: dict[str, Placed] = {}
    held = claims.list_of(connection, *wanted) if wanted else []
    for claim in sorted(held, key=lambda one: one.id != one.server_id):
        command, placed = wanted[claim.server_id], claim.allocation.placed
        if placed is None or claim.host != command.host or claim.server_id in places:
            continue
        if flavor_image_validation.is_placed(replace(command.spec, placed=placed)):
            places[claim.server_id] = placed
    return places
