"""What is left on a broker of a process that has gone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import amqp
import pytest

from cellcloud.launcher.rabbitmq_servers import VHOST, Broker
from cellcloud.rpc.interface import topic_of
from cellcloud.rpc.scheduler import Scheduler
from tests.cloud import until
from tests.daemons import running_broker

SERVE = """
import os, sys
from cellcloud.rpc.transport import Transport
from cellcloud import third_party_patches
from cellcloud.rpc.scheduler import Scheduler

names = []
declare = third_party_patches.Connection.declare_queue
def noting(self, queue, *args, **options):
    names.append(queue)
    return declare(self, queue, *args, **options)
third_party_patches.Connection.declare_queue = noting

class Answers:
    def __getattr__(self, verb):
        return print

transport = Transport("east", sys.argv[1])
server = transport.serve(Scheduler, Answers(), server="a-name-of-this-process-alone")
transport._transport._driver._get_reply_q()
print(*names, flush=True)
if sys.argv[2] == "stop":
    server.stop()
    transport.close()
os._exit(0)
"""


def leave(url: str, how: str) -> list[str]:
    """The queues that a process made which has gone: stopped, or killed."""
    argv = [sys.executable, "-c", SERVE, url, how]
    run = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def is_there(broker: Broker) -> Callable[[str], bool]:
    """Whether a queue exists, asked by its owner's account."""

    def ask(queue: str) -> bool:
        login = {"userid": "scheduler", "password": broker.passwords["scheduler"], "virtual_host": VHOST}
        with closing(amqp.Connection(f"127.0.0.1:{broker.port}", **login)) as connection:
            connection.connect()
            try:
                connection.channel().queue_declare(queue, passive=True)
            except amqp.NotFound:
                return False
            return True

    return ask


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """One of its own: a queue that is there keeps the time to live that it was made with."""
    with running_broker(tmp_path / "broker") as running:
        yield running


def test_queues_of_processes_that_are_gone_go(broker: Broker) -> None:
    there = is_there(broker)
    url = broker.url("scheduler") + "?rabbit_transient_queues_ttl=3"
    shared = topic_of(Scheduler, "east")
    stopped = leave(url, "stop")
    assert shared in stopped
    assert len(stopped) == 3  # what schedulers share, what all of them hear, the answers
    assert [queue for queue in stopped if there(queue)] == [shared]  # for the next one
    killed = leave(url, "kill")
    assert all(there(queue) for queue in killed)
    assert not any("a-name-of-this-process-alone" in queue for queue in (*stopped, *killed))
    time.sleep(1.0)
    until(lambda: not any(there(queue) for queue in killed), 30.0, every=5.0, what="queues gone")  # to ask is to use
