"""What a token of the embedded identity costs: to issue, with a password that is proven anew or was of late, and to
validate, by a whole look-up or while nothing changed. Processor time of one thread, on SQLite in this process; the
waiting for the disk that one commit takes stands beside it."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Figure, milliseconds, report
from cellcloud.db import migrate
from cellcloud.db.engine import Database, transact
from cellcloud.db.identity_tokens import begin_epoch
from cellcloud.embedded.bootstrap import Passwords, bootstrap
from cellcloud.embedded.identity import EmbeddedIdentity, Login, Scope

PASSWORD = "a password"  # noqa: S105 -- of a cloud that lives for a minute


def processor_milliseconds(ask: Callable[[], object], count: int) -> list[float]:
    """How much of a processor each of so many calls takes."""
    found = []
    for _ in range(count):
        began = time.thread_time()
        ask()
        found.append((time.thread_time() - began) * 1000)
    return found


def measure(database: Database, count: int) -> list[Figure]:
    """Return the figures, beside a commit of one row."""
    login = [Login(user_name="demo", domain_id="default", password=PASSWORD)]
    scope = Scope(project_name="demo", domain_id="default")
    identity = EmbeddedIdentity(database, cache_seconds=3600.0)
    token, _ = identity.issue_token(login, scope)
    commit = statistics.median(milliseconds(lambda: transact(database, begin_epoch), count))

    def anew() -> None:
        EmbeddedIdentity(database).issue_token(login, scope)

    def changed() -> None:
        EmbeddedIdentity(database).validate_token(token)

    identity.validate_token(token)
    asked = {
        "a token for a password proven anew": (anew, count // 10),
        "a token for a password proven of late": (lambda: identity.issue_token(login, scope), count),
        "a token validated by a whole look-up": (changed, count),
        "a token validated while nothing changed": (lambda: identity.validate_token(token), count),
    }
    return [
        Figure(
            name=name,
            unit="ms",
            readings=processor_milliseconds(ask, times),
            reference="commit of one row, waiting included",
            reference_reading=commit,
        )
        for name, (ask, times) in asked.items()
    ]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder)}/top.db")
        migrate.upgrade(database, "top")
        bootstrap(database, Passwords(admin=PASSWORD, demo=PASSWORD, service=PASSWORD))
        report(measure(database, arguments.count), as_json=arguments.json)
        database.close()


if __name__ == "__main__":
    main()
