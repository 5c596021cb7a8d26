"""What is told to a running guest: by its agent, or by an interrupt."""

from __future__ import annotations

from typing import Any

import libvirt

from cell.compute.driver import NOT_RUNNING
from cellcloud import errors

UNKNOWN = (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_UNSUPPORTED)


def set_password(domain: Any, user: str, password: str) -> None:
    """Have the guest's agent set a user's password. Raises Conflict when the guest does not run, NotSupported when its
    agent does not answer, GuestFailed when it refuses: libvirt's own words stay here, lest they repeat the password."""
    if not domain.isActive():
        raise errors.Conflict(NOT_RUNNING)
    try:
        domain.setUserPassword(user, password, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
            raise errors.NotSupported("The guest's agent does not answer.") from None
        raise errors.GuestFailed("The guest's agent refused the password.") from None


def inject_nmi(domain: Any) -> None:
    """Interrupt the guest with an NMI. Raises Conflict when the guest is off, NotSupported."""
    try:
        domain.injectNMI()
    except libvirt.libvirtError as error:
        if error.get_error_code() in UNKNOWN:
            raise errors.NotSupported("Triggering crash dump is not supported") from error
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:
            raise errors.Conflict(NOT_RUNNING) from error
        raise
