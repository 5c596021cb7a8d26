"""Starts a scheduler."""

from __future__ import annotations

from pathlib import Path

import click

from cell.scheduler.service import SchedulerService
from cellcloud import config as options
from cellcloud import log, service
from cellcloud.config import Config
from cellcloud.rpc.transport import Transport


def build(config: Config, transport: Transport | None = None) -> SchedulerService:
    """The service over ``transport``, or over one of its own."""
    return SchedulerService(config, transport or Transport(config.cell.name, config.cell.transport_url))


@click.command()
@click.option("--config", "path", type=click.Path(path_type=Path, exists=True), required=True)
def main(path: Path) -> None:
    """Serve until told to stop."""
    config = options.load(path)
    log.set_up("scheduler", level=config.log_level, file=config.log_file)
    service.run(build(config))


if __name__ == "__main__":
    main()
