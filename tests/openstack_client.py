"""The standard client, loaded once: each command runs in a process of its own, forked from one that has it in memory.

status, said, complained = run(["server", "list"], {"OS_CLIENT_CONFIG_FILE": str(clouds_file)})
"""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from typing import NamedTuple

LOADED = (  # what commands load sooner or later
    *(__name__, "openstackclient.shell", "openstack.connection", "openstack.config.loader", "osc_lib.utils"),
    *("openstackclient.compute.v2.server", "openstackclient.network.v2.network", "openstackclient.image.v2.image"),
    *("keystoneauth1.loading", "keystoneauth1.identity", "cliff.formatters.table", "cliff.formatters.json_format"),
)


class Answer(NamedTuple):
    """Exit status, standard output and standard error of a command."""

    status: int
    said: str
    complained: str


def run(words: Sequence[str], environment: Mapping[str, str], *, timeout: float = 300.0) -> Answer:
    """Do as ``openstack WORDS`` does. Raises TimeoutError when it has not ended after ``timeout`` seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    ours, its = context.Pipe(duplex=False)
    process = context.Process(target=_carry_out, args=(list(words), dict(environment), its))
    process.start()
    its.close()
    try:
        if not ours.poll(timeout):
            raise TimeoutError(f"openstack {' '.join(words)}: not ended after {timeout:.0f} s")
        return Answer(*ours.recv())
    finally:
        ours.close()
        process.kill()
        process.join()


def _carry_out(words: list[str], environment: dict[str, str], answer: Connection) -> None:
    """In the forked process."""
    from openstackclient import shell

    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["openstack", *words]
    said, complained = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(complained):
        try:
            status = shell.main(words)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
    answer.send((status, said.getvalue(), complained.getvalue()))
