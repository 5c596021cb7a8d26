"""Counters of what projects and users have, beside what there is: told where they differ, and counted anew."""

from __future__ import annotations

import functools

from cellcloud.db import network_quota_usages, quotas, volume_quotas
from cellcloud.db.engine import Database, transact
from cellcloud.model.cell import Finding

CHECKS = ("quota", "network use", "volume use")
REMEDY = "cellctl doctor repair"
Wrong = tuple[str, str, int, int]  # whose, of what, counted, what there is


def find_wrong(database: Database) -> dict[str, list[Wrong]]:
    """Check -> what it finds, all at one moment."""
    with database.read_as_one() as connection:
        counted = (quotas.recount, network_quota_usages.recount, volume_quotas.recount)
        return {check: recount(connection) for check, recount in zip(CHECKS, counted, strict=True)}


def findings(database: Database) -> list[Finding]:
    """As ``doctor check`` lists them."""
    return [
        Finding(
            check=check,
            severity="error",
            subject=subject,
            text=f"{name}: {counted} counted, {actual} in use",
            remedy=REMEDY,
        )
        for check, wrong in find_wrong(database).items()
        for subject, name, counted, actual in wrong
    ]


def repair(database: Database) -> list[Finding]:
    """Count anew what is wrong; returns what was done."""
    found = find_wrong(database)
    for project_id in sorted({subject.partition(" ")[0] for subject, *_ in found["quota"]}):
        transact(database, functools.partial(quotas.mend, project_id=project_id))
    for project_id, resource, *_ in found["network use"]:
        transact(database, functools.partial(network_quota_usages.mend, project_id=project_id, resource=resource))
    for project_id, resource, *_ in found["volume use"]:
        transact(database, functools.partial(volume_quotas.mend, project_id=project_id, resource=resource))
    return [
        Finding(check=check, severity="ok", subject=subject, text=f"{name} counted anew")
        for check, wrong in found.items()
        for subject, name, *_ in wrong
    ]
