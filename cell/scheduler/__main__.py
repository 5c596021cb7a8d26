"""Wires a scheduler. Start one with ``cellcloud-scheduler --config FILE``."""

from __future__ import annotations

from typing import Any

import click

from cell.scheduler.service import SchedulerService
from cellcloud import log
from cellcloud.config import Config, load
from cellcloud.rpc.transport import Transport
from cellcloud.service import run


def build(config: Config, *, transport: Transport | None = None, **_others: Any) -> SchedulerService:
    """Build a scheduler of the configured cell."""
    return SchedulerService(config, transport or Transport(config.cell.name, config.cell.transport_url))


@click.command()
@click.option("--config", "path", required=True, type=click.Path(exists=True), help="The cell's option file.")
def main(path: str) -> None:
    """Run a scheduler until SIGTERM."""
    config = load(path)
    log.set_up("scheduler", level=config.log_level)
    run(build(config), health_socket=config.state_dir / "run" / "scheduler.sock")


if __name__ == "__main__":
    main()
