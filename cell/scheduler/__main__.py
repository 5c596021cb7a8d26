"""Wires a scheduler. Start one with ``cellcloud-scheduler --config FILE``."""

from __future__ import annotations

from typing import Any

from cell.scheduler.service import SchedulerService
from cellcloud.config import Config
from cellcloud.rpc.transport import Transport
from cellcloud.service import command


def build(config: Config, *, transport: Transport | None = None, **_others: Any) -> SchedulerService:
    """Build a scheduler of the configured cell."""
    return SchedulerService(config, transport or Transport(config.cell.name, config.cell.transport_url))


main = command("scheduler", "a scheduler", build)

if __name__ == "__main__":
    main()
