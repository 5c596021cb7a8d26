"""Who may say what to whom: every verb by every role, and what a host that was taken over would try."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import amqp
import pytest

from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.launcher.rabbitmq_servers import VHOST, Broker
from cellcloud.model.guest_commands import GuestEvent
from cellcloud.model.host import HostFacts, HostReport
from cellcloud.rpc.accounts import EACH, Account, Role, account_of, host_account, volume_account
from cellcloud.rpc.compute import Compute
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.feed_notification import Router
from cellcloud.rpc.interface import Verb, call, served_by, server_of, topic_of, verbs_of
from cellcloud.rpc.rights import INTERFACES, rights_of
from cellcloud.rpc.transport import Transport

Connect = Callable[[str], Transport]
CALLERS = [
    *(Account(role) for role in Role if role not in EACH),
    *(host_account("h1"), host_account("h2"), volume_account("h1"), volume_account("h2")),
]
FACTS = HostFacts(
    hypervisor_hostname="h", hypervisor_type="QEMU", hypervisor_version=1, host_ip="", vcpus=1, memory_mb=1, disk_gb=1
)


class Witness:
    """Implements any interface: remembers what got through, and answers that it did."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __getattr__(self, verb: str) -> Any:
        def hear(context: object, **_given: object) -> None:
            self.heard.append(verb)
            raise errors.Conflict("reached")

        return hear


@contextmanager
def serving(connect: Connect) -> Iterator[dict[str, Witness]]:
    """Every interface, each as its role; those of hosts as h1."""
    witnesses = {interface.__name__: Witness() for interface in INTERFACES}
    servers = []
    for interface in INTERFACES:
        role = server_of(interface)
        account = Account(role, "h1") if role in EACH else Account(role)
        witness: Any = witnesses[interface.__name__]
        servers.append(connect(account.name).serve(interface, witness, server="h1", threads=2))
    try:
        yield witnesses
    finally:
        for server in servers:
            server.stop()


@pytest.fixture(scope="module")
def conductor(connect: Connect) -> Iterator[Witness]:
    """What a conductor hears, on the queue of either kind."""
    witness: Any = Witness()
    server = connect("conductor").serve(Conductor, witness, server="c1", threads=4)
    yield witness
    server.stop()


@pytest.fixture(scope="module")
def attacked(rabbitmq: Broker) -> Iterator[tuple[Witness, Any]]:
    """What a conductor on the broker hears, and how it is asked by right."""
    witness: Any = Witness()
    with closing(Transport("east", rabbitmq.url("conductor"))) as transport:
        server = transport.serve(Conductor, witness, server="c1", threads=4)
        yield witness, transport.client(Conductor)
        server.stop()


def attempt(client: Any, verb: Verb, **given: object) -> str:
    """What became of a verb: reached, refused, or sent (a cast that the queue took)."""
    try:
        getattr(client, verb.name)(service_context(60.0), **given)
    except errors.Conflict:
        return "reached"
    except errors.Forbidden:
        return "refused"
    return "sent"


def about_itself(account: Account, verb: Verb) -> dict[str, object]:
    return {verb.about: account.host if verb.parameters[verb.about] is str else []} if verb.about else {}


def test_every_verb_is_for_those_who_are_named_and_for_nobody_else(connect: Connect) -> None:
    wrong: list[tuple[str, str, str]] = []
    with serving(connect) as witnesses:
        for interface in INTERFACES:
            casts: list[str] = []
            for account in CALLERS:
                client = connect(account.name).client(interface, server="h1")
                for verb in verbs_of(interface).values():
                    admitted = account.role is Role.CONDUCTOR or account.role in verb.callers
                    seen = attempt(client, verb, **about_itself(account, verb))
                    if verb.answered and (seen == "reached") != admitted:
                        wrong.append((account.name, f"{interface.__name__}.{verb.name}", seen))
                    if not verb.answered and admitted:
                        casts.append(verb.name)
            heard = witnesses[interface.__name__].heard
            end = time.monotonic() + 60
            while time.monotonic() < end and sum(verb in casts for verb in heard) < len(casts):
                time.sleep(0.02)
            unanswered = [name for name, verb in verbs_of(interface).items() if not verb.answered]
            assert sorted(verb for verb in heard if verb in unanswered) == sorted(casts), interface.__name__
    assert wrong == []


def test_what_hosts_may_call_says_which_host_it_is_about() -> None:
    for interface in INTERFACES:
        for verb in verbs_of(interface).values():
            assert verb.callers, f"{interface.__name__}.{verb.name} is for nobody"
            assert bool(verb.about) == (Role.HOST in verb.callers), f"{interface.__name__}.{verb.name}"
            assert not verb.about or verb.about in verb.parameters


@pytest.mark.parametrize(
    ("verb", "given"),
    [
        ("report_hosts", [HostReport(host="h2", facts=FACTS)]),
        ("report_hosts", [HostReport(host="h1", facts=FACTS), HostReport(host="h2", facts=FACTS)]),
        ("report_hosts", [HostReport(host="h1", facts=FACTS, queue="h2")]),
        ("report_hosts", [HostReport(host="h1-fake-0001x", facts=FACTS)]),
        ("report_events", [GuestEvent(host="h2", server_id="s", generation=1, power_state=4)]),
        ("report_events", [GuestEvent(host="", server_id="s", generation=1, power_state=4)]),
        ("list_expected_guests", "h2"),
        ("list_expected_guests", "h1.h2"),
        ("list_expected_guests", ""),
    ],
)
def test_a_host_speaks_for_itself(
    verb: str, given: object, connect: Connect, conductor: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    conductor.heard.clear()
    declared = verbs_of(Conductor)[verb]
    host: Any = connect("host.h1").client(Conductor)
    with caplog.at_level(logging.WARNING):
        assert attempt(host, declared, **{declared.about: given}) == "refused"
    told = [record for record in caplog.records if record.getMessage() == "call refused"]
    assert [record.__dict__["account"] for record in told] == ["host.h1"]
    assert conductor.heard == []
    own = HostReport(host="h1", facts=FACTS, queue="h1"), HostReport(host="h1-fake-0001", facts=FACTS, queue="h1")
    assert attempt(host, verbs_of(Conductor)["report_hosts"], reports=list(own)) == "reached"


def test_nobody_serves_as_another_or_receives_what_is_for_another(connect: Connect) -> None:
    witness: Any = Witness()
    for account, interface, server in (
        ("host.h2", Compute, "h1"),
        ("host.h2", Conductor, "c2"),
        ("scheduler", Conductor, "c2"),
        ("conductor", Router, "r"),
        ("metadata", Compute, "h1"),
    ):
        with pytest.raises(errors.Forbidden):
            connect(account).serve(interface, witness, server=server)


def test_an_answer_is_believed_from_whom_was_asked_alone(connect: Connect) -> None:
    """A conductor may write to everybody's queues; what it answers in a host's place is not believed all the same."""

    @served_by(Role.SCHEDULER, callers=(Role.CONDUCTOR,))
    class Question:
        @call(timeout=3.0)
        def ask(self, context: object) -> str: ...  # type: ignore[empty-body]

    @served_by(Role.CONDUCTOR, callers=(Role.CONDUCTOR,))
    class Impostor(Question):
        ask = Question.ask

    class Answers:
        def ask(self, context: object) -> str:
            return "me"

    transport = connect("conductor")
    server = transport.serve(Impostor, Answers(), server="s")  # type: ignore[arg-type]
    client: Any = transport.client(Impostor)
    assert client.ask(service_context(3.0)) == "me"
    Impostor.__server__ = Role.SCHEDULER  # the same queue, but whose answer is expected
    believing: Any = transport.client(Impostor)
    with pytest.raises(errors.Unreachable):
        believing.ask(service_context(3.0))
    server.stop()


def test_accounts_have_names_that_nobody_can_mistake() -> None:
    for account in CALLERS:
        assert account_of(account.name) == account
    for name in ("", "cell", "guest", "everybody", "host", "host.", "host.a/b", "host.a b", "top.x", "conductor/x"):
        assert account_of(name) is None, name
    for host in ("", "a/b", "a*", "a\n", "h1|conductor"):
        with pytest.raises(errors.Misconfigured):
            host_account(host)


@pytest.mark.parametrize(
    ("name", "mine"),
    [
        ("east/host.h1", True),
        ("east/host.h1/Compute", True),
        ("east/host.h1/answers/x", True),
        ("east/host.h11", False),
        ("east/host.h1.x", False),
        ("east/host.h1.x/Compute", False),
        ("west/host.h1", False),
        ("x/east/host.h1", False),
        ("east/hostzh1", False),
    ],
)
def test_names_that_begin_alike_are_anothers(name: str, mine: bool) -> None:
    rights = rights_of(host_account("h1"), "east")
    assert rights.allow("configure", name) is rights.allow("read", name) is rights.allow("write", name) is mine


def test_a_url_with_another_user_is_refused() -> None:
    for url in ("rabbit://cell:p@127.0.0.1:9/x", "rabbit://guest:guest@127.0.0.1:9/x", "rabbit://127.0.0.1:9/x"):
        with pytest.raises(errors.Misconfigured, match="none of a cell's accounts"):
            Transport("east", url)


# ---- the broker itself -----------------------------------------------------------------------------------------------
@pytest.fixture
def taken_over(rabbitmq: Broker) -> Iterator[amqp.Connection]:
    """A bare connection with the password of host h1."""
    login = {"userid": "host.h1", "password": rabbitmq.passwords["host.h1"], "virtual_host": VHOST}
    with closing(amqp.Connection(f"127.0.0.1:{rabbitmq.port}", confirm_publish=True, **login)) as connection:
        connection.connect()
        yield connection


CONDUCTORS = topic_of(Conductor, "east")
ATTACKS: dict[str, Callable[[amqp.Channel], object]] = {
    "the default exchange": lambda it: it.basic_publish(amqp.Message("x"), "", CONDUCTORS),
    "another host": lambda it: it.basic_publish(amqp.Message("x"), "east/host.h2", "east/host.h2/Compute"),
    "the top": lambda it: it.basic_publish(amqp.Message("x"), "east/top", "east/top/Router/all"),
    "the schedulers": lambda it: it.basic_publish(amqp.Message("x"), "east/scheduler", "east/scheduler/Scheduler"),
    "a forged sender": lambda it: it.basic_publish(
        amqp.Message("x", user_id="conductor"), "east/conductor", CONDUCTORS
    ),
    "reading another's queue": lambda it: it.basic_get(CONDUCTORS),
    "receiving from it": lambda it: it.basic_consume(CONDUCTORS),
    "deleting it": lambda it: it.queue_delete(CONDUCTORS),
    "emptying it": lambda it: it.queue_purge(CONDUCTORS),
    "deleting an exchange": lambda it: it.exchange_delete("east/conductor"),
    "a copy of what others get": lambda it: (
        it.queue_declare("east/host.h1/spy"),
        it.queue_bind("east/host.h1/spy", "east/conductor", CONDUCTORS),
    ),
    "a queue of another name": lambda it: it.queue_declare("east/host.h2/Compute"),
    "an exchange that leads on": lambda it: (
        it.exchange_declare("east/host.h1", "direct"),
        it.exchange_bind("east/host.h1", "east/conductor", CONDUCTORS),
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_broker_refuses(attack: str, taken_over: amqp.Connection, attacked: tuple[Witness, Any]) -> None:
    witness, _ = attacked
    witness.heard.clear()
    with pytest.raises((amqp.AccessRefused, amqp.PreconditionFailed)):
        ATTACKS[attack](taken_over.channel())
    assert witness.heard == []


@pytest.mark.parametrize(
    "extra", [{}, {"user_id": "host.h1", "_reply_q": "east/host.h2/answers/x"}, {"_context_account": "top"}]
)
def test_a_message_without_a_sender_or_for_another_to_be_answered_does_nothing(
    extra: dict[str, str], taken_over: amqp.Connection, attacked: tuple[Witness, Any]
) -> None:
    inner = {"method": "release", "args": {"payload": {}}, "version": "1.0", "_msg_id": "m", "_unique_id": "u"}
    inner |= {"_reply_q": "east/host.h1/answers/x"} | {k: v for k, v in extra.items() if k.startswith("_")}
    body = json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(inner)})
    properties = {k: v for k, v in extra.items() if not k.startswith("_")}
    witness, client = attacked
    witness.heard.clear()
    message = amqp.Message(body, content_type="application/json", content_encoding="utf-8", **properties)
    taken_over.channel().basic_publish(message, "east/conductor", CONDUCTORS)
    time.sleep(0.3)
    assert witness.heard == []
    assert attempt(client, verbs_of(Conductor)["get_digest"]) == "reached"  # it serves on
