"""The one table of what can be done to a server. Routes, policy, conductor, steps, views and tests read it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cellcloud import errors
from cellcloud.model import guest_commands
from cellcloud.model.server import ServerRecord
from cellcloud.server_states import PowerState, TaskState, VmState


class Operation(StrEnum):
    """What a user asks for. Values are Nova's instance-action names."""

    CREATE = "create"
    DELETE = "delete"
    START = "start"
    STOP = "stop"
    REBOOT = "reboot"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    SUSPEND = "suspend"
    RESUME = "resume"
    CREATE_IMAGE = "createImage"
    CREATE_BACKUP = "createBackup"
    SOFT_DELETE = "soft_delete"
    RESTORE = "restore"
    RESIZE = "resize"
    MIGRATE = "migrate"
    CONFIRM_RESIZE = "confirmResize"
    REVERT_RESIZE = "revertResize"
    REBUILD = "rebuild"
    RESCUE = "rescue"
    UNRESCUE = "unrescue"
    SHELVE = "shelve"
    SHELVE_OFFLOAD = "shelveOffload"
    UNSHELVE = "unshelve"
    ATTACH_VOLUME = "attach_volume"
    DETACH_VOLUME = "detach_volume"
    EXTEND_VOLUME = "extend_volume"
    ATTACH_INTERFACE = "attach_interface"
    DETACH_INTERFACE = "detach_interface"


class ImmediateAction(StrEnum):
    """What is done to a server at once, without a run, and recorded. Values are Nova's instance-action names."""

    RESET_STATE = "resetState"
    CHANGE_PASSWORD = "changePassword"  # noqa: S105 -- a name
    TRIGGER_CRASH_DUMP = "trigger_crash_dump"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSpec:
    """An operation, or one variant of it.

    ``variant``: the ``type`` that its arguments name; "" where there is only one. ``action``: its key in the body of
    POST /servers/{id}/action; "" for one with a route of its own. ``policy``: Nova's rule, and ``summary`` what it lets
    do. ``starts_from``: vm states; it starts only while no other is under way, unless it ``preempts``, ``waits`` for
    the other's end, or ``overtakes`` one of that task state. ``task_state``: from its beginning; steps may show their
    own; None: none is shown. ``command``: what the host is told. ``vm_state``, ``power_state``: in which the server
    rests afterwards; None: in those that it had. ``event``: Nova's name in a server's actions. ``moves``: it gives the
    server a host, the first or another. ``asks_host``: whether a server without a host is told so before its state is
    looked at.
    """

    operation: Operation
    variant: str = ""
    action: str = ""
    policy: str
    summary: str
    starts_from: frozenset[VmState]
    preempts: bool = False
    waits: bool = False
    overtakes: frozenset[TaskState] = frozenset()
    task_state: TaskState | None
    command: type[guest_commands.GuestCommand]
    vm_state: VmState | None
    power_state: PowerState | None
    event: str
    moves: bool = False
    asks_host: bool = False

    def refusal(self, record: ServerRecord) -> str:
        """Say as Nova does why it may not begin now; "" where the record has nothing against it."""
        if self.asks_host and record.host is None:
            return f"Instance {record.id} is not ready"
        what = f"Cannot '{self.operation}' instance {record.id} while it is in"
        if record.held or record.vm_state not in self.starts_from:
            return f"{what} vm_state {record.vm_state}"
        if record.task_state is not None and not (self.preempts or self.waits or record.task_state in self.overtakes):
            return f"{what} task_state {record.task_state}"
        if record.host is None and record.vm_state != VmState.SHELVED_OFFLOADED and not self.preempts:
            return f"Instance {record.id} is in an invalid state for '{self.operation}'"
        return ""


ANY_STATE = frozenset(VmState) - {VmState.DELETED}
IMAGED_FROM = frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED})
WITH_VOLUMES_CHANGED = frozenset(
    {
        VmState.ACTIVE,
        VmState.PAUSED,
        VmState.STOPPED,
        VmState.RESIZED,
        VmState.SOFT_DELETED,
        VmState.SHELVED,
        VmState.SHELVED_OFFLOADED,
    }
)
WITH_PORTS_CHANGED = frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.STOPPED})
ONCE_BUILT = ANY_STATE - {VmState.BUILDING, VmState.SOFT_DELETED}

TABLE = (
    OperationSpec(
        operation=Operation.CREATE,
        policy="servers:create",
        summary="Create servers.",
        starts_from=frozenset(),  # there is no server yet
        task_state=TaskState.SCHEDULING,
        command=guest_commands.Spawn,
        vm_state=VmState.ACTIVE,
        power_state=PowerState.RUNNING,
        event="compute__do_build_and_run_instance",
        moves=True,
    ),
    OperationSpec(
        operation=Operation.DELETE,
        policy="servers:delete",
        summary="Delete a server.",
        starts_from=ANY_STATE,
        preempts=True,
        task_state=TaskState.DELETING,
        command=guest_commands.Destroy,
        vm_state=VmState.DELETED,
        power_state=PowerState.NOSTATE,
        event="compute_terminate_instance",
    ),
    OperationSpec(
        operation=Operation.START,
        action="os-start",
        policy="servers:start",
        summary="Start a server.",
        starts_from=frozenset({VmState.STOPPED}),
        task_state=TaskState.POWERING_ON,
        command=guest_commands.Start,
        vm_state=VmState.ACTIVE,
        power_state=PowerState.RUNNING,
        asks_host=True,
        event="compute_start_instance",
    ),
    OperationSpec(
        operation=Operation.STOP,
        action="os-stop",
        policy="servers:stop",
        summary="Stop a server.",
        starts_from=frozenset({VmState.ACTIVE, VmState.ERROR}),
        task_state=TaskState.POWERING_OFF,
        command=guest_commands.Stop,
        vm_state=VmState.STOPPED,
        power_state=PowerState.SHUTDOWN,
        asks_host=True,
        event="compute_stop_instance",
    ),
    OperationSpec(
        operation=Operation.REBOOT,
        variant="SOFT",
        action="reboot",
        policy="servers:reboot",
        summary="Reboot a server.",
        starts_from=frozenset({VmState.ACTIVE}),
        task_state=TaskState.REBOOTING,
        command=guest_commands.RebootSoft,
        vm_state=VmState.ACTIVE,
        power_state=PowerState.RUNNING,
        event="compute_reboot_instance",
    ),
    OperationSpec(
        operation=Operation.REBOOT,
        variant="HARD",
        action="reboot",
        policy="servers:reboot",
        summary="Reboot a server.",
        starts_from=frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED, VmState.ERROR}),
        overtakes=frozenset(
            {
                TaskState.REBOOTING,
                TaskState.REBOOTING_HARD,
                TaskState.PAUSING,
                TaskState.UNPAUSING,
                TaskState.SUSPENDING,
                TaskState.RESUMING,
            }
        ),
        task_state=TaskState.REBOOTING_HARD,
        command=guest_commands.RebootHard,
        vm_state=VmState.ACTIVE,
        power_state=PowerState.RUNNING,
        event="compute_reboot_instance",
    ),
    OperationSpec(
        operation=Operation.PAUSE,
        action="pause",
        policy="os-pause-server:pause",
        summary="Pause a server.",
        starts_from=frozenset({VmState.ACTIVE}),
        task_state=TaskState.PAUSING,
        command=guest_commands.Pause,
        vm_state=VmState.PAUSED,
        power_state=PowerState.PAUSED,
        event="compute_pause_instance",
    ),
    OperationSpec(
        operation=Operation.UNPAUSE,
        action="unpause",
        policy="os-pause-server:unpause",
        summary="Unpause a paused server.",
        starts_from=frozenset({VmState.PAUSED}),
        task_state=TaskState.UNPAUSING,
        command=guest_commands.Unpause,
        vm_state=VmState.ACTIVE,
        power_state=PowerState.RUNNING,
        event="compute_unpause_instance",
    ),
    OperationSpec(
        operation=Operation.SUSPEND,
        action="suspend",
        policy="os-suspend-server:suspend",
        summary="Suspend a server.",
        starts_from=frozenset({VmState.ACTIVE}),
        task_state=TaskState.SUSPENDING,
        command=guest_commands.Suspend,
        vm_state=VmState.SUSPENDED,
        power_state=PowerState.SUSPENDED,
        event="compute_suspend_instance",
    ),
    OperationSpec(
        operation=Operation.RESUME,
        action="resume",
        policy="os-suspend-server:resume",
        summary="Resume a suspended server.",
        starts_from=frozenset({VmState.SUSPENDED}),
        task_state=TaskState.RESUMING,
        command=guest_commands.Resume,
        vm_state=VmState.ACTIVE,
        power_state=PowerState.RUNNING,
        event="compute_resume_instance",
    ),
    OperationSpec(
        operation=Operation.CREATE_IMAGE,
        action="createImage",
        policy="servers:create_image",
        summary="Make an image of a server.",
        starts_from=IMAGED_FROM,
        task_state=TaskState.IMAGE_SNAPSHOT_PENDING,
        command=guest_commands.Snapshot,
        vm_state=None,
        power_state=None,
        event="compute_snapshot_instance",
    ),
    OperationSpec(
        operation=Operation.CREATE_BACKUP,
        action="createBackup",
        policy="os-create-backup",
        summary="Make an image of a server, and delete its oldest ones.",
        starts_from=IMAGED_FROM,
        task_state=TaskState.IMAGE_BACKUP,
        command=guest_commands.Snapshot,
        vm_state=None,
        power_state=None,
        event="compute_backup_instance",
    ),
    OperationSpec(
        operation=Operation.SOFT_DELETE,
        policy="servers:delete",
        summary="Delete a server.",
        starts_from=ONCE_BUILT,
        waits=True,
        task_state=TaskState.SOFT_DELETING,
        command=guest_commands.Stop,
        vm_state=VmState.SOFT_DELETED,
        power_state=PowerState.SHUTDOWN,
        event="compute_soft_delete_instance",
    ),
    OperationSpec(
        operation=Operation.RESTORE,
        action="restore",
        policy="os-deferred-delete:restore",
        summary="Restore a server that was deleted and is not reclaimed yet.",
        starts_from=frozenset({VmState.SOFT_DELETED}),
        task_state=TaskState.RESTORING,
        command=guest_commands.Start,
        vm_state=VmState.ACTIVE,
        power_state=PowerState.RUNNING,
        event="compute_restore_instance",
    ),
    OperationSpec(
        operation=Operation.RESIZE,
        action="resize",
        policy="servers:resize",
        summary="Resize a server.",
        starts_from=frozenset({VmState.ACTIVE, VmState.STOPPED}),
        task_state=TaskState.RESIZE_PREP,
        command=guest_commands.SetAside,
        vm_state=VmState.RESIZED,
        power_state=PowerState.RUNNING,
        event="compute_prep_resize",
        moves=True,
    ),
    OperationSpec(
        operation=Operation.MIGRATE,
        action="migrate",
        policy="os-migrate-server:migrate",
        summary="Migrate a server to another host, turned off meanwhile.",
        starts_from=frozenset({VmState.ACTIVE, VmState.STOPPED}),
        task_state=TaskState.RESIZE_PREP,
        command=guest_commands.SetAside,
        vm_state=VmState.RESIZED,
        power_state=PowerState.RUNNING,
        event="compute_prep_resize",
        moves=True,
    ),
    OperationSpec(
        operation=Operation.CONFIRM_RESIZE,
        action="confirmResize",
        policy="servers:confirm_resize",
        summary="Confirm a server's resize or migration.",
        starts_from=frozenset({VmState.RESIZED}),
        task_state=TaskState.RESIZE_CONFIRMING,
        command=guest_commands.Discard,
        vm_state=VmState.ACTIVE,
        power_state=PowerState.RUNNING,
        event="compute_confirm_resize",
    ),
    OperationSpec(
        operation=Operation.REVERT_RESIZE,
        action="revertResize",
        policy="servers:revert_resize",
        summary="Revert a server's resize or migration.",
        starts_from=frozenset({VmState.RESIZED}),
        task_state=TaskState.RESIZE_REVERTING,
        command=guest_commands.MoveBack,
        vm_state=VmState.ACTIVE,
        power_state=PowerState.RUNNING,
        event="compute_revert_resize",
    ),
    OperationSpec(
        operation=Operation.REBUILD,
        action="rebuild",
        policy="servers:rebuild",
        summary="Rebuild a server from an image.",
        starts_from=frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.ERROR}),
        task_state=TaskState.REBUILDING,
        command=guest_commands.Rebuild,
        vm_state=None,
        power_state=None,
        event="compute_rebuild_instance",
    ),
    OperationSpec(
        operation=Operation.RESCUE,
        action="rescue",
        policy="os-rescue",
        summary="Rescue a server.",
        starts_from=frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.ERROR}),
        task_state=TaskState.RESCUING,
        command=guest_commands.Rescue,
        vm_state=VmState.RESCUED,
        power_state=PowerState.RUNNING,
        event="compute_rescue_instance",
    ),
    OperationSpec(
        operation=Operation.UNRESCUE,
        action="unrescue",
        policy="os-unrescue",
        summary="Unrescue a server.",
        starts_from=frozenset({VmState.RESCUED}),
        task_state=TaskState.UNRESCUING,
        command=guest_commands.Unrescue,
        vm_state=VmState.ACTIVE,
        power_state=PowerState.RUNNING,
        event="compute_unrescue_instance",
    ),
    OperationSpec(
        operation=Operation.SHELVE,
        action="shelve",
        policy="os-shelve:shelve",
        summary="Shelve a server.",
        starts_from=IMAGED_FROM,
        task_state=TaskState.SHELVING,
        command=guest_commands.Stop,
        vm_state=VmState.SHELVED,
        power_state=PowerState.SHUTDOWN,
        event="compute_shelve_instance",
    ),
    OperationSpec(
        operation=Operation.SHELVE_OFFLOAD,
        action="shelveOffload",
        policy="os-shelve:shelve_offload",
        summary="Remove a shelved server from its host.",
        starts_from=frozenset({VmState.SHELVED}),
        task_state=TaskState.SHELVING_OFFLOADING,
        command=guest_commands.Destroy,
        vm_state=VmState.SHELVED_OFFLOADED,
        power_state=PowerState.SHUTDOWN,
        event="compute_shelve_offload_instance",
        moves=True,
    ),
    OperationSpec(
        operation=Operation.UNSHELVE,
        action="unshelve",
        policy="os-shelve:unshelve",
        summary="Unshelve a server.",
        starts_from=frozenset({VmState.SHELVED, VmState.SHELVED_OFFLOADED}),
        task_state=TaskState.UNSHELVING,
        command=guest_commands.Spawn,
        vm_state=VmState.ACTIVE,
        power_state=PowerState.RUNNING,
        event="compute_unshelve_instance",
        moves=True,
    ),
    OperationSpec(
        operation=Operation.ATTACH_VOLUME,
        policy="os-volumes-attachments:create",
        summary="Attach a volume to a server.",
        starts_from=WITH_VOLUMES_CHANGED,
        task_state=None,
        command=guest_commands.AttachVolume,
        vm_state=None,
        power_state=None,
        event="compute_attach_volume",
    ),
    OperationSpec(
        operation=Operation.DETACH_VOLUME,
        policy="os-volumes-attachments:delete",
        summary="Detach a volume from a server.",
        starts_from=WITH_VOLUMES_CHANGED,
        task_state=None,
        command=guest_commands.DetachVolume,
        vm_state=None,
        power_state=None,
        event="compute_detach_volume",
    ),
    OperationSpec(
        operation=Operation.EXTEND_VOLUME,
        policy="os-server-external-events:create",
        summary="Tell of what another service did for a server.",
        starts_from=WITH_VOLUMES_CHANGED,
        task_state=None,
        command=guest_commands.ExtendVolume,
        vm_state=None,
        power_state=None,
        event="compute_extend_volume",
    ),
    OperationSpec(
        operation=Operation.ATTACH_INTERFACE,
        policy="os-attach-interfaces:create",
        summary="Attach a port to a server.",
        starts_from=WITH_PORTS_CHANGED,
        task_state=None,
        command=guest_commands.AttachPort,
        vm_state=None,
        power_state=None,
        event="compute_attach_interface",
    ),
    OperationSpec(
        operation=Operation.DETACH_INTERFACE,
        policy="os-attach-interfaces:delete",
        summary="Detach a port from a server.",
        starts_from=WITH_PORTS_CHANGED,
        task_state=None,
        command=guest_commands.DetachPort,
        vm_state=None,
        power_state=None,
        event="compute_detach_interface",
    ),
)
ON_DEVICES = frozenset(
    {
        Operation.ATTACH_VOLUME,
        Operation.DETACH_VOLUME,
        Operation.EXTEND_VOLUME,
        Operation.ATTACH_INTERFACE,
        Operation.DETACH_INTERFACE,
    }
)
"""What is done with one device of a server: several may be asked for at once, and are done one after the other."""
AT_ONCE: dict[str, str] = {
    "lock": "api_lock",
    "unlock": "api_unlock",
    ImmediateAction.RESET_STATE: "",
    ImmediateAction.CHANGE_PASSWORD: "compute_set_admin_password",
    ImmediateAction.TRIGGER_CRASH_DUMP: "compute_trigger_crash_dump",
}
"""Nova's names of what is done to a server at once, without a run, and is recorded all the same -> their events, ""
where there is none."""
FIRST_VARIANTS = {spec.operation: spec for spec in reversed(TABLE)}
"""Operation -> its row, the first of those with variants."""
ACTIONS = {spec.action: spec for spec in reversed(TABLE) if spec.action}
"""Key of an action's body -> its row, the first of those with variants."""


_BY_NAME = {(str(operation), ""): spec for operation, spec in FIRST_VARIANTS.items()}
_BY_NAME |= {(str(spec.operation), spec.variant): spec for spec in TABLE}


def event_of(action: str) -> str:
    """Nova's name of the event of an action that was recorded; "" where it has none."""
    return AT_ONCE[action] if action in AT_ONCE else FIRST_VARIANTS[Operation(action)].event


def spec_of(operation: str, variant: object = "") -> OperationSpec:
    """Return the row of an operation; ``variant``: the ``type`` among its arguments, in any case; the first without.
    Raises Invalid."""
    found = _BY_NAME.get((operation, str(variant or "").upper()))
    if found is None:
        what = f"'{operation[:32]}'" + (f" of type '{str(variant)[:32]}'" if variant else "")
        raise errors.Invalid(f"There is no operation {what}.")
    return found
