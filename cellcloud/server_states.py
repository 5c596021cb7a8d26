"""The states a server can be in, in Nova's words; ``model/operations.py`` says what moves it between them."""

from __future__ import annotations

import functools
from enum import IntEnum, StrEnum


class VmState(StrEnum):
    BUILDING = "building"
    ACTIVE = "active"
    STOPPED = "stopped"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    RESCUED = "rescued"
    RESIZED = "resized"
    SHELVED = "shelved"
    SHELVED_OFFLOADED = "shelved_offloaded"
    SOFT_DELETED = "soft-delete"
    DELETED = "deleted"
    ERROR = "error"


class TaskState(StrEnum):
    SCHEDULING = "scheduling"
    NETWORKING = "networking"
    SPAWNING = "spawning"
    POWERING_ON = "powering-on"
    POWERING_OFF = "powering-off"
    REBOOTING = "rebooting"
    REBOOTING_HARD = "rebooting_hard"
    PAUSING = "pausing"
    UNPAUSING = "unpausing"
    SUSPENDING = "suspending"
    RESUMING = "resuming"
    RESCUING = "rescuing"
    UNRESCUING = "unrescuing"
    REBUILDING = "rebuilding"
    REBUILD_BLOCK_DEVICE_MAPPING = "rebuild_block_device_mapping"
    REBUILD_SPAWNING = "rebuild_spawning"
    RESIZE_PREP = "resize_prep"
    RESIZE_MIGRATING = "resize_migrating"
    RESIZE_MIGRATED = "resize_migrated"
    RESIZE_FINISH = "resize_finish"
    RESIZE_CONFIRMING = "resize_confirming"
    RESIZE_REVERTING = "resize_reverting"
    MIGRATING = "migrating"
    SHELVING = "shelving"
    SHELVING_IMAGE_PENDING_UPLOAD = "shelving_image_pending_upload"
    SHELVING_IMAGE_UPLOADING = "shelving_image_uploading"
    SHELVING_OFFLOADING = "shelving_offloading"
    UNSHELVING = "unshelving"
    SOFT_DELETING = "soft-deleting"
    RESTORING = "restoring"
    DELETING = "deleting"
    IMAGE_SNAPSHOT_PENDING = "image_snapshot_pending"
    IMAGE_PENDING_UPLOAD = "image_pending_upload"
    IMAGE_UPLOADING = "image_uploading"
    IMAGE_BACKUP = "image_backup"


class PowerState(IntEnum):
    NOSTATE = 0
    RUNNING = 1
    PAUSED = 3
    SHUTDOWN = 4
    CRASHED = 6
    SUSPENDED = 7


_STATUS: dict[VmState, str] = {
    VmState.BUILDING: "BUILD",
    VmState.ACTIVE: "ACTIVE",
    VmState.STOPPED: "SHUTOFF",
    VmState.PAUSED: "PAUSED",
    VmState.SUSPENDED: "SUSPENDED",
    VmState.RESCUED: "RESCUE",
    VmState.RESIZED: "VERIFY_RESIZE",
    VmState.SHELVED: "SHELVED",
    VmState.SHELVED_OFFLOADED: "SHELVED_OFFLOADED",
    VmState.SOFT_DELETED: "SOFT_DELETED",
    VmState.DELETED: "DELETED",
    VmState.ERROR: "ERROR",
}
_STATUS_WHILE: dict[tuple[VmState, TaskState], str] = {
    (VmState.ACTIVE, TaskState.REBOOTING): "REBOOT",
    (VmState.ACTIVE, TaskState.REBOOTING_HARD): "HARD_REBOOT",
    (VmState.RESIZED, TaskState.RESIZE_REVERTING): "REVERT_RESIZE",
    **{
        (state, task): "RESIZE"
        for state in (VmState.ACTIVE, VmState.STOPPED)
        for task in (
            TaskState.RESIZE_PREP,
            TaskState.RESIZE_MIGRATING,
            TaskState.RESIZE_MIGRATED,
            TaskState.RESIZE_FINISH,
        )
    },
    **{
        (vm, task): "REBUILD"
        for vm in (VmState.ACTIVE, VmState.STOPPED, VmState.ERROR)
        for task in (TaskState.REBUILDING, TaskState.REBUILD_BLOCK_DEVICE_MAPPING, TaskState.REBUILD_SPAWNING)
    },
}

# (vm state, the power state that its guest took by itself) -> the vm state that it is seen as; Nova's power sync.
_SEEN_AS = {
    (VmState.ACTIVE, PowerState.SHUTDOWN): VmState.STOPPED,
    (VmState.ACTIVE, PowerState.CRASHED): VmState.STOPPED,
    (VmState.STOPPED, PowerState.RUNNING): VmState.ACTIVE,
    (VmState.ACTIVE, PowerState.PAUSED): VmState.PAUSED,
    (VmState.PAUSED, PowerState.RUNNING): VmState.ACTIVE,
    (VmState.PAUSED, PowerState.SHUTDOWN): VmState.STOPPED,
    (VmState.PAUSED, PowerState.CRASHED): VmState.STOPPED,
    (VmState.STOPPED, PowerState.PAUSED): VmState.PAUSED,
    (VmState.ACTIVE, PowerState.SUSPENDED): VmState.SUSPENDED,
    (VmState.PAUSED, PowerState.SUSPENDED): VmState.SUSPENDED,
    (VmState.STOPPED, PowerState.SUSPENDED): VmState.SUSPENDED,
    (VmState.SUSPENDED, PowerState.RUNNING): VmState.ACTIVE,
    (VmState.SUSPENDED, PowerState.PAUSED): VmState.PAUSED,
    (VmState.SUSPENDED, PowerState.SHUTDOWN): VmState.STOPPED,
    (VmState.SUSPENDED, PowerState.CRASHED): VmState.STOPPED,
}
_SHOWN_POWER = {
    VmState.ACTIVE: PowerState.RUNNING,
    VmState.PAUSED: PowerState.PAUSED,
    VmState.SUSPENDED: PowerState.SUSPENDED,
    VmState.STOPPED: PowerState.SHUTDOWN,
}


@functools.lru_cache(maxsize=1024)
def status_of(vm_state: str, task_state: str | None) -> str:
    """Return the API's status for a pair of states; UNKNOWN for a pair nobody declared."""
    try:
        vm = VmState(vm_state)
    except ValueError:
        return "UNKNOWN"
    if task_state is not None:
        try:
            return _STATUS_WHILE.get((vm, TaskState(task_state)), _STATUS[vm])
        except ValueError:
            return _STATUS[vm]
    return _STATUS[vm]


def states_of(status: str) -> list[tuple[VmState, TaskState | None]]:
    """Return the (vm state, task state) pairs shown as ``status``; None stands for any other task state."""
    pairs: list[tuple[VmState, TaskState | None]] = [
        (vm, task) for (vm, task), shown in _STATUS_WHILE.items() if shown == status.upper()
    ]
    pairs.extend((vm, None) for vm, shown in _STATUS.items() if shown == status.upper())
    return pairs


def seen_as(vm_state: str, power_state: int) -> VmState:
    """Return what a server in that state is, once its guest is found with that power."""
    vm = VmState(vm_state)
    return _SEEN_AS.get((vm, PowerState(power_state)), vm)


def contradicts(vm_state: str, power_state: int) -> bool:
    """Return whether a server cannot rest in that state with that power."""
    return seen_as(vm_state, power_state) != vm_state


def expected_power(vm_state: str, power_state: int) -> int:
    """Return the power that a server's guest should have by its record; what its state says counts first."""
    return _SHOWN_POWER[VmState(vm_state)] if contradicts(vm_state, power_state) else power_state
