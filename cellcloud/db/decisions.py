"""What schedulers chose for whom, and all it was chosen from: enough to explain a decision and to make it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db import bulk
from cellcloud.db.cell_schema import decision_batches, decision_requests, decisions, servers
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.model import codec
from cellcloud.model.decision import Basis, Decision, DecisionBatch, ShadowSummary
from cellcloud.safe_regex import Pattern

EXAMPLES = 20
PRUNED_AT_ONCE = 200
_DECISION = Pattern(r"([0-9a-f]{1,16})-([0-9]{1,6})")
_INSERT = sa.insert(decision_batches).values(at=utc_now())


@dataclass(frozen=True, slots=True)
class _Basis:
    basis: Basis


@dataclass(frozen=True, slots=True)
class _Based:
    """What is read of a batch when only its basis is wanted."""

    answer: _Basis


def insert(connection: Connection, batch: DecisionBatch, noted: Sequence[str] = ()) -> None:
    """Store a batch, compressed, and rows that lead to it: of its requests, and of servers whose records do not name
    it."""
    number = batch.answer.batch
    connection.execute(_INSERT, {"id": number, "sequence": batch.answer.basis.sequence, "record": codec.pack(batch)})
    written = str(number)  # which every database reads as a number
    bulk.insert(connection, decisions, ("server_id", "batch"), [(each, written) for each in noted])
    bulk.insert(connection, decision_requests, ("request_id", "batch"), [(each, written) for each in batch.requests])


def keep_last(connection: Connection, server_id: str) -> None:
    """Keep the decision a server's row names, before a later one takes its place there."""
    last = sa.select(servers.c.id, servers.c.decision).where(servers.c.id == server_id, servers.c.decision.is_not(None))
    connection.execute(sa.insert(decisions).from_select(["server_id", "batch"], last))


def list_of(connection: Connection, server_id: str) -> list[Decision]:
    """Return the decisions about a server, oldest first."""
    lost = connection.execute(sa.select(decisions.c.batch).where(decisions.c.server_id == server_id)).scalars()
    won = connection.execute(sa.select(servers.c.decision).where(servers.c.id == server_id)).scalars()
    numbers = {number for number in (*lost, *won) if number is not None}
    return [one for one in _of_batches(connection, sorted(numbers)) if one.server_id == server_id]


def find(connection: Connection, key: str) -> list[Decision]:
    """Decisions by server id, request id or decision id, oldest first; [] when there are none."""
    if key.startswith("req-"):
        numbers = sa.select(decision_requests.c.batch).where(decision_requests.c.request_id == key)
        made = _of_batches(connection, list(connection.execute(numbers).scalars()))
        return [decision for decision in made if decision.request_id == key]
    named = _DECISION.groups(key)
    if named is not None:
        made = _of_batches(connection, [int(named[0], 16)])
        return [decision for decision in made if decision.position == int(named[1])]
    return list_of(connection, key)


def list_batches(connection: Connection, numbers: list[int]) -> list[DecisionBatch]:
    """Whole batches by their numbers; unknown ones are left out."""
    rows = connection.execute(sa.select(decision_batches.c.record).where(decision_batches.c.id.in_(numbers)))
    return [codec.unpack(row.record, DecisionBatch) for row in rows]


def _of_batches(connection: Connection, numbers: list[int]) -> list[Decision]:
    rows = connection.execute(sa.select(decision_batches).where(decision_batches.c.id.in_(numbers))).all()
    made = []
    for row in rows:
        batch: DecisionBatch = codec.unpack(row.record, DecisionBatch)
        made += [
            Decision(
                id=f"{row.id:x}-{place}",
                server_id=batch.asked.server_of(claim_id),
                position=place,
                at=row.at,
                batch=batch,
            )
            for place, (claim_id, _, _) in enumerate(batch.asked.servers)
        ]
    return sorted(made, key=lambda decision: (decision.at, decision.position))


def list_recent(connection: Connection, limit: int) -> list[Decision]:
    """Decisions of the newest ``limit`` batches, oldest first."""
    newest = sa.select(decision_batches.c.id).order_by(decision_batches.c.at.desc()).limit(limit)
    return _of_batches(connection, list(connection.execute(newest).scalars()))


def list_bases(connection: Connection, limit: int) -> list[Basis]:
    """Return what the newest batches were chosen from, newest first."""
    records = sa.select(decision_batches.c.record).order_by(decision_batches.c.at.desc()).limit(limit)
    found: list[_Based] = [codec.unpack(each, _Based) for each in connection.execute(records).scalars()]
    return [one.answer.basis for one in found]


def summarise_shadow(connection: Connection, version: int) -> ShadowSummary:
    """Return how many kept decisions were made with that shadow, and which of them it would have made otherwise."""
    count, differing, examples = 0, 0, []
    rows = connection.execute(sa.select(decision_batches).order_by(decision_batches.c.at.desc()).limit(10_000))
    for row in rows:
        batch: DecisionBatch = codec.unpack(row.record, DecisionBatch)
        if batch.answer.basis.shadow == version:
            count += len(batch.asked.servers)
            differing += len(batch.answer.shadowed)
            examples += [f"{row.id:x}-{place}" for place in batch.answer.shadowed]
    return ShadowSummary(version=version, decisions=count, differing=differing, examples=tuple(examples[:EXAMPLES]))


def prune(connection: Connection, seconds: float) -> int:
    """Forget what is older than that, some at a time; returns how many batches went."""
    old = sa.select(decision_batches.c.id, decision_batches.c.record).where(decision_batches.c.at < utc_after(-seconds))
    rows = connection.execute(old.limit(PRUNED_AT_ONCE)).all()
    for row in rows:
        batch: DecisionBatch = codec.unpack(row.record, DecisionBatch)
        ids = [batch.asked.server_of(claim_id) for claim_id, _, _ in batch.asked.servers]
        connection.execute(sa.delete(decisions).where(decisions.c.server_id.in_(ids), decisions.c.batch == row.id))
        mine = decision_requests.c.request_id.in_(batch.requests)
        connection.execute(sa.delete(decision_requests).where(mine, decision_requests.c.batch == row.id))
    if rows:
        connection.execute(sa.delete(decision_batches).where(decision_batches.c.id.in_([row.id for row in rows])))
    return len(rows)
