"""What schedulers follow and operators ask of a cell's scheduling. Conductors serve it beside their other verbs."""

from __future__ import annotations

from typing import Protocol

from cellcloud.context import RequestContext
from cellcloud.model.change_log import ChangePage, PackedState
from cellcloud.model.decision import Basis, Decision, DecisionBatch, PolicyRecord, ShadowSummary
from cellcloud.model.host import Aggregate
from cellcloud.model.image import Image
from cellcloud.rpc.accounts import Role
from cellcloud.rpc.interface import call, served_by

READERS = (Role.TOP, Role.SCHEDULER)


@served_by(Role.CONDUCTOR, callers=(Role.TOP,), queue="Ledger")
class SchedulingStore(Protocol):
    # ---- what schedulers follow --------------------------------------------------------------------------------
    @call(timeout=20.0, by=READERS)
    def get_state(self, context: RequestContext) -> PackedState:
        """Every host with its use, aggregates and policies, as of one sequence of the change log."""
        ...

    @call(timeout=8.0, by=READERS)
    def list_changes(self, context: RequestContext, after: int, limit: int) -> ChangePage: ...

    # ---- decisions ---------------------------------------------------------------------------------------------
    @call(timeout=10.0, by=READERS, pages=("at", "position", "id"))
    def find_decisions(self, context: RequestContext, key: str) -> list[Decision]:
        """By server id, request id or decision id, oldest first."""
        ...

    @call(timeout=10.0, pages=("at", "position", "id"))
    def list_decisions(self, context: RequestContext, limit: int) -> list[Decision]:
        """Those of the newest ``limit`` batches, oldest first."""
        ...

    @call(timeout=10.0, by=READERS)
    def list_decision_ids(self, context: RequestContext, key: str) -> list[str]:
        """As ``find_decisions``, the ids alone: those of one request may fill many batches."""
        ...

    @call(timeout=10.0, by=READERS, pages=("answer.batch",))
    def get_batches(self, context: RequestContext, numbers: list[int]) -> list[DecisionBatch]:
        """Whole batches, which others name as pending; unknown ones are left out."""
        ...

    @call(timeout=10.0, by=READERS)
    def list_bases(self, context: RequestContext, limit: int) -> list[Basis]:
        """Return what the newest batches were chosen from, newest first."""
        ...

    # ---- server groups -----------------------------------------------------------------------------------------
    @call(timeout=10.0, by=READERS, since=1)
    def list_group_members(self, context: RequestContext, group_ids: list[str]) -> dict[str, list[str]]:
        """Group -> ids of the servers in it that have a claim, by id."""
        ...

    # ---- policies ----------------------------------------------------------------------------------------------
    @call(timeout=5.0, pages=("version",))
    def list_policies(self, context: RequestContext) -> list[PolicyRecord]: ...

    @call(timeout=5.0)
    def get_policy(self, context: RequestContext, version: int) -> PolicyRecord:
        """Return a version of the policy. Raises NotFound."""
        ...

    @call(timeout=5.0)
    def add_policy(self, context: RequestContext, document: dict[str, object], comment: str) -> PolicyRecord:
        """Store a document as a new version, not in force yet. Raises Invalid that says what is wrong with it."""
        ...

    @call(timeout=5.0)
    def set_policy_role(self, context: RequestContext, role: str, version: int | None) -> list[PolicyRecord]:
        """Make a version "active" or "shadow"; None ends the shadow. Raises NotFound, Invalid."""
        ...

    @call(timeout=20.0)
    def summarise_shadow(self, context: RequestContext) -> ShadowSummary:
        """Return which live decisions the shadow policy would have made otherwise. Raises NotFound without a shadow."""
        ...

    # ---- aggregates --------------------------------------------------------------------------------------------
    @call(timeout=5.0, pages=("id",))
    def list_aggregates(self, context: RequestContext) -> list[Aggregate]: ...

    @call(timeout=5.0)
    def set_aggregates(
        self, context: RequestContext, aggregates: list[Aggregate], removed: list[int], version: int
    ) -> list[Aggregate]:
        """Set some and remove some by id; returns all. What is stored with a higher version stays; 0: no version."""
        ...

    @call(timeout=8.0, since=2)
    def cache_images(self, context: RequestContext, hosts: list[str], images: list[Image]) -> None:
        """Have hosts of an aggregate fetch images into their caches, some hosts at a time; those that are down are let
        off. Idempotent."""
        ...
