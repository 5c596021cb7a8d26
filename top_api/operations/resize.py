"""Resize and migrate: what is asked for is checked, and counted against the quota, before the server's cell begins.

A server that is resized counts for the larger of both flavors until it is confirmed or reverted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.config import QuotaConfig
from cellcloud.context import RequestContext
from cellcloud.db import flavors, quotas, server_index
from cellcloud.db.engine import Database, retried
from cellcloud.model import codec, flavor_image_validation
from cellcloud.model.flavor import Flavor
from cellcloud.model.operations import FIRST_VARIANTS, Operation
from cellcloud.model.server import ServerRecord
from top_api import quota_limits
from top_api.operations.create import check_fit, check_partitions
from top_api.operations.server_in_cell import begin, check_may_begin, check_unlocked
from top_api.services import ApiServices


class _TooLarge(Exception):
    """A limit would be exceeded; rolls the transaction back."""


def resize(services: ApiServices, context: RequestContext, record: ServerRecord, asked: Mapping[str, Any]) -> None:
    """Begin a resize to the flavor of a validated body. Raises Invalid for a flavor that there is not, is the
    server's, or does not fit its image or its disks; QuotaExceeded, Forbidden, Conflict, Unreachable."""
    check_unlocked(context, record)
    check_may_begin(record, FIRST_VARIANTS[Operation.RESIZE])
    flavor = _flavor(services, context, record, str(asked["flavorRef"]))
    disk_config = str(asked.get("OS-DCF:diskConfig") or "")
    check_partitions(disk_config, record.spec.image)
    if not record.spec.is_volume_backed:
        check_fit(services, context, flavor, record.spec.image)
    flavor_image_validation.check(flavor, record.spec.image)
    alone, asked_at = _hold(services, record, flavor)
    try:
        arguments = {"flavor": codec.to_plain(flavor), "disk_config": disk_config}
        begin(services, context, record, FIRST_VARIANTS[Operation.RESIZE], arguments)
    except errors.FixRequest:  # after anything else it may have begun: its next copy says so, or the router's sweep
        if alone:
            _let_go(services.database, record.id, asked_at)
        raise


def migrate(services: ApiServices, context: RequestContext, record: ServerRecord, host: str) -> None:
    """Begin a cold migration, to that host or, where it is empty, to any. Raises Invalid for a host that there is not
    in the server's cell, or that it is on; Conflict, Unreachable."""
    arguments: dict[str, object] = {"host": host} if host else {}
    begin(services, context, record, FIRST_VARIANTS[Operation.MIGRATE], arguments)


def _flavor(services: ApiServices, context: RequestContext, record: ServerRecord, reference: str) -> Flavor:
    flavor_id = reference.rstrip("/").rsplit("/", 1)[-1]
    with services.database.read() as connection:
        flavor = flavors.find_flavor(connection, flavor_id, project_id=None if context.is_admin else context.project_id)
    if flavor is None or flavor.disabled:
        raise errors.Invalid(f"Flavor {flavor_id[:255]} could not be found.")
    present = record.spec.flavor
    if flavor.id == present.id:
        raise errors.Invalid("When resizing, instances must change flavor!")
    reason = ""
    root_shrinks = not record.spec.is_volume_backed and flavor.root_gb < present.root_gb
    if flavor.root_gb == 0 and root_shrinks:
        reason = "Resize to zero disk flavor is not allowed."
    elif root_shrinks or flavor.ephemeral_gb < present.ephemeral_gb:
        reason = "Resize to a flavor with a smaller disk is not allowed."
    if reason:
        raise errors.Invalid(f"Server disk was unable to be resized because: {reason}")
    return flavor


def _hold(services: ApiServices, record: ServerRecord, flavor: Flavor) -> tuple[bool, dt.datetime]:
    """Count the server for what the larger of both flavors comes to; whether no other resize is asked for, and when
    this was. Raises QuotaExceeded."""
    cost = quotas.larger(quotas.cost_of_record(record), quotas.cost_of(flavor))
    try:
        return _count(services.database, services.config.quota, record, flavor)
    except _TooLarge:
        spec = record.spec
        more = {name: amount for name, amount in _more(record, cost).items() if amount > 0}
        with services.database.read() as connection:
            scopes = quota_limits.scopes_of(connection, spec.project_id, spec.user_id, services.config.quota)
        over = [one for one in scopes if (room := one.how_many_fit(more)) is not None and room < 1]
        full = over[-1] if over else scopes[0]
        raise quotas.refusal(more, full.usages, full.limits) from None


@retried
def _let_go(database: Database, server_id: str, asked_at: dt.datetime) -> None:
    with database.write() as connection:
        for now in server_index.lock_records(connection, [server_id]).values():
            server_index.end_asking(connection, now, asked_at)


@retried
def _count(database: Database, quota: QuotaConfig, record: ServerRecord, flavor: Flavor) -> tuple[bool, dt.datetime]:
    with database.write() as connection:
        now = server_index.lock_records(connection, [record.id]).get(record.id)
        if now is None:
            raise errors.NotFound(f"Instance {record.id} could not be found.")
        cost = quotas.larger(quotas.cost_of_record(now), quotas.cost_of(flavor))
        limits = quota_limits.limits_of(connection, now.spec.project_id, quota)
        asked = server_index.begin_asking(connection, now, cost, limits)
        if asked is None:
            raise _TooLarge
        return asked


def _more(record: ServerRecord, cost: Mapping[str, int]) -> dict[str, int]:
    before = quotas.cost_of_record(record)
    return {name: cost[name] - before[name] for name in cost}
