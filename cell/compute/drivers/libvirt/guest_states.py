"""What a host shows of its guests, from their records and libvirt's word."""

from __future__ import annotations

from dataclasses import replace

from cell.compute.drivers.libvirt.records import GuestRecord
from cellcloud.model.observed_guests import GuestState
from cellcloud.server_states import PowerState


def state_of(server_id: str, record: GuestRecord | None, power: int | None) -> GuestState:
    """Return a guest's state. ``record`` None: it is not recorded; ``power`` None: libvirt does not have it."""
    return GuestState(
        server_id=server_id,
        power_state=power if power is not None else PowerState.NOSTATE,
        generation=record.generation if record else 0,
        project_id=record.spec.project_id if record else "",
        fenced=record.fenced if record else False,
    )


def aside_state(record: GuestRecord) -> GuestState:
    """Return the state of a guest that is set aside."""
    return replace(state_of(record.server_id, record, PowerState.SHUTDOWN), aside=True)


def beside(state: GuestState, aside: GuestRecord | None) -> GuestState:
    """Return a guest's state with the one that is set aside beside it."""
    return state if aside is None else replace(state, beside=aside.generation)
