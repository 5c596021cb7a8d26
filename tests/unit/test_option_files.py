"""Option files of the release before mean what they meant."""

from __future__ import annotations

from pathlib import Path

from cellcloud.config import load

OLD = """[outside]
image_adapter = glance
network_adapter = neutron
max_image_bytes = 1
image_count_total = 2
image_size_total = 3
"""


def test_options_whose_group_got_another_name_are_read_under_both(tmp_path: Path) -> None:
    former, present, both = (tmp_path / name for name in ("former.conf", "present.conf", "both.conf"))
    former.write_text(OLD)
    present.write_text(OLD.replace("[outside]", "[adapters]"))
    both.write_text(OLD + "[adapters]\nnetwork_adapter = embedded\n")
    read = load(former).adapters
    assert read == load(present).adapters
    assert (read.image_adapter, read.network_adapter) == ("glance", "neutron")
    assert (read.max_image_bytes, read.image_count_total, read.image_size_total) == (1, 2, 3)
    assert load(both).adapters.network_adapter == "embedded"
