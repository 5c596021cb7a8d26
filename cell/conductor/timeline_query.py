"""What happened to a server, as its cell's decisions and runs tell it."""

from __future__ import annotations

from cellcloud.db import decisions, runs
from cellcloud.db.engine import Database
from cellcloud.model.run import TimelineEntry


def timeline(database: Database, server_id: str) -> list[TimelineEntry]:
    """All that happened to a server, oldest first. Raises NotFound."""
    with database.read() as connection:
        entries = [
            TimelineEntry(
                at=made.at,
                kind="decision",
                text=f"chose {made.chosen or 'no host'} of {', '.join(made.hosts) or 'none'}",
                request_id=made.request_id,
            )
            for made in decisions.list_of(connection, server_id)
        ]
        for run in runs.list_runs(connection, server_id=server_id):
            if run.created_at is not None:
                text = f"{run.operation} begins (generation {run.generation})"
                entries.append(TimelineEntry(at=run.created_at, kind="run", text=text, request_id=run.request_id))
            for step in run.steps:
                if step.finished_at is None:
                    continue
                word = "undo " if step.direction in ("undo", "leave") else ""
                text = f"{word}{step.step}: {step.outcome}" + (f" ({step.message})" if step.message else "")
                entries.append(TimelineEntry(at=step.finished_at, kind="step", text=text, request_id=run.request_id))
            if run.finished_at is not None:
                text = f"{run.operation} ends: {run.state}" + (f" ({run.message})" if run.message else "")
                entries.append(TimelineEntry(at=run.finished_at, kind="run", text=text, request_id=run.request_id))
    return sorted(entries, key=lambda entry: entry.at)
