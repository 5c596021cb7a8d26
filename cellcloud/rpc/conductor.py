"""The conductor's verbs: the only way to a cell's database. Many at once wherever many may come."""

from __future__ import annotations

from typing import Protocol

from cellcloud.context import RequestContext
from cellcloud.model.cell import FeedPage, Finding
from cellcloud.model.console import ConsoleBinding
from cellcloud.model.external_event import ExternalEvent
from cellcloud.model.guest_commands import ExpectedGuest, GuestEvent, GuestOrders
from cellcloud.model.guest_questions import GuestDiagnostics, GuestQuestion
from cellcloud.model.host import HeldNames, Host, HostMachine, HostReport, HostState, ServiceRecord
from cellcloud.model.observed_guests import GuestState, UnknownGuest
from cellcloud.model.operations import Operation
from cellcloud.model.placement_messages import CellDigest, ConfirmAnswer, DeleteAnswer, DeleteRequest, ReserveAnswer
from cellcloud.model.run import RunRecord, TimelineEntry
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.model.tag_metadata_changes import ItemChanges
from cellcloud.rpc.accounts import Role
from cellcloud.rpc.interface import call, cast, served_by

HOSTS = (Role.HOST,)


@served_by(Role.CONDUCTOR, callers=(Role.TOP,))
class Conductor(Protocol):
    # ---- from the top cell -------------------------------------------------------------------------------------
    @call(timeout=15.0)
    def reserve(self, context: RequestContext, specs: list[ServerSpec]) -> list[ReserveAnswer]:
        """Schedule, claim and hold each server; idempotent by server id. Answers that do not fit are left out."""
        ...

    @call(timeout=10.0)
    def confirm(
        self,
        context: RequestContext,
        server_ids: list[str],
        holds: dict[str, int] | None = None,
        placements: dict[str, int] | None = None,
    ) -> list[ConfirmAnswer]:
        """Turn held servers into runs; idempotent. ``holds``: server -> version at which it was held, where not 1; one
        held anew since is left alone, so that a confirm that was long on its way starts nothing. ``placements``:
        server -> number of its placement, where not 0. Answers that do not fit into a message are left out: ask again.
        """
        ...

    @call(timeout=10.0)
    def release(self, context: RequestContext, server_ids: list[str]) -> None:
        """Give up held servers at once; servers that are not held are left alone."""
        ...

    @call(timeout=8.0)
    def begin_operation(
        self, context: RequestContext, server_id: str, operation: Operation, arguments: dict[str, object]
    ) -> ServerRecord:
        """Begin a run. Raises NotFound, Conflict (with the reason). DELETE preempts and is idempotent.

        ``arguments``: of REBOOT, ``type``: "SOFT" or "HARD"; of DELETE, ``keep_ports``: whether the server's ports
        stay, because another cell has it.
        """
        ...

    @call(timeout=10.0)
    def begin_deletes(self, context: RequestContext, requests: list[DeleteRequest]) -> list[DeleteAnswer]:
        """Begin to delete many servers, each for whoever asked; it preempts and is idempotent. Answers that do not fit
        into a message are left out: ask again."""
        ...

    @call(timeout=8.0)
    def update_server(self, context: RequestContext, server_id: str, changes: dict[str, object]) -> ServerRecord:
        """Set whole values, no run: name, description, hostname, metadata, tags, access_ip_v4, access_ip_v6,
        disk_config, what says of a lock, which volumes are deleted with it (``delete_on_termination``: volume ->
        whether), and the number of the placement, which only grows. Raises NotFound, Stale. ``vm_state`` stands alone:
        the server's state is reset to it. Raises Conflict where that would lose or double something."""
        ...

    @call(timeout=8.0)
    def change_items(self, context: RequestContext, server_id: str, changes: ItemChanges) -> ServerRecord:
        """Add single tags and metadata or take them away, whatever others do meanwhile.

        Raises NotFound for what is not there, Invalid and QuotaExceeded where there would be too many.
        """
        ...

    @call(timeout=10.0)
    def apply_external_events(self, context: RequestContext, events: list[ExternalEvent]) -> list[int]:
        """Have done what other services' events are about; a status of Nova's for each. Idempotent. Raises TryLater
        where the network service does not answer."""
        ...

    @call(timeout=5.0)
    def list_feed(self, context: RequestContext, after: int, limit: int) -> FeedPage: ...

    @call(timeout=30.0)
    def begin_incarnation(self, context: RequestContext, known: str, reason: str) -> str:
        """Begin anew after the cell's database has fallen back: let its versions, generations and sequences leap above
        all that was seen before, unless its incarnation is not ``known`` any more. Return the present one."""
        ...

    @call(timeout=10.0)
    def list_versions(self, context: RequestContext, after_id: str, limit: int) -> list[tuple[str, int]]:
        """(server id, version) of servers not deleted, by id: what a resync compares."""
        ...

    @call(timeout=10.0, by=(Role.TOP, Role.SCHEDULER))
    def get_servers(self, context: RequestContext, server_ids: list[str], partly: bool = False) -> list[ServerRecord]:
        """Return records, deleted ones too; unknown ids are left out. ``partly``: no more of them than fit into a
        message, and at least one, so that the caller asks again for those it was not given."""
        ...

    @call(timeout=10.0, since=1)
    def get_user_data(self, context: RequestContext, ids: list[str]) -> list[tuple[str, str]]:
        """(id, text) of user data that servers have, by the ids in their specs; unknown ids are left out. No more than
        fit into a message: ask again for those that were not given."""
        ...

    @call(timeout=5.0)
    def get_digest(self, context: RequestContext) -> CellDigest: ...

    @call(timeout=5.0, pages=("host",))
    def list_hosts(self, context: RequestContext) -> list[Host]: ...

    @call(timeout=5.0, pages=("binary", "host"))
    def list_services(self, context: RequestContext) -> list[ServiceRecord]: ...

    @call(timeout=5.0)
    def set_service(
        self,
        context: RequestContext,
        host: str,
        enabled: bool | None,
        disabled_reason: str | None,
        forced_down: bool | None,
    ) -> ServiceRecord:
        """Enable, disable or force down a compute service; None leaves a value."""
        ...

    @call(timeout=5.0, pages=("-created_at", "id"))
    def list_runs(self, context: RequestContext, server_id: str | None, unfinished: bool) -> list[RunRecord]:
        """Newest first; also the source of os-instance-actions."""
        ...

    @call(timeout=5.0)
    def get_run(self, context: RequestContext, run_id: str) -> RunRecord:
        """By run id or request id, with its steps."""
        ...

    @call(timeout=5.0, pages=("at", "kind", "text", "request_id"))
    def get_timeline(self, context: RequestContext, server_id: str) -> list[TimelineEntry]: ...

    @call(timeout=30.0, pages=("check", "subject", "text"))
    def check_books(self, context: RequestContext) -> list[Finding]:
        """Claims against usage, runs past their time, holds past theirs, hosts against records."""
        ...

    # ---- from operators ----------------------------------------------------------------------------------------
    @call(timeout=5.0, pages=("host", "server_id"))
    def list_unknown_guests(self, context: RequestContext, host: str | None) -> list[UnknownGuest]:
        """Guests that no record accounts for, of one host or all, as the hosts last told."""
        ...

    @call(timeout=10.0)
    def adopt_guest(self, context: RequestContext, host: str, server_id: str) -> ServerRecord:
        """Make a record for such a guest from what its host was told of it. Raises NotFound, Conflict (no room, or a
        record that is newer), Unreachable."""
        ...

    @call(timeout=5.0)
    def remove_host(self, context: RequestContext, host: str, force: bool) -> None:
        """Forget a host that is gone for good. Raises NotFound; Conflict while it has servers, or, unless ``force``,
        while it is up or has guests that no record accounts for."""
        ...

    @call(timeout=5.0)
    def remove_service(self, context: RequestContext, service_id: str) -> None:
        """Forget a service that is no host's; one that lives reports again. Raises NotFound."""
        ...

    @call(timeout=5.0)
    def release_name(self, context: RequestContext, host: str) -> None:
        """Let another machine have a host's name. Raises NotFound; Conflict while its machine lives."""
        ...

    @call(timeout=10.0)
    def remove_guest(self, context: RequestContext, host: str, server_id: str) -> None:
        """Have such a guest destroyed with its disks, now or when its host returns. Raises NotFound."""
        ...

    @call(timeout=10.0)
    def get_console_output(self, context: RequestContext, server_id: str, length: int) -> str: ...

    @call(timeout=20.0, since=1)
    def ask_guest(self, context: RequestContext, server_id: str, question: GuestQuestion) -> GuestDiagnostics | None:
        """Ask a server's guest, or tell it something, at once. Raises NotFound; Conflict in a wrong state;
        NotSupported; GuestFailed."""
        ...

    # ---- from hosts --------------------------------------------------------------------------------------------
    @call(timeout=5.0, by=HOSTS, about="hosts")
    def hold_names(self, context: RequestContext, hosts: list[str], machine: HostMachine) -> HeldNames:
        """Take or renew the names of a machine's hosts: nobody else acts under them meanwhile."""
        ...

    @call(timeout=10.0, by=HOSTS, about="reports")
    def report_hosts(self, context: RequestContext, reports: list[HostReport]) -> None:
        """Registration and heartbeat."""
        ...

    @call(timeout=10.0, by=HOSTS, about="events")
    def report_events(self, context: RequestContext, events: list[GuestEvent]) -> None:
        """Outcomes of commands and changes of guests; idempotent, stale ones are dropped."""
        ...

    @call(timeout=10.0, by=HOSTS, about="host")
    def compare_guests(self, context: RequestContext, host: str, guests: list[GuestState]) -> GuestOrders:
        """Return what the host should hold, told against all that it does hold. Guests that no record accounts for are
        kept in mind for operators."""
        ...

    @call(timeout=10.0, by=HOSTS, about="host", pages=("server_id",))
    def list_expected_guests(self, context: RequestContext, host: str) -> list[ExpectedGuest]: ...

    # ---- from the cell's other services ------------------------------------------------------------------------
    @call(timeout=10.0, by=(Role.SCHEDULER, Role.CONSOLEAUTH), pages=("host", "node"))
    def list_host_states(self, context: RequestContext) -> list[HostState]: ...

    @cast(by=(Role.SCHEDULER, Role.CONSOLEAUTH, Role.METADATA, Role.VOLUME))
    def heartbeat(self, context: RequestContext, binary: str, host: str) -> None: ...

    @call(timeout=5.0, by=(Role.CONSOLEAUTH,))
    def save_console_token(
        self, context: RequestContext, server_id: str, token_hash: str, protocol: str, ttl: int
    ) -> ConsoleBinding:
        """Bind a token to the server as it is now. Raises NotFound, Conflict (not active)."""
        ...

    @call(timeout=5.0, by=(Role.CONSOLEAUTH,))
    def redeem_console_token(self, context: RequestContext, token_hash: str, use: bool = True) -> ConsoleBinding:
        """Use a token up, or only look what it opens. Raises NotFound for one unknown, used, expired, or of an older
        generation."""
        ...

    @call(timeout=5.0, by=(Role.CONSOLEAUTH,))
    def check_console(self, context: RequestContext, server_id: str, generation: int) -> bool:
        """Return whether a console opened at that generation may stay open."""
        ...

    @call(timeout=5.0, by=(Role.METADATA,))
    def find_server_on(
        self, context: RequestContext, host: str, server_id: str, posted_password: str = ""
    ) -> ServerRecord | None:
        """Return the server, if it is on that host and not deleted: what the metadata service answers from.
        ``posted_password``: by its guest, kept with it where there is none."""
        ...
