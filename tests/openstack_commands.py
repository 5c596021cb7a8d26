"""All commands of the standard client, loaded: for a process that others are forked from."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import entry_points

for _group in sorted(name for name in entry_points().groups if name.startswith("openstack.")):
    for _command in entry_points(group=_group):
        with suppress(ImportError):
            _command.load()
