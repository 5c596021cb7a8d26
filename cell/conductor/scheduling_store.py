"""The conductor's verbs for schedulers and for operators of scheduling."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from cellcloud import errors
from cellcloud.batching import MOST_BYTES, portions
from cellcloud.context import RequestContext
from cellcloud.db import (
    decisions,
    group_members,
    host_aggregates,
    hosts,
    image_cachings,
    scheduler_change_log,
    scheduling_policies,
)
from cellcloud.db.engine import Connection, Database, retried, transact
from cellcloud.model import codec
from cellcloud.model.change_log import CellState, ChangePage, PackedState
from cellcloud.model.decision import Basis, Decision, DecisionBatch, PolicyRecord, ShadowSummary
from cellcloud.model.host import Aggregate
from cellcloud.model.image import Image

LOG = logging.getLogger(__name__)
MOST_CHANGES = 5000  # a page, and of no more bytes than fit into a message


def _nobody() -> None:
    """Who listens to changes when nobody said."""


class SchedulingStoreService:
    """Implements ``cellcloud.rpc.scheduling_store.SchedulingStore``.

    ``on_change``: called when schedulers should read the log soon; ``on_images``: when hosts are to fetch images.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.on_change: Callable[[], None] = _nobody
        self.on_images: Callable[[], None] = _nobody

    # ---- what schedulers follow --------------------------------------------------------------------------------
    def get_state(self, context: RequestContext) -> PackedState:
        with self._database.read_as_one() as connection:
            return PackedState.of(
                CellState(
                    sequence=scheduler_change_log.get_newest(connection),
                    hosts=tuple(hosts.list_states(connection)),
                    aggregates=tuple(host_aggregates.list_all(connection)),
                    policy=scheduling_policies.find_role(connection, "active") or scheduling_policies.BUILT_IN,
                    shadow=scheduling_policies.find_role(connection, "shadow"),
                )
            )

    def list_changes(self, context: RequestContext, after: int, limit: int) -> ChangePage:
        with self._database.read() as connection:
            page = scheduler_change_log.list_after(connection, after, min(limit, MOST_CHANGES))
        if codec.wire_size(page) <= MOST_BYTES:
            return page
        return replace(page, entries=tuple(next(portions(page.entries, codec.wire_size))))

    # ---- decisions ---------------------------------------------------------------------------------------------
    def find_decisions(self, context: RequestContext, key: str) -> list[Decision]:
        with self._database.read() as connection:
            return decisions.find(connection, key)

    def list_decisions(self, context: RequestContext, limit: int) -> list[Decision]:
        with self._database.read() as connection:
            return decisions.list_recent(connection, limit)

    def list_decision_ids(self, context: RequestContext, key: str) -> list[str]:
        with self._database.read() as connection:
            return [one.id for one in decisions.find(connection, key)]

    def get_batches(self, context: RequestContext, numbers: list[int]) -> list[DecisionBatch]:
        with self._database.read() as connection:
            return decisions.list_batches(connection, numbers)

    def list_bases(self, context: RequestContext, limit: int) -> list[Basis]:
        with self._database.read() as connection:
            return decisions.list_bases(connection, limit)

    # ---- server groups -----------------------------------------------------------------------------------------
    def list_group_members(self, context: RequestContext, group_ids: list[str]) -> dict[str, list[str]]:
        with self._database.read() as connection:
            found = group_members.list_hosts(connection, group_ids)
        return {group_id: sorted(hosts) for group_id, hosts in found.items()}

    # ---- policies ----------------------------------------------------------------------------------------------
    def list_policies(self, context: RequestContext) -> list[PolicyRecord]:
        with self._database.read() as connection:
            return scheduling_policies.list_all(connection)

    def get_policy(self, context: RequestContext, version: int) -> PolicyRecord:
        with self._database.read() as connection:
            return scheduling_policies.get(connection, version)

    def add_policy(self, context: RequestContext, document: dict[str, object], comment: str) -> PolicyRecord:
        return transact(self._database, lambda connection: scheduling_policies.add(connection, document, comment))

    def set_policy_role(self, context: RequestContext, role: str, version: int | None) -> list[PolicyRecord]:
        def give(connection: Connection) -> list[PolicyRecord]:
            scheduling_policies.set_role(connection, role, version)
            return scheduling_policies.list_all(connection)

        found = transact(self._database, give)
        self.on_change()
        return found

    def summarise_shadow(self, context: RequestContext) -> ShadowSummary:
        with self._database.read() as connection:
            shadow = scheduling_policies.find_role(connection, "shadow")
            if shadow is None:
                raise errors.NotFound("No policy is tried in the shadow of the active one.")
            return decisions.summarise_shadow(connection, shadow.version)

    # ---- aggregates --------------------------------------------------------------------------------------------
    def list_aggregates(self, context: RequestContext) -> list[Aggregate]:
        with self._database.read() as connection:
            return host_aggregates.list_all(connection)

    def set_aggregates(
        self, context: RequestContext, aggregates: list[Aggregate], removed: list[int], version: int
    ) -> list[Aggregate]:
        found = _set_aggregates(self._database, aggregates, removed, version)
        self.on_change()
        return found

    def cache_images(self, context: RequestContext, hosts: list[str], images: list[Image]) -> None:
        began = transact(self._database, lambda c: image_cachings.ask(c, hosts, images, context.request_id))
        for host in sorted(set(hosts) - set(began)):
            LOG.warning("images not cached", extra={"host": host, "why": "the host is down"})
        self.on_images()


@retried
def _set_aggregates(database: Database, given: list[Aggregate], removed: list[int], version: int) -> list[Aggregate]:
    with database.write() as connection:
        host_aggregates.store(connection, given, removed, version=version)
        return host_aggregates.list_all(connection)
