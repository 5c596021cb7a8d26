"""A quick selection of OpenStack's own tests against a running cloud; ``make tempest`` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cloud import running_cloud
from tests.tempest.runs import run

QUICK = (
    r"^tempest\.api\.compute\.("
    r"keypairs|limits|test_versions|flavors|admin\.test_flavors|admin\.test_hypervisor|admin\.test_services|"
    r"servers\.(test_create_server\.ServersTestJSON|test_server_actions|test_server_metadata\.|test_instance_actions)"
    r")|"
    r"^tempest\.api\.identity\.(v3\.|admin\.v3\.test_(domains|roles|inherits))"
)


@pytest.mark.timeout(900)
def test_a_quick_selection_passes(tmp_path: Path) -> None:
    with running_cloud(tmp_path, profile="embedded", driver="fake", hosts=2) as cloud:
        outcome = run(cloud, tmp_path / "tempest", QUICK)
    assert not outcome.unexpected
    assert not outcome.outgrown
    assert len(outcome.passed) > 80
