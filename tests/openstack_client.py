"""The standard client, loaded once: each thread gives its commands to processes of its own, forked from one that has it
in memory. A process serves commands with the same options, since it keeps its connection to their cloud.

status, said, complained = run(["--os-cloud", "a"], ["server", "list"], {"OS_CLIENT_CONFIG_FILE": str(clouds_file)})
"""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from typing import NamedTuple

LOADED = (  # what commands load sooner or later
    *(__name__, "tests.openstack_commands", "openstackclient.shell", "openstack.connection", "openstack.config.loader"),
    *("osc_lib.utils", "keystoneauth1.loading", "keystoneauth1.identity"),
    *("cliff.formatters.table", "cliff.formatters.json_format"),
)
_of_thread = threading.local()


class Answer(NamedTuple):
    """Exit status, standard output and standard error of a command."""

    status: int
    said: str
    complained: str


class _Client:
    """The process."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(LOADED))
        self.pipe, its = context.Pipe()
        self._process = context.Process(target=_carry_out, args=(its,), daemon=True)
        self._process.start()
        its.close()

    def end(self) -> None:
        self.pipe.close()
        self._process.kill()
        self._process.join()


def run(
    options: Sequence[str], words: Sequence[str], environment: Mapping[str, str], *, timeout: float = 300.0
) -> Answer:
    """Do as ``openstack OPTIONS WORDS`` does. Raises TimeoutError when it has not ended after ``timeout`` seconds."""
    clients: dict[object, _Client] = vars(_of_thread).setdefault("clients", {})
    key = (environment.get("OS_CLIENT_CONFIG_FILE"), *options)
    client = clients.get(key) or clients.setdefault(key, _Client())
    try:
        client.pipe.send(([*options, *words], dict(environment)))
        if not client.pipe.poll(timeout):
            raise TimeoutError(f"openstack {' '.join(words)}: not ended after {timeout:.0f} s")
        return Answer(*client.pipe.recv())
    except (OSError, EOFError):  # a TimeoutError among them
        del clients[key]
        client.end()
        raise


def _carry_out(commands: Connection) -> None:
    """In the forked process: one command after the other, until nobody gives any."""
    while True:
        try:
            words, environment = commands.recv()
        except EOFError:
            return
        commands.send(_answer(words, environment))


def _answer(words: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    from openstackclient import shell

    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["openstack", *words]
    logging.getLogger().handlers.clear()  # those of the command before write to where it did
    said, complained = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(complained):
        try:
            status = shell.main(words)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
    return status, said.getvalue(), complained.getvalue()
