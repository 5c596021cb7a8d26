"""``make tempest``: start a cloud of two hosts a cell, run OpenStack's own tests of the Compute API against it, and
tell what passes; ends with 1 where one fails that has no reason on record, or passes despite one.

NAME='^tempest.api.compute.keypairs' for some of them only. All that is said stays in .cache/tempest.
"""

from __future__ import annotations

import shutil
import sys

from tests.cloud import running_cloud
from tests.tempest.installation import CACHE
from tests.tempest.runs import COMPUTE, reason_of, run


def main(regex: str = COMPUTE) -> int:
    """Run it. Return the exit status."""
    place = CACHE / "tempest"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    with running_cloud(place, profile="embedded", driver="fake", hosts=2) as cloud:
        outcome = run(cloud, place / "run", regex)
    for name, said in outcome.failed.items():
        print(f"{name}\n    {reason_of(name) or f'UNEXPECTED: {said}'}")
    for name in outcome.outgrown:
        print(f"{name}: passes, though a reason is on record why it should not")
    known = len(outcome.failed) - len(outcome.unexpected)
    print(
        f"{len(outcome.passed)} passed, {len(outcome.unexpected)} failed, {known} failed for a reason on record, "
        f"{len(outcome.skipped)} skipped by configuration"
    )
    return 1 if outcome.unexpected or outcome.outgrown else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
