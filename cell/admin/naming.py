"""What operators call a thing by: its id, or its name where only one has it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from cell.admin.source import Source
from cellcloud import errors


def server_id(source: Source, text: str) -> str:
    """Return the id of the server that the text names. Raises NotFound, Invalid for a name that several have."""
    if is_id(text):
        return text
    return _only("server", text, [one.id for one in source.find_servers(text)])


def server_ids(source: Source, texts: Iterable[str]) -> list[str]:
    """See ``server_id``."""
    return [server_id(source, text) for text in texts]


def host_name(source: Source, text: str, cell: str | None = None, *, alone: bool = False) -> str:
    """Return the name of the host that has that name, that id, or that name as a hypervisor.

    One that no answering cell has is left as it is said: who is asked next says what is wrong, and what a name that
    hosts of several cells have stands for; with ``alone`` such a name is refused here. Raises Invalid.
    """
    hosts = [host for host in source.list_hosts(cell) if cell in (None, host.cell)]
    found = [host for host in hosts if host.host == text]
    found = found or [host for host in hosts if text in (host.id, host.facts.hypervisor_hostname)]
    if len(found) > 1 and (alone or len({host.host for host in found}) > 1):
        ids = ", ".join(f"{host.id} in cell {host.cell}" for host in found)
        raise errors.Invalid(f"{len(found)} hosts are called {text}; give one's id.", detail=ids)
    return found[0].host if found else text


def aggregate_id(source: Source, text: str, cell: str | None = None) -> int:
    """Return the number of the aggregate that the text names. Raises NotFound, Invalid for a name that several have."""
    if text.isascii() and text.isdecimal():
        return int(text)
    found = {one.aggregate.id for one in source.list_aggregates(cell) if one.aggregate.name == text}
    return int(_only("aggregate", text, [str(number) for number in sorted(found)]))


def project_id(source: Source, text: str) -> str:
    """Return the id of the project that the text names; a name is looked up, where there is somebody to ask."""
    if is_id(text):
        return text
    found = source.find_projects(text)
    return text if found is None else _only("project", text, found)


def is_id(text: str) -> bool:
    """Return whether a text has the form of a UUID."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _only(kind: str, text: str, ids: list[str]) -> str:
    if not ids:
        raise errors.NotFound(f"There is no {kind} named {text}.")
    if len(ids) > 1:
        raise errors.Invalid(f"{len(ids)} {kind}s are named {text}; give one's id.", detail=", ".join(ids))
    return ids[0]
