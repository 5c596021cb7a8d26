"""Where claims lie on hosts' NUMA cells and PCI devices: no CPU, page or device has two owners.

Amounts are judged by claims. Who claims amounts of a host has its rows locked by then, so that what is read here of
the host's other claims stays true until the transaction ends.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.cell_schema import claims, hosts
from cellcloud.model import codec
from cellcloud.model.host import HostFacts
from cellcloud.model.numa import Placed, Topology
from cellcloud.model.numa_pci_usage import consume


def list_clashes(connection: Connection, wanted: Sequence[tuple[str, str, Placed]]) -> list[str]:
    """Of (claim id, host, place), the claims whose place is not free, first come, first served. They themselves may be
    stored already."""
    left = _topologies(connection, sorted({host for _, host, _ in wanted}), {claim_id for claim_id, _, _ in wanted})
    clashes = []
    for claim_id, host, placed in wanted:
        try:
            left[host] = consume(left.get(host, Topology()), placed)
        except errors.ClaimLost:
            clashes.append(claim_id)
    return clashes


def _topologies(connection: Connection, names: Sequence[str], own: Set[str]) -> dict[str, Topology]:
    """Return what the hosts report, less what others' claims have. Claims that contradict a report are left out."""
    left: dict[str, Topology] = {}
    for host, reported in connection.execute(sa.select(hosts.c.host, hosts.c.facts).where(hosts.c.host.in_(names))):
        facts: HostFacts = codec.from_plain(reported, HostFacts)
        left[host] = Topology(cells=facts.numa, pools=facts.pci_pools)
    rows = connection.execute(
        sa.select(claims.c.id, claims.c.host, claims.c.holding).where(claims.c.host.in_(names)).order_by(claims.c.id)
    )
    for claim_id, host, holding in rows:
        if holding.get("placed") is None or host not in left or claim_id in own:
            continue
        try:
            left[host] = consume(left[host], codec.from_plain(holding["placed"], Placed))
        except errors.ClaimLost:
            continue
    return left
