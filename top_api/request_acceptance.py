"""Accepting servers and their deletes for good: one transaction counts the quota, writes the index's rows and one
intent for each.

Requests that come together share it.
"""

from __future__ import annotations

import datetime as dt
import functools
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec

from cellcloud.batching import Batcher
from cellcloud.config import Config
from cellcloud.context import RequestContext
from cellcloud.db import idempotency, intents, quotas, server_groups, server_index, user_data, user_quotas
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.db.idempotency import KeptAnswer
from cellcloud.model.intent import Intent, IntentKind, IntentState
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.server_states import TaskState, VmState
from top_api import quota_limits

MEMBERS = "server_group_members"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateResult:
    """What the request is answered with; kept under the client's key, but for the password."""

    server_ids: tuple[str, ...]
    reservation_id: str
    security_groups: tuple[str, ...]
    disk_config: str
    admin_pass: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """How many servers of which kind: ``spec`` is the first one's, without an id."""

    spec: ServerSpec
    min_count: int
    max_count: int


class KeyTaken(Exception):
    """Another request with the same key was first."""


class _OverQuota(Exception):
    """A limit would be exceeded; rolls the transaction back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    context: RequestContext
    wanted: CreateRequest
    key: str | None
    body_hash: str


class Admission:
    """Accepts the requests of all threads of an API process; their intents are leased to ``owner``."""

    def __init__(self, database: Database, config: Config, owner: str) -> None:
        self._database = database
        self._config = config
        self._accept: Batcher[_Request, tuple[CreateResult, list[Intent]]] = Batcher(
            functools.partial(_accept_all, database, config, owner), name="creates"
        )
        self._delete: Batcher[tuple[RequestContext, str, bool], Intent | None] = Batcher(
            functools.partial(_delete_all, database, config, owner), name="deletes"
        )

    def delete(self, context: RequestContext, server_id: str, *, soft: bool = False) -> Intent | None:
        """Return the intent to dispatch; None when the server is gone already, or another request carries it. ``soft``:
        a server that has run can be restored for a while."""
        return self._delete((context, server_id, soft))

    def accept(
        self, context: RequestContext, wanted: CreateRequest, *, key: str | None = None, body_hash: str = ""
    ) -> tuple[CreateResult, list[Intent]]:
        """Return what to answer, and the intents to dispatch. Raises QuotaExceeded, KeyTaken.

        Between the smallest and the largest number asked for, others may take the room meanwhile: it is counted anew
        then.
        """
        request = _Request(context=context, wanted=wanted, key=key, body_hash=body_hash)
        try:
            for _ in range(3 if wanted.min_count < wanted.max_count else 0):
                with suppress(_OverQuota):
                    return self._accept(request)
            return self._accept(request)
        except _OverQuota:
            cost = quotas.cost_of(wanted.spec.flavor, wanted.min_count)
            who = (context.project_id, context.user_id, self._config.quota)
            with self._database.read() as connection:
                raise quota_limits.refusal(connection, *who, cost) from None


@retried
def _accept_all(
    database: Database, config: Config, owner: str, requests: Sequence[_Request]
) -> list[tuple[CreateResult, list[Intent]]]:
    """Accept requests in one transaction. The quota comes last: its rows stay locked until the commit, and all requests
    of a project meet there; projects in their order."""
    projects = sorted({request.context.project_id for request in requests})
    costs: dict[str, Counter[str]] = {project_id: Counter() for project_id in projects}
    of_users: dict[tuple[str, str], Counter[str]] = {}
    members: Counter[tuple[str, str]] = Counter()
    done: list[tuple[CreateResult, list[Intent]]] = []
    with database.write() as connection:
        now = server_index.current_time(connection)
        limits = {project_id: _limits(connection, project_id, config) for project_id in projects}
        for request in requests:
            project_id, wanted = request.context.project_id, request.wanted
            count = _how_many(connection, request, config)
            (spec,) = user_data.keep(connection, user_data.TOP, [wanted.spec], fields=True)
            records = [_record(spec, now) for spec in _numbered(spec, count, now)]
            accepted = CreateResult(
                server_ids=tuple(record.id for record in records),
                reservation_id=wanted.spec.reservation_id,
                security_groups=wanted.spec.security_groups,
                disk_config=wanted.spec.disk_config,
            )
            if request.key is not None:
                kept = KeptAnswer(body_hash=request.body_hash, answer=msgspec.to_builtins(accepted))
                if not idempotency.keep_answer(connection, project_id, request.key, kept):
                    raise KeyTaken
            cost = quotas.cost_of(wanted.spec.flavor, count)
            costs[project_id].update(cost)
            of_users.setdefault((project_id, request.context.user_id), Counter()).update(cost)
            if spec.group is not None:
                members[spec.group.id, request.context.user_id] += count
            made = [intents.make_intent(IntentKind.CREATE, r.id, request.context, record=r) for r in records]
            done.append((accepted, made))
        _check_groups(connection, config, requests, members)
        written = [intent for _, made in done for intent in made]
        server_index.insert_records(connection, [intent.record for intent in written if intent.record is not None])
        lease, deadline = config.top.intent_lease, config.top.intent_deadline
        intents.add_intents(connection, written, owner=owner, lease=lease, deadline=deadline, now=now)
        for project_id in projects:
            if not quotas.reserve(connection, project_id, costs[project_id], limits[project_id]):
                raise _OverQuota
        for (project_id, user_id), cost in sorted(of_users.items()):
            if not user_quotas.count(connection, project_id, user_id, cost):
                raise _OverQuota
    return done


@retried
def _delete_all(
    database: Database, config: Config, owner: str, requests: Sequence[tuple[RequestContext, str, bool]]
) -> list[Intent | None]:
    """Accept some deletes in one transaction. A create that no cell has taken yet is cancelled, and its server is
    gone."""
    contexts = {server_id: context for context, server_id, _ in requests}
    hard = {server_id for _, server_id, soft in requests if not soft}
    with database.write() as connection:
        creates = intents.stop_creates(connection, contexts)
        records = server_index.lock_records(connection, contexts)
        gone = {each.id for each in records.values() if not each.cell and creates.get(each.id) != IntentState.RECORDED}
        server_index.mark_deleted(connection, gone)
        left = {each.id: each for each in records.values() if each.id not in gone}
        kept = {each.id for each in left.values() if each.launched_at is not None} - hard
        resting = {server_id for server_id in kept if left[server_id].is_soft_deleted}
        made: dict[str, Intent] = {}
        for kind, task_state, ids in (
            (IntentKind.DELETE, TaskState.DELETING, left.keys() - kept),
            (IntentKind.SOFT_DELETE, TaskState.SOFT_DELETING, kept - resting),
        ):
            wanted = [intents.make_intent(kind, i, contexts[i], cell=left[i].cell) for i in sorted(ids)]
            for one in intents.ensure_deletes(
                connection, wanted, owner=owner, lease=config.top.intent_lease, deadline=config.top.intent_deadline
            ):
                made[one.server_id] = one
            server_index.mark_tasks(connection, [left[i] for i in sorted(ids)], task_state)
    return [made.pop(server_id, None) for _, server_id, _ in requests]


def _check_groups(
    connection: Connection, config: Config, requests: Sequence[_Request], members: Counter[tuple[str, str]]
) -> None:
    """Check the groups that new servers are to join. Raises Invalid where one is gone, QuotaExceeded where one would
    have too many servers of a user."""
    most = {
        (group_id, user_id): quota_limits.limits_of_user(connection, project_id, user_id, config.quota)[MEMBERS]
        for group_id, user_id, project_id in {
            (one.wanted.spec.group.id, one.context.user_id, one.context.project_id)
            for one in requests
            if one.wanted.spec.group is not None
        }
    }
    server_groups.check_members(connection, members, most)


def _limits(connection: Connection, project_id: str, config: Config) -> dict[str, int]:
    return quota_limits.limits_of(connection, project_id, config.quota)


def _scopes(connection: Connection, context: RequestContext, config: Config) -> list[quota_limits.QuotaScope]:
    return quota_limits.scopes_of(connection, context.project_id, context.user_id, config.quota)


def _how_many(connection: Connection, request: _Request, config: Config) -> int:
    """As many servers as fit now, at least the minimum."""
    wanted = request.wanted
    if wanted.min_count == wanted.max_count:
        return wanted.max_count
    cost = quotas.cost_of(wanted.spec.flavor)
    rooms = [scope.how_many_fit(cost) for scope in _scopes(connection, request.context, config)]
    return max(wanted.min_count, min([wanted.max_count, *(room for room in rooms if room is not None)]))


def _record(spec: ServerSpec, now: dt.datetime) -> ServerRecord:
    return ServerRecord(
        spec=spec,
        version=0,
        generation=0,
        vm_state=VmState.BUILDING,
        task_state=TaskState.SCHEDULING,
        created_at=now,
        updated_at=now,
    )


def _numbered(spec: ServerSpec, count: int, now: dt.datetime) -> list[ServerSpec]:
    """``count`` specs; several get numbers behind their names, as Nova does."""
    found = []
    for place in range(count):
        server_id = str(uuid.uuid4())
        suffix = f"-{place + 1}" if count > 1 else ""
        found.append(
            replace(
                spec,
                id=server_id,
                name=spec.name[: 255 - len(suffix)] + suffix,
                hostname=(spec.hostname[: 63 - len(suffix)].rstrip("-.") or f"Server-{server_id}") + suffix
                if spec.hostname
                else f"Server-{server_id}",
                launch_index=place,
                created_at=now,
            )
        )
    return found
