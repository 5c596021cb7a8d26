"""From the query of a list of servers to one query of the index."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cellcloud import errors
from cellcloud.db import server_terms
from cellcloud.db.server_conditions import SORT_KEYS, ServerQuery
from cellcloud.model.server import ServerRecord
from cellcloud.model.virtual_hardware import device_names
from cellcloud.server_states import TaskState, VmState, states_of, status_of
from top_api import search_patterns
from top_api.paging import limit_of
from top_api.request_pipeline import Call
from top_api.schemas.servers import JOINED
from top_api.schemas.types import is_true
from top_api.validation import read_time
from top_api.views.servers import power_state_of

Keep = Callable[[ServerRecord], bool]

# Query key -> column of the index with the same meaning.
_COLUMNS = {
    "reservation_id": "reservation_id", "image": "image_id", "image_ref": "image_id", "flavor": "flavor_id",
    "instance_type_id": "flavor_id", "host": "host", "node": "node", "uuid": "id", "vm_state": "vm_state",
    "task_state": "task_state", "user_id": "user_id", "availability_zone": "availability_zone", "key_name": "key_name",
}  # fmt: skip
_SORT_COLUMNS = {
    "display_name": "name", "uuid": "id", "image_ref": "image_id", "instance_type_id": "flavor_id",
    "terminated_at": "deleted_at",
    "auto_disk_config": "disk_config", "display_description": "description", "locked_by": "locked",
    **{key: key for key in ("access_ip_v4", "access_ip_v6", "availability_zone", "config_drive", "created_at", "host",
                            "hostname", "key_name", "launch_index", "launched_at", "locked", "node", "power_state",
                            "project_id", "task_state", "updated_at", "user_id", "vm_state")},
}  # fmt: skip
# What all servers have alike here: no order to keep.
_ALIKE = frozenset({"kernel_id", "progress", "ramdisk_id", "root_device_name"})
# What Nova takes below 2.75, and does not sort by.
_IGNORED = frozenset(
    {"architecture", "cell_name", "cleaned", "default_ephemeral_device", "default_swap_device", "deleted", "deleted_at",
     "disable_terminate", "ephemeral_gb", "ephemeral_key_uuid", "id", "key_data", "launched_on", "memory_mb",
     "os_type", "reservation_id", "root_gb", "shutdown_terminate", "user_data", "vcpus", "vm_mode"}
)  # fmt: skip
_PUBLIC = frozenset(
    {"reservation_id", "name", "status", "image", "flavor", "ip", "ip6", "changes-since", "changes-before",
     "all_tenants", "tags", "tags-any", "not-tags", "not-tags-any", "locked", "limit", "marker", "sort_key", "sort_dir"}
)  # fmt: skip
_PUBLIC_SINCE_83 = _PUBLIC | frozenset(
    {"availability_zone", "config_drive", "key_name", "created_at", "launched_at", "terminated_at", "power_state",
     "task_state", "vm_state", "progress", "user_id"}
)  # fmt: skip
_TIMES = ("created_at", "launched_at", "updated_at")  # which the index has as the records have them
_MOST_TERMS = 20  # that the database is asked for; what more there is, each record is asked for
_TRUE = frozenset({"1", "t", "true", "on", "y", "yes", ""})
_FALSE = frozenset({"0", "f", "false", "off", "n", "no"})


def read(call: Call, rule: str) -> ServerQuery:
    """``rule``: the list's, by which ``all_tenants`` has one of its own. Raises Invalid, Forbidden."""
    query = _visible(call)
    equal, containing, keep = _columns(query)
    states, deleted_asked = _states(call, query)
    since, before = read_changes(query)
    terms, lacking, others = _terms(query)
    keep += others + _predicates(query)
    deleted = _deleted(query, deleted_asked, timed=since is not None or before is not None)
    soft = _boolean("soft_deleted", query["soft_deleted"][-1]) if "soft_deleted" in query else bool(deleted)
    return ServerQuery(
        project_id=_project(call, query, rule),
        equal=equal,
        containing=containing,
        seconds={key: sorted(_seconds(key, query[key])) for key in _TIMES if key in query},
        terms=terms,
        lacking=lacking,
        states=states,
        task_states_apart=_APART,
        changed_since=since,
        changed_before=before,
        deleted=deleted,
        soft_deleted=soft,
        keep=(lambda record: all(test(record) for test in keep)) if keep else None,
        sort=_sort(call, query),
        limit=limit_of(call),
        marker=call.param("marker"),
    )


def _visible(call: Call) -> dict[str, list[str]]:
    """Return what of the query counts: the caller of a project may not filter by what only operators see."""
    if call.context.is_admin:
        for key in call.query:
            if key in JOINED:
                raise errors.Invalid(f"Invalid filter field: {key}.")
        return call.query
    allowed = _PUBLIC_SINCE_83 if call.version >= (2, 83) else _PUBLIC
    if call.version < (2, 5):
        allowed = allowed - {"ip6"}
    return {key: values for key, values in call.query.items() if key in allowed}


def _boolean(name: str, text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise errors.Invalid(f"Invalid input for query parameters {name}. Value: {text}. It is no truth value.")


def _project(call: Call, query: dict[str, list[str]], rule: str) -> str | None:
    """None: every project. One's own, whatever project is named, without ``all_tenants``."""
    if "all_tenants" not in query or not _boolean("all_tenants", query["all_tenants"][-1]):
        return call.context.project_id
    call.check(f"{rule}:get_all_tenants")
    named = query.get("project_id") or query.get("tenant_id")
    return named[-1] if named else None


def _columns(query: dict[str, list[str]]) -> tuple[dict[str, list[Any]], dict[str, list[str]], list[Keep]]:
    equal: dict[str, list[Any]] = {}
    containing: dict[str, list[str]] = {}
    keep: list[Keep] = []
    for key, values in query.items():
        if key in _COLUMNS:
            equal.setdefault(_COLUMNS[key], []).extend(value.rstrip("/").rsplit("/", 1)[-1] for value in values)
    if "power_state" in query:
        states = [power_state_of(value) for value in query["power_state"]]
        equal["power_state"] = [-1 if state is None else state for state in states]
    for key, column in (("name", "name"), ("display_name", "name"), ("hostname", "hostname")):
        for value in query.get(key, ()):
            exact, plain = search_patterns.exact_text(value), search_patterns.plain_text(value)
            if exact is not None:
                equal[column] = [exact]
            elif plain is not None and plain.isascii():
                containing.setdefault(column, []).append(plain)
            else:
                keep.append(_text_test(column, search_patterns.matcher(key, value)))
                containing.setdefault(column, []).extend(search_patterns.needed_texts(value))
    for key in ("ip", "ip6"):
        for value in query.get(key, ()):
            plain = search_patterns.plain_text(value, address=True)
            if plain is not None:
                containing.setdefault("addresses", []).append(plain)
            else:
                keep.append(_address_test(search_patterns.matcher(key, value)))
                one = search_patterns.needed_address(value)
                texts = search_patterns.needed_texts(value) if one is None else [one]
                containing.setdefault("addresses", []).extend(texts)
    return equal, containing, keep


def _text_test(field: str, matches: Callable[[str], bool]) -> Keep:
    return lambda record: matches(getattr(record.spec, field))


def _address_test(matches: Callable[[str], bool]) -> Keep:
    return lambda record: any(matches(ip.ip_address) for port in record.ports for ip in port.fixed_ips)


def _states(call: Call, query: dict[str, list[str]]) -> tuple[Sequence[tuple[str, str | None]] | None, bool]:
    """Return the states of the statuses asked for, and whether deleted servers are among them."""
    if "status" not in query:
        return None, False
    pairs: list[tuple[str, str | None]] = []
    for status in query["status"]:
        found = states_of(status)
        if not found and call.version >= (2, 38):
            raise errors.Invalid(f"Invalid status value: {status}")
        pairs.extend(found)
    deleted = any(vm_state == VmState.DELETED for vm_state, _ in pairs)
    if deleted and not call.context.is_admin:
        raise errors.Forbidden("Only administrators may list deleted instances")
    return pairs, deleted


_APART: dict[str, list[str]] = {
    vm_state: [task for task in TaskState if status_of(vm_state, task) != status_of(vm_state, None)]
    for vm_state in VmState
}


def _deleted(query: dict[str, list[str]], asked: bool, *, timed: bool) -> bool | None:
    if "deleted" in query:
        return _boolean("deleted", query["deleted"][-1]) or asked
    if asked:
        return True
    return None if timed else False


def read_changes(query: dict[str, list[str]]) -> tuple[dt.datetime | None, dt.datetime | None]:
    """``changes-since`` and ``changes-before``. Raises Invalid where no time is between them."""
    since, before = (read_time(query[key][-1]) if key in query else None for key in ("changes-since", "changes-before"))
    if since is not None and before is not None and before < since:
        raise errors.Invalid("The value of changes-since must be less than or equal to changes-before.")
    return since, before


def _terms(query: dict[str, list[str]]) -> tuple[list[frozenset[str]], list[frozenset[str]], list[Keep]]:
    """Return the terms of which servers have one at least of each set, those of which they lack one, and what says the
    same of a record."""
    terms: list[frozenset[str]] = []
    lacking: list[frozenset[str]] = []
    keep: list[Keep] = []

    def tags_of(key: str) -> frozenset[str]:
        return frozenset(tag for value in query.get(key, ()) for tag in value.split(",") if tag)

    every, some, not_every, none = (tags_of(key) for key in ("tags", "tags-any", "not-tags", "not-tags-any"))
    if every:
        terms += [_as_terms([tag]) for tag in sorted(every)[:_MOST_TERMS]]
        keep.append(lambda record: every <= set(record.spec.tags))
    if some:
        terms.append(_as_terms(some))
        keep.append(lambda record: not some.isdisjoint(record.spec.tags))
    if not_every:
        lacking += [_as_terms(not_every)] if len(not_every) <= _MOST_TERMS else []
        keep.append(lambda record: not not_every <= set(record.spec.tags))
    if none:
        lacking += [_as_terms([tag]) for tag in sorted(none)[:_MOST_TERMS]]
        keep.append(lambda record: none.isdisjoint(record.spec.tags))
    if "locked" in query:
        locked = _boolean("locked", query["locked"][-1])
        (terms if locked else lacking).append(frozenset({server_terms.LOCKED}))
        keep.append(lambda record: record.locked is locked)
    if "config_drive" in query:
        drive = is_true(query["config_drive"][-1])
        (terms if drive else lacking).append(frozenset({server_terms.CONFIG_DRIVE}))
        keep.append(lambda record: record.spec.config_drive is drive)
    return terms, lacking, keep


def _as_terms(tags: Iterable[str]) -> frozenset[str]:
    return frozenset(server_terms.tag(tag) for tag in tags)


def _predicates(query: dict[str, list[str]]) -> list[Keep]:
    """Return what no column of the index says."""
    return [_value_test(key, value_of, query[key]) for key, value_of in _VALUES.items() if key in query]


# Query key -> the value of a record that must be one of those given.
_VALUES: dict[str, Callable[[ServerRecord], str | int | bool | dt.datetime | None]] = {
    "description": lambda record: record.spec.description,
    "display_description": lambda record: record.spec.description,
    "access_ip_v4": lambda record: record.spec.access_ip_v4,
    "access_ip_v6": lambda record: record.spec.access_ip_v6,
    "auto_disk_config": lambda record: record.spec.disk_config == "AUTO",
    "launch_index": lambda record: record.spec.launch_index,
    "progress": lambda record: record.progress,
    "kernel_id": lambda record: "",
    "ramdisk_id": lambda record: "",
    "locked_by": lambda record: "owner" if record.locked else "",
    "root_device_name": lambda record: next(device_names(record.spec.image.properties)),
    "created_at": lambda record: record.created_at,
    "updated_at": lambda record: record.updated_at,
    "launched_at": lambda record: record.launched_at,
    "terminated_at": lambda record: record.terminated_at,
    "deleted_at": lambda record: record.terminated_at if record.deleted else None,
}


def _value_test(key: str, value_of: Callable[[ServerRecord], Any], given: Sequence[str]) -> Keep:
    """Return a test of records. Times are compared as they are shown, in seconds. Raises Invalid."""
    if key.endswith("_at"):
        times = _seconds(key, given)
        return lambda record: (at := value_of(record)) is not None and at.replace(microsecond=0) in times
    if key == "auto_disk_config":
        flags = {_boolean(key, text) for text in given}
        return lambda record: value_of(record) in flags
    texts = set(given)
    return lambda record: str("" if (value := value_of(record)) is None else value) in texts


def _seconds(key: str, given: Sequence[str]) -> set[dt.datetime]:
    return {_second(key, text) for text in given}


def _second(key: str, text: str) -> dt.datetime:
    try:
        return read_time(text).replace(microsecond=0)
    except ValueError:
        raise errors.Invalid(f"Invalid input for query parameters {key}. Value: {text[:64]}. It is no time.") from None


def _sort_column(call: Call, key: str) -> str | None:
    """Return the index's key; None where there is nothing to sort by. Raises Invalid, Forbidden."""
    ignored = _IGNORED if call.version >= (2, 73) else _IGNORED | {"locked"}
    if key in ignored and call.version < (2, 75):
        return None
    if key not in _SORT_COLUMNS and key not in _ALIKE:
        raise errors.Invalid(f"Invalid input for query parameters sort_key. Value: {key[:64]}. No such key.")
    if key in ("host", "node") and not call.context.is_admin:
        raise errors.Forbidden(f"Only administrators can sort servers by {key}")
    return _SORT_COLUMNS.get(key)


def _sort(call: Call, query: dict[str, list[str]]) -> list[tuple[str, bool]]:
    keys, directions = query.get("sort_key", []), query.get("sort_dir", [])
    if len(directions) > max(len(keys), 1):
        raise errors.Invalid("Sort direction array size exceeds sort key array size.")
    default = directions[0] if directions else "desc"
    found: list[tuple[str, bool]] = []
    for place, key in enumerate(keys):
        direction = directions[place] if place < len(directions) else "desc"
        column = _sort_column(call, key)
        if column is not None and column not in dict(found):
            found.append((column, direction == "desc"))
    for column in ("created_at", "id"):
        if column not in dict(found):
            found.append((column, default == "desc"))
    assert all(column in SORT_KEYS for column, _ in found)  # noqa: S101 -- the two tables belong together
    return found
