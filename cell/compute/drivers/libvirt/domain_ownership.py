"""Whether a libvirt domain is one of ours: a mark in its metadata says so."""

from __future__ import annotations

from typing import Any

import libvirt

from cell.compute.drivers.libvirt.domain_xml import MARK

GONE = (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN)


def is_ours(domain: Any) -> bool:
    """Return whether the domain carries our mark."""
    try:
        return bool(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, MARK, 0))
    except libvirt.libvirtError as error:
        if error.get_error_code() in GONE:
            return False
        raise
