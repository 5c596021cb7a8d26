"""cellctl: what operators ask the cloud."""

from __future__ import annotations

import logging
from typing import Any

import click

from cell.admin.aggregates import aggregate
from cell.admin.cells import cell
from cell.admin.common_options import merged, with_options
from cell.admin.doctor import doctor
from cell.admin.guests import guest
from cell.admin.hosts import host
from cell.admin.operations import op
from cell.admin.scheduling_policies import policy
from cell.admin.servers import server
from cell.admin.what_if import plan
from cell.admin.why import replay, why, why_not


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@with_options
def main(**given: Any) -> None:
    """Look into the cloud as its operator.

    Reads the top's API with the cloud 'cellcloud-admin' of clouds.yaml (found here, in a folder above, or by
    OS_CLIENT_CONFIG_FILE); with --local --config FILE it reads one cell through that cell's own queue.

    \b
    Exit codes:
      0  done
      1  something is wrong: doctor found it, a decision made again is another one, or the request failed
      2  the command line is wrong
      3  the API or the cell does not answer
      4  there is no such thing
    """
    logging.getLogger().addHandler(logging.NullHandler())  # what libraries log is not for this terminal
    context = click.get_current_context()
    context.obj = merged(context, given)


for noun in (cell, host, guest, server, op, why, why_not, replay, plan, policy, aggregate, doctor):
    main.add_command(noun)

if __name__ == "__main__":
    main()
