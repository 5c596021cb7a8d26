"""What every queue must do alike."""

from __future__ import annotations

import datetime as dt
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from cellcloud import errors
from cellcloud.context import RequestContext, service_context
from cellcloud.model import codec
from cellcloud.model.console import ConsoleAddress
from cellcloud.model.guest_commands import GuestCommand, Stop
from cellcloud.model.observed_guests import GuestState
from cellcloud.model.placement_messages import PlacedGroup
from cellcloud.rpc.accounts import Role
from cellcloud.rpc.compute import Compute
from cellcloud.rpc.feed_notification import Router
from cellcloud.rpc.interface import call, cast, served_by
from cellcloud.rpc.transport import Transport
from top_api.cell_clients import Breaker
from top_api.faults import status_of

Connect = Callable[[str], Transport]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What may be in a message. ``rest``: any JSON values."""

    count: int = 0
    share: float = 0.0
    at: dt.datetime | None = None
    key: bytes = b""
    by_number: dict[int, tuple[str, ...]] = field(default_factory=dict)
    rest: dict[str, object] = field(default_factory=dict)


class Questions(Protocol):
    """An interface like those of the cell's services."""

    @call(timeout=8.0)
    def ask(self, context: RequestContext, requests: list[PlacedGroup]) -> list[PlacedGroup]: ...

    @call(timeout=8.0)
    def repeat(self, context: RequestContext, said: list[Said]) -> list[Said]: ...


class Answering:
    """Does as the test says."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.error: Exception | None = None
        self.seen: list[RequestContext] = []

    def ask(self, context: RequestContext, requests: list[PlacedGroup]) -> list[PlacedGroup]:
        self.seen.append(context)
        if self.error is not None:
            raise self.error
        return [PlacedGroup(policy=self.name, hosts=("a", "b"), max_server_per_host=3)]

    def repeat(self, context: RequestContext, said: list[Said]) -> list[Said]:
        return said


PATIENCE = 20.0  # seconds within which what would otherwise take a minute has ended, on a busy machine


class Host:
    """A compute service that remembers what it was told, and knows some of the verbs."""

    def __init__(self) -> None:
        self.told: list[GuestCommand] = []
        self.arrived = threading.Event()
        self.over = threading.Event()

    def __getattr__(self, verb: str) -> Any:
        return lambda *_, **__: None

    def apply(self, context: RequestContext, host: str, commands: list[GuestCommand]) -> None:
        self.told.extend(commands)
        self.arrived.set()

    def get_console_output(self, context: RequestContext, host: str, server_id: str, length: int) -> str:
        self.over.wait(60)
        return ""

    def get_console(
        self, context: RequestContext, host: str, server_id: str, generation: int, protocol: str = "vnc"
    ) -> ConsoleAddress:
        raise errors.Stale("older")

    def list_guests(self, context: RequestContext, host: str) -> list[GuestState]:
        return []


def test_a_call_carries_models_both_ways_and_the_context(transport: Transport) -> None:
    implementation = Answering("s")
    server = transport.serve(Questions, implementation, server="one")
    context = RequestContext(user_id="u", project_id="p", roles=("member",), budget=20)
    answer = transport.client(Questions).ask(context, [])
    assert answer == [PlacedGroup(policy="s", hosts=("a", "b"), max_server_per_host=3)]
    seen = implementation.seen[0]
    assert (seen.request_id, seen.user_id, seen.project_id, seen.roles) == (context.request_id, "u", "p", ("member",))
    assert 0 < seen.budget <= 20
    server.stop()


def test_values_cross_as_they_are_and_what_cannot_be_is_left_to_those_who_judge_it(transport: Transport) -> None:
    server = transport.serve(Questions, Answering(), server="one")
    said = [
        Said(share=float("inf"), at=dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC), key=b"\x00\xff"),
        Said(by_number={7: ("a", "é🙂")}, rest={"a": [1, 2.5, None, True, "x"], "b": {"c": "'\"\\"}}),
        Said(count=10**30, rest={"most": -(2**80)}),
        Said(share=float("nan")),
    ]
    *heard, last = transport.client(Questions).repeat(service_context(), said)
    assert heard == said[:-1]
    assert math.isnan(last.share)
    server.stop()


@pytest.mark.parametrize("data", [None, 5, "no base64!", "AAAA", [], [1, 2], [{"count": "many"}], {"count": 1}])
def test_a_message_of_another_form_is_said_to_be_so(data: object) -> None:
    with pytest.raises(errors.Invalid, match="not of the expected form"):
        codec.from_wire(data, Said)


def test_errors_of_the_tree_cross_and_defects_do_not_show(transport: Transport) -> None:
    implementation = Answering()
    server = transport.serve(Questions, implementation, server="one")
    client = transport.client(Questions)
    implementation.error = errors.NoValidHost("none fits", detail="because")
    with pytest.raises(errors.NoValidHost, match="none fits") as caught:
        client.ask(service_context(10), [])
    assert caught.value.detail == "because"
    implementation.error = RuntimeError("a secret in a traceback")
    with pytest.raises(errors.CallHuman) as defect:
        client.ask(service_context(10), [])
    assert "secret" not in defect.value.message + defect.value.detail
    server.stop()


def test_a_cast_goes_to_the_named_server(transport: Transport, connect: Connect) -> None:
    first, second = Host(), Host()
    servers = [
        connect(f"host.{name}").serve(Compute, host, server=name) for host, name in ((first, "h1"), (second, "h2"))
    ]
    command = Stop(run_id="r", step="s", server_id="x", generation=4)
    transport.client(Compute, server="h2").apply(service_context(10), "h2", [command])
    assert second.arrived.wait(60)
    assert second.told == [command]
    assert first.told == []
    for server in servers:
        server.stop()


def test_a_fanout_reaches_everybody(transport: Transport, connect: Connect) -> None:
    class Listening:
        def __init__(self) -> None:
            self.heard = threading.Event()

        def feed_grew(self, context: RequestContext, newest: int) -> None:
            self.heard.set()

    routers = [Listening(), Listening()]
    servers = [connect("top").serve(Router, router, server=f"r{n}") for n, router in enumerate(routers)]
    transport.client(Router).feed_grew(service_context(10), 7)
    assert all(router.heard.wait(60) for router in routers)
    for server in servers:
        server.stop()


def test_several_servers_share_the_calls(transport: Transport) -> None:
    servers = [transport.serve(Questions, Answering(name), server=name) for name in ("one", "two")]
    client = transport.client(Questions)
    seen = {client.ask(service_context(10), [])[0].policy for _ in range(20)}
    assert seen == {"one", "two"}
    for server in servers:
        server.stop()


def test_a_call_ends_with_its_budget(transport: Transport, connect: Connect) -> None:
    host = Host()
    server = connect("host.h1").serve(Compute, host, server="h1")
    began = time.monotonic()
    with pytest.raises(errors.Unreachable):
        transport.client(Compute, server="h1").get_console_output(service_context(0.7), "h1", "x", 5)
    assert time.monotonic() - began < PATIENCE
    host.over.set()
    server.stop()


def test_nobody_there_is_unreachable(transport: Transport) -> None:
    with pytest.raises(errors.Unreachable):
        transport.client(Compute, server="nobody").list_guests(service_context(0.7), "nobody")


def test_a_budget_used_up_is_not_sent(transport: Transport) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        transport.client(Questions).ask(RequestContext(budget=-1), [])


def test_a_verb_that_the_peer_is_too_old_for_is_not_yet_and_at_once(transport: Transport) -> None:
    """By its name, and by its version where it only has got another meaning."""

    @served_by(Role.CONDUCTOR, callers=())
    class Old(Protocol):
        @call(timeout=60.0)
        def ping(self, context: RequestContext) -> str: ...

        @cast()
        def tell(self, context: RequestContext) -> None: ...

    @served_by(Role.CONDUCTOR, callers=())
    class New(Protocol):
        @call(timeout=60.0, since=1)
        def ping(self, context: RequestContext) -> str: ...

        @call(timeout=60.0)
        def more(self, context: RequestContext) -> str: ...

        @cast(since=1)
        def tell(self, context: RequestContext) -> None: ...

    class Answers:
        told = 0

        def ping(self, context: RequestContext) -> str:
            return "pong"

        def tell(self, context: RequestContext) -> None:
            self.told += 1

    Old.__name__ = New.__name__ = "Pings"
    answers = Answers()
    server = transport.serve(Old, answers, server="s")
    old, new = transport.client(Old), transport.client(New)
    assert old.ping(service_context()) == "pong"
    breaker = Breaker("east", seconds=3.0, most=2)
    began = time.monotonic()
    for verb in (new.more, new.ping):
        with pytest.raises(errors.NotYet) as caught:
            breaker.call(verb, service_context())
        assert caught.value.relayed
    assert time.monotonic() - began < PATIENCE
    assert not breaker.is_open
    assert status_of(caught.value) == 503
    new.tell(service_context())
    assert old.ping(service_context()) == "pong"
    assert answers.told == 0
    server.stop()


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """A port where connections are taken and nothing is said, or that, or (b"") where they are cut off."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as kept:
        server.settimeout(0.1)

        def take() -> None:
            while not over.is_set():
                with suppress(OSError):
                    line = kept.enter_context(server.accept()[0])
                    if answer is not None:
                        line.sendall(answer)
                        line.close()

        taking = threading.Thread(target=take)
        taking.start()
        yield server.getsockname()[1]
        over.set()
        taking.join()


@pytest.mark.parametrize("answer", [None, b"", b"AMQP\0\0\x09\x01", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_broker_that_hangs_or_raves_is_away(answer: bytes | None) -> None:
    with listening(answer) as port:
        transport = Transport("east", f"rabbit://top:p@127.0.0.1:{port}/x")
        began = time.monotonic()
        with pytest.raises(errors.Unreachable) as caught:
            transport.client(Questions).ask(service_context(1), [])
        assert time.monotonic() - began < PATIENCE
        assert status_of(caught.value) == 503
        transport.close()


def test_a_broker_that_is_away_is_said_to_be_so_at_once() -> None:
    transport = Transport("east", "rabbit://conductor:p@127.0.0.1:9/x")
    began = time.monotonic()
    with pytest.raises(errors.Unreachable):
        transport.client(Questions).ask(service_context(2), [])
    assert time.monotonic() - began < PATIENCE
    transport.close()
