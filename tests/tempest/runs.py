"""A run of Tempest against a cloud, and what came of each of its tests."""

from __future__ import annotations

import csv
import io
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cloud import Cloud
from tests.tempest import configuration
from tests.tempest.expectations import AT_TIMES, NOT_PASSING
from tests.tempest.installation import install

COMPUTE = r"^tempest\.api\.compute"


@dataclass(frozen=True)
class Outcome:
    """Names of tests. ``failed`` -> the end of what it said; ``skipped`` by configuration."""

    passed: frozenset[str]
    skipped: frozenset[str]
    failed: dict[str, str]

    @property
    def unexpected(self) -> dict[str, str]:
        """Those that fail without a reason on record."""
        return {name: said for name, said in self.failed.items() if reason_of(name) is None}

    @property
    def outgrown(self) -> list[str]:
        """Reasons on record for tests of this run that pass."""
        return [name for name in NOT_PASSING if any(_is(name, test) for test in self.passed)]


def reason_of(test: str) -> str | None:
    """Why a test is known not to pass; None where it should."""
    return next((reason for name, reason in (NOT_PASSING | AT_TIMES).items() if _is(name, test)), None)


def _is(name: str, test: str) -> bool:
    return f"{name}." in f"{test.rstrip(')')}."  # of what makes a whole class ready, the class stands in brackets


def run(cloud: Cloud, place: Path, regex: str = COMPUTE, *, workers: int = 2) -> Outcome:
    """Run the tests whose names match, in ``place``, a directory to be made, which keeps all they say."""
    programs = install()
    place.mkdir(parents=True)

    def call(program: str, *arguments: str, given: bytes = b"", check: bool = False) -> bytes:
        command = [str(programs / program), *arguments]
        environment = os.environ | {"HOME": str(place)}
        done = subprocess.run(
            command,
            cwd=place,
            env=environment,
            input=given,
            stdout=None if program == "tempest" else subprocess.PIPE,
            check=check,
        )
        return done.stdout or b""

    call("tempest", "init", "run", check=True)
    place = place / "run"
    configuration.write(cloud, place / "etc" / "tempest.conf", place / "lock")
    call("tempest", "run", "--regex", regex, "--concurrency", str(workers))
    table = call("subunit2csv", given=call("stestr", "last", "--subunit"))
    said = call("stestr", "last", "--all-attachments")
    (place / "said.txt").write_bytes(said)
    return _outcome(list(csv.DictReader(io.StringIO(table.decode()))), said.decode(errors="replace"))


def _outcome(rows: Sequence[dict[str, str]], said: str) -> Outcome:
    names: dict[str, set[str]] = {}
    for row in rows:
        names.setdefault(row["status"], set()).add(row["test"].split("[")[0])
    failed = {name: _end_of(said, name) for name in sorted(names.get("failure", set()))}
    return Outcome(frozenset(names.get("success", ())), frozenset(names.get("skip", ())), failed)


def _end_of(said: str, name: str) -> str:
    """The last line of a test's traceback."""
    block = said.partition(f"\n{name}")[2].partition("Captured traceback")[2].partition("\n\n")[0]
    lines = [line.strip() for line in block.splitlines() if line.strip(" ~:")]
    return lines[-1][:300] if lines else ""
