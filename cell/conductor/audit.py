"""Whether a cell's records agree with each other, and what an operator should do where they do not."""

from __future__ import annotations

from collections.abc import Iterator

from cellcloud.db import (
    claims,
    database_incarnations,
    group_members,
    host_name_leases,
    hosts,
    retention,
    runs,
    servers,
    unknown_guests,
    user_data,
)
from cellcloud.db.engine import Connection, Database
from cellcloud.model.cell import Finding


def check(
    database: Database, *, down_time: float, stuck_after: float = 600.0, deleted_days: float = 30.0
) -> list[Finding]:
    """Every inconsistency, or one finding "ok" per check that found none."""
    found: list[Finding] = []
    with database.read() as connection:
        for host, name, used, held in claims.list_mismatches(connection):
            text = f"{name}: {used} counted, {held} claimed"
            found.append(Finding(check="claims", severity="error", subject=host, text=text))
        found += _owners(connection)
        found += _groups(connection)
        for run in runs.list_overdue(connection, 60.0):
            text = f"{run.operation} is past its deadline at step {run.step} ({run.direction})"
            remedy = f"cellctl op show {run.id}"
            found.append(Finding(check="runs", severity="error", subject=run.server_id, text=text, remedy=remedy))
        for server_id, task_state, since in servers.list_stuck(connection, stuck_after):
            text = f"in task state {task_state} since {since:%Y-%m-%d %H:%M:%S}"
            remedy = f"cellctl server timeline {server_id}"
            found.append(Finding(check="stuck", severity="warning", subject=server_id, text=text, remedy=remedy))
        for server_id in servers.list_expired_holds(connection):
            found.append(Finding(check="holds", severity="warning", subject=server_id, text="held past its time"))
        found += _texts(connection)
        for guest in unknown_guests.list_all(connection):
            text = f"guest {guest.server_id} is there: {guest.reason}" + (", its removal is asked for" * guest.removal)
            remedy = f"cellctl guest adopt|remove {guest.server_id} --host {guest.host}"
            found.append(Finding(check="guests", severity="warning", subject=guest.host, text=text, remedy=remedy))
        for name, count in sorted(retention.count_unconfirmed(connection, deleted_days).items()):
            text = f"{count} old records of deleted servers wait for its word that it holds nothing of them"
            remedy = f"cellctl host remove {name}, if it is gone for good"
            finding = Finding(
                check="retention", severity="warning", subject=name or "all hosts", text=text, remedy=remedy
            )
            found.append(finding)
        for name, place in host_name_leases.list_rivals(connection):
            text = f"another machine asks for this name and is refused it: {place}"
            remedy = f"give it a name of its own; if the first is gone: cellctl host release {name}"
            found.append(Finding(check="names", severity="error", subject=name, text=text, remedy=remedy))
        troubles = {host: f"in quarantine: {reason}" for host, reason in hosts.list_troubles(connection)}
        for host_record in hosts.list_hosts(connection, down_time=down_time):
            if host_record.host in troubles:
                reason = troubles[host_record.host]
                found.append(Finding(check="hosts", severity="error", subject=host_record.host, text=reason))
            elif not host_record.up:
                text = "has not reported lately" if not host_record.forced_down else "forced down"
                found.append(Finding(check="hosts", severity="warning", subject=host_record.host, text=text))
        incarnation = database_incarnations.find(connection)
    found += [incarnation.finding("-")] if incarnation else []
    troubled = {finding.check for finding in found}
    for name in (
        "claims",
        "owners",
        "groups",
        "runs",
        "stuck",
        "holds",
        "texts",
        "guests",
        "names",
        "retention",
        "hosts",
    ):
        if name not in troubled:
            found.append(Finding(check=name, severity="ok", subject="-", text="nothing wrong"))
    return found


def _groups(connection: Connection) -> Iterator[Finding]:
    """Server groups that are not kept, as where guests were adopted."""
    for group, members in group_members.list_broken(connection):
        where = ", ".join(f"{one} on {' and '.join(sorted(hosts))}" for one, hosts in sorted(members.items()))
        text = f"its {group.policy} is not kept: {where}"[:1000]
        remedy = "migrate its servers to other hosts"
        yield Finding(check="groups", severity="warning", subject=group.id, text=text, remedy=remedy)


def _texts(connection: Connection) -> Iterator[Finding]:
    """Servers whose texts, which are kept beside their records, are not there."""
    for server_id in user_data.list_lost(connection):
        text = "not all is there that it was made with: user data, hints, metadata, tags or properties of its image"
        remedy = "put the cell's database back from a backup, or set it again"
        yield Finding(check="texts", severity="error", subject=server_id, text=text, remedy=remedy)


def _owners(connection: Connection) -> Iterator[Finding]:
    """Claims that do not agree with their server's record."""
    for one in claims.list_strays(connection):
        severity = "error"
        if not one.living and one.busy:
            severity = "warning"
            text = f"is deleted, and keeps its claim on {one.host} until the host has said so or is forced down"
        elif not one.living:
            text = f"holds a claim on {one.host} but does not exist"
        elif one.id != one.server_id:
            text = f"holds a claim on {one.host} of migration {one.id}, at which nobody is at work"
        else:
            text = f"holds its claim on {one.host}, where its record does not have it"
        yield Finding(check="owners", severity=severity, subject=one.server_id, text=text)
