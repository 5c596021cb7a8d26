"""What one cell is asked for the top's intents: reserve, record, confirm; release; delete.

Every step may be repeated, by this process or another, after a death at any point: the cell is idempotent by server
id, and the only thing that decides is the conditional update in ``intents.record_placements``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from cellcloud import errors
from cellcloud.batching import in_full, portions
from cellcloud.context import RequestContext, service_context
from cellcloud.db import intents, server_groups, server_index, user_data
from cellcloud.db.engine import Database, retried
from cellcloud.model import codec
from cellcloud.model.cell_assignment_hmac import Proofs
from cellcloud.model.intent import Intent, IntentKind, IntentState, Refusal
from cellcloud.model.operations import Operation
from cellcloud.model.placement_messages import ConfirmAnswer, DeleteRequest, ReserveAnswer
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.model.server_group import AFFINITY
from cellcloud.rpc.conductor import Conductor

LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class DispatchResult:
    """What became of a batch, as intent ids: ``over``; ``again`` at another cell, ``unreachable`` likewise
    but only for now; ``later`` at the same cell. ``unanswered``: the cell did not answer. ``running``: those whose
    servers the cell began to run before."""

    over: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    unanswered: bool = False

    def note(self, error: errors.CellcloudError) -> None:
        """Whether that is a silence. A cell that has too much to do has answered."""
        self.unanswered = self.unanswered or isinstance(error, errors.Unreachable | errors.DeadlineExceeded)


class CellDispatcher:
    """The way to one cell."""

    def __init__(
        self, database: Database, cell: str, conductor: Callable[[], Conductor], *, budget: float, key: str = ""
    ) -> None:
        """``budget``: seconds for one message; ``key``: of the top's placements."""
        self._proofs = Proofs(key)
        self._database = database
        self._cell = cell
        self._conductor = conductor
        self._budget = budget

    def dispatch(self, batch: Sequence[Intent]) -> DispatchResult:
        """Bring each intent as far as the cell lets it."""
        outcome = DispatchResult()
        creates = [intent for intent in batch if intent.kind == IntentKind.CREATE]
        placed = [intent for intent in creates if intent.state == IntentState.RECORDED]
        fresh = [intent for intent in creates if intent.state == IntentState.PENDING]
        if fresh:
            placed += self._record(self._reserve(fresh, outcome), outcome)
        if placed:
            self._confirm(placed, outcome)
        self._delete([intent for intent in batch if intent.kind == IntentKind.DELETE], outcome)
        self._soft_delete([intent for intent in batch if intent.kind == IntentKind.SOFT_DELETE], outcome)
        return outcome

    def _reserve(self, fresh: list[Intent], outcome: DispatchResult) -> list[Intent]:
        """Ask the cell for room for servers that it does not hold yet, and return those it holds now."""
        with_records = [(intent, intent.record.spec) for intent in fresh if intent.record is not None]
        specs = _with_user_data(self._database, [spec for _, spec in with_records])
        held: list[Intent] = []
        asked = list(zip([intent for intent, _ in with_records], specs, strict=True))
        for some in portions(asked, lambda one: codec.wire_size(one[1])):
            held += self._ask_to_hold([intent for intent, _ in some], [spec for _, spec in some], outcome)
        return held

    def _ask_to_hold(self, fresh: list[Intent], specs: list[ServerSpec], outcome: DispatchResult) -> list[Intent]:
        try:
            signed = [self._proofs.sign(spec, self._cell) for spec in specs]
            answers = in_full(
                lambda some: self._conductor().reserve(service_context(self._budget), some),
                signed,
                key_of=lambda spec: spec.id,
                answers=lambda answer: answer.server_id,
            )
        except errors.TryLater as error:
            self._note(fresh, Refusal(outcome="silent", reason=error.message, detail=error.detail))
            outcome.unreachable += [intent.id for intent in fresh]
            outcome.note(error)
            return []
        except errors.CellcloudError as error:
            if len(fresh) > 1:  # one bad request must not fail the others
                middle = len(fresh) // 2
                first = self._ask_to_hold(fresh[:middle], specs[:middle], outcome)
                return first + self._ask_to_hold(fresh[middle:], specs[middle:], outcome)
            self._note(fresh, Refusal(outcome="refused", reason=error.message, detail=error.detail))
            outcome.again += [intent.id for intent in fresh]
            return []
        return self._sort_answers(fresh, answers, outcome)

    def _sort_answers(
        self, fresh: list[Intent], answers: Sequence[ReserveAnswer], outcome: DispatchResult
    ) -> list[Intent]:
        by_server = {answer.server_id: answer for answer in answers}
        held: list[Intent] = []
        refused: dict[str, dict[str, Refusal]] = {}
        for intent in fresh:
            answer = by_server.get(intent.server_id)
            if answer is None:
                refusal = Refusal(outcome="silent", reason="The cell left the request out of its answer.")
                outcome.unreachable.append(intent.id)
            elif answer.outcome == "later":
                refusal = Refusal(outcome="silent", reason=answer.reason, detail=answer.detail, reasons=answer.reasons)
                outcome.unreachable.append(intent.id)
            elif answer.outcome in ("held", "settled"):
                held.append(replace(intent, hold=answer.record.version if answer.record else 1))
                if answer.outcome == "settled":
                    outcome.running.add(intent.id)
                continue
            elif answer.outcome == "gone":
                refusal = Refusal(outcome="gone", reason="The cell had the server, and has it no more.")
                record = answer.record
                if record is not None and record.deleted and record.generation:  # placed before, and deleted
                    _close(self._database, intent)
                    outcome.over.append(intent.id)
                    continue
                outcome.unreachable.append(intent.id)
            else:
                refusal = Refusal(
                    outcome=answer.outcome, reason=answer.reason, detail=answer.detail, reasons=answer.reasons
                )
                outcome.again.append(intent.id)
            refused[intent.id] = intent.refusals | {self._cell: refusal}
        if refused:
            _save_refusals(self._database, refused)
        return held

    def _note(self, fresh: Sequence[Intent], refusal: Refusal) -> None:
        _save_refusals(self._database, {i.id: i.refusals | {self._cell: refusal} for i in fresh})

    def _record(self, held: list[Intent], outcome: DispatchResult) -> list[Intent]:
        """Return the commit point. Returns those that are this cell's now and gives the others back to it."""
        if not held:
            return []
        holds = {intent.id: intent.hold for intent in held if intent.hold != 1}
        won, apart = _record(self._database, held, self._cell, holds, outcome.running)
        lost = [intent for intent in held if intent.id not in won]
        if lost:
            outcome.over += [intent.id for intent in lost if intent.id not in apart]
            outcome.again += sorted(apart)
            try:
                self._conductor().release(service_context(self._budget), [intent.server_id for intent in lost])
            except errors.CellcloudError as error:
                LOG.info("a hold is left to expire", extra={"cell": self._cell, "why": error.message})
        return [
            replace(intent, state=IntentState.RECORDED, cell=self._cell, placement=won[intent.id])
            for intent in held
            if intent.id in won
        ]

    def _confirm(self, placed: Sequence[Intent], outcome: DispatchResult) -> None:
        holds = {intent.server_id: intent.hold for intent in placed if intent.hold != 1}
        placements = {intent.server_id: intent.placement for intent in placed if intent.placement}

        def ask(server_ids: list[str]) -> list[ConfirmAnswer]:
            theirs = {one: holds[one] for one in server_ids if one in holds}
            numbers = {one: placements[one] for one in server_ids if one in placements}
            return self._conductor().confirm(service_context(self._budget), server_ids, theirs, numbers)

        server_ids = [intent.server_id for intent in placed]
        answers: Sequence[ConfirmAnswer] = ()
        try:
            answers = in_full(ask, server_ids, key_of=str, answers=lambda answer: answer.server_id)
        except errors.CellcloudError as error:
            LOG.warning("a cell did not confirm", extra={"cell": self._cell, "why": error.message})
            outcome.note(error)
        by_server = {answer.server_id: answer for answer in answers}
        settled: list[tuple[str, ServerRecord | None]] = []
        for intent in placed:
            answer = by_server.get(intent.server_id)
            if answer is None:
                outcome.later.append(intent.id)
            elif answer.outcome == "gone" and (answer.record is None or not answer.record.deleted):
                reopened = _reopen(self._database, intent, answer)
                (outcome.again if reopened else outcome.over).append(intent.id)
            else:
                settled.append((intent.id, answer.record))
        if settled:
            _settle(self._database, self._cell, settled)
            outcome.over += [intent_id for intent_id, _ in settled]
            LOG.info("servers placed", extra={"cell": self._cell, "count": len(settled)})

    def _delete(self, wanted: Sequence[Intent], outcome: DispatchResult) -> None:
        if not wanted:
            return
        try:
            conductor = self._conductor()
        except errors.CellcloudError:  # the cell itself is not known: nobody can say that the server is gone
            outcome.later += [intent.id for intent in wanted]
            return
        try:
            answers = in_full(
                lambda some: conductor.begin_deletes(service_context(self._budget), some),
                [_request(intent) for intent in wanted],
                key_of=lambda request: request.server_id,
                answers=lambda answer: answer.server_id,
            )
        except errors.CellcloudError as error:
            if isinstance(error, errors.TryLater) and not isinstance(error, errors.NotYet):
                outcome.note(error)
                outcome.later += [intent.id for intent in wanted]
                return
            self._delete_singly(conductor, wanted, outcome)  # what is wrong with one must not fail the others
            return
        told = {answer.server_id: answer for answer in answers}
        known = [intent for intent in wanted if intent.server_id in told]
        outcome.later += [intent.id for intent in wanted if intent.server_id not in told]
        begun = [(one.id, told[one.server_id].record) for one in known if told[one.server_id].record is not None]
        if begun:
            _settle(self._database, self._cell, begun)
        gone = [one for one in known if told[one.server_id].record is None]
        if gone:
            _settle_deleted(self._database, gone)
        outcome.over += [intent.id for intent in known]

    def _soft_delete(self, wanted: Sequence[Intent], outcome: DispatchResult) -> None:
        """One by one: a conductor that knows of no soft deletes must not take one for a delete."""
        if wanted:
            self._delete_singly(self._conductor(), wanted, outcome)

    def _delete_singly(self, conductor: Conductor, wanted: Sequence[Intent], outcome: DispatchResult) -> None:
        for position, intent in enumerate(wanted):
            operation = Operation.DELETE if intent.kind == IntentKind.DELETE else Operation.SOFT_DELETE
            context = RequestContext.from_wire(intent.context).with_budget(self._budget)
            try:
                record = conductor.begin_operation(context, intent.server_id, operation, {})
            except errors.NotFound:
                _settle_deleted(self._database, [intent])
            except errors.TryLater as error:
                outcome.note(error)
                outcome.later += [left.id for left in wanted[position:]]
                return
            except errors.CellcloudError as error:
                LOG.error("a delete was refused", extra={"server": intent.server_id, "why": error.message})
                outcome.later.append(intent.id)
                continue
            else:
                _settle(self._database, self._cell, [(intent.id, record)])
            outcome.over.append(intent.id)


@retried
def _save_refusals(database: Database, refused: dict[str, dict[str, Refusal]]) -> None:
    with database.write() as connection:
        for intent_id, refusals in refused.items():
            intents.save_refusals(connection, intent_id, refusals)


@retried
def _record(
    database: Database, held: Sequence[Intent], cell: str, holds: dict[str, int], running: Collection[str]
) -> tuple[dict[str, int], set[str]]:
    """Record the placements that are this cell's now, and return them; and the intents that it may not have, because
    others of their group, which are to stay together, are in another cell."""
    together = {
        intent.id: group.id
        for intent in held
        if intent.id not in running and (group := intent.group) is not None and group.policy == AFFINITY
    }
    with database.write() as connection:
        owners = server_groups.list_cells(connection, set(together.values()), lock=True) if together else {}
        apart = {intent_id for intent_id, group_id in together.items() if owners.get(group_id, set()) - {cell}}
        ids = [intent.id for intent in held if intent.id not in apart]
        return intents.record_placements(connection, ids, cell, holds=holds) if ids else {}, apart


@retried
def _close(database: Database, intent: Intent) -> None:
    with database.write() as connection:
        intents.finish_pending(connection, intent.id, IntentState.CANCELLED)
        server_index.mark_deleted(connection, [intent.server_id])


@retried
def _reopen(database: Database, intent: Intent, answer: ConfirmAnswer) -> bool:
    refusal = Refusal(outcome="gone", reason="The placement expired before it was confirmed.")
    if answer.reason:
        refusal = Refusal(outcome="refused", reason=answer.reason, detail=answer.detail)
    with database.write() as connection:
        return intents.reopen(connection, intent, refusal)


@retried
def _settle(database: Database, cell: str, answers: Sequence[tuple[str, ServerRecord | None]]) -> None:
    with database.write() as connection:
        intents.settle(connection, [intent_id for intent_id, _ in answers], cell)
        server_index.upsert(connection, [replace(record, cell=cell) for _, record in answers if record is not None])


@retried
def _settle_deleted(database: Database, gone: Sequence[Intent]) -> None:
    with database.write() as connection:
        intents.settle(connection, [intent.id for intent in gone])
        server_index.mark_deleted(connection, [intent.server_id for intent in gone])


def _with_user_data(database: Database, specs: Sequence[ServerSpec]) -> list[ServerSpec]:
    if not any(spec.user_data_id or spec.hints_id or spec.admin_pass_id for spec in specs):
        return list(specs)
    with database.read() as connection:
        return user_data.attach(connection, user_data.TOP, specs, passwords=True)


def _request(intent: Intent) -> DeleteRequest:
    who = RequestContext.from_wire(intent.context)
    return DeleteRequest(
        server_id=intent.server_id, request_id=who.request_id, user_id=who.user_id, project_id=who.project_id
    )
