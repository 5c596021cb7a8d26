"""The one door to oslo.messaging.

A ``Transport`` belongs to one cell and one of its accounts: the user of its URL. Every call has a deadline that holds
even when the broker is away or hangs: it is made in a bounded pool and given up when its time is over. Errors of our
tree cross as values; anything else a server raises reaches the caller as CallHuman, without its text.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from cellcloud import third_party_patches  # first, before oslo.messaging is loaded

# isort: split
import oslo_messaging as messaging
from oslo_config import cfg

from cellcloud import errors, log, metrics
from cellcloud.context import RequestContext
from cellcloud.rpc import memory, paging
from cellcloud.rpc.accounts import EACH, EVERYBODY, Account, account_of, exchange_of
from cellcloud.rpc.interface import Verb, server_of, topic_of, verbs_of, version_of
from cellcloud.rpc.rights import rights_of
from cellcloud.rpc.serializer import Arguments, Heard, Message, Reply, Serializer
from cellcloud.third_party_patches import DestinationNotFound

LOG = logging.getLogger(__name__)
T = TypeVar("T")
ACCESS_REFUSED = "ACCESS_REFUSED"
BROKER, IN_MEMORY = "rabbit", "kombu+memory"  # what a queue's URL begins with
# Sees each message on its way out: (interface, verb, deliver). Tests lose, repeat and reorder with it.
Shim = Callable[[str, str, Callable[[], Any]], Any]
RABBIT = {
    "heartbeat_timeout_threshold": 20,
    "kombu_reconnect_delay": 0.2,
    "rabbit_interval_max": 2,
    "conn_pool_min_size": 1,
    "kombu_missing_consumer_retry_timeout": 10,
    "rabbit_transient_queues_ttl": 300,  # seconds without a receiver after which any queue goes
}


@functools.cache
def _options() -> Any:
    """oslo.messaging reads some options from the process-wide object only, so that is the one it gets."""
    cfg.CONF([], project="cellcloud", default_config_files=[])
    return cfg.CONF


def _account_in(url: messaging.TransportURL) -> Account:
    """Return the account that a queue's URL names. Raises ValueError."""
    if url.transport not in (BROKER, IN_MEMORY):
        raise ValueError(f"it must begin with {BROKER} or {IN_MEMORY}")
    name = url.hosts[0].username or "" if url.hosts else ""
    account = EVERYBODY if url.transport == IN_MEMORY and not name else account_of(name)
    if account is None:
        raise ValueError(f"{name!r} is none of a cell's accounts: top, conductor, scheduler, ..., host.NAME")
    return account


class Transport:
    """A cell's queue as clients and servers use it. Safe to call from several threads."""

    def __init__(self, cell: str, url: str, *, pool_size: int = 64, shim: Shim | None = None) -> None:
        self.cell = cell
        self.shim = shim
        options = _options()
        options.register_opts(third_party_patches.RABBIT_OPTIONS, group="oslo_messaging_rabbit")
        if url.startswith(BROKER):
            for name, value in RABBIT.items():
                options.set_override(name, value, group="oslo_messaging_rabbit")
        else:
            options.set_override("heartbeat_timeout_threshold", 0, group="oslo_messaging_rabbit")
        try:
            parsed = messaging.TransportURL.parse(options, url)
            self._in_memory: bool = parsed.transport == IN_MEMORY
            self.account = _account_in(parsed)
            if self._in_memory:
                parsed = messaging.TransportURL(options, f"kombu+{memory.NAME}", virtual_host="memory")
            driver = third_party_patches.RpcDriver(options, parsed, self._sender())
        except (messaging.InvalidTransportURL, ValueError, KeyError) as error:
            raise errors.Misconfigured(f"The URL of cell {cell}'s queue cannot be used: {error}") from error
        self._transport = messaging.transport.RPCTransport(driver)
        self._slots = threading.BoundedSemaphore(pool_size)

    def _sender(self) -> third_party_patches.Sender:
        allows = rights_of(self.account, self.cell).allow if self._in_memory else None
        return third_party_patches.Sender(
            cell=self.cell, account=self.account.name, allows=allows, exchange_of=exchange_of
        )

    def client(self, interface: type[T], *, server: str | None = None) -> T:
        """Return an object whose methods are the interface's verbs, sent to ``server`` or to any that serves it."""
        return _Client(self, interface, server)  # type: ignore[return-value]

    def serve(self, interface: type[T], implementation: T, *, server: str, threads: int = 32) -> Server:
        """Start answering the interface's verbs with ``implementation``'s methods, so many at once."""
        return Server(self, interface, implementation, server, threads)

    def sender(self, name: str) -> Account | None:
        """Return the account that a message is from; None when the queue vouches for none that it knows."""
        return EVERYBODY if self._in_memory and name == EVERYBODY.name else account_of(name)

    def close(self) -> None:
        """Let go of the queue; not waited for when its broker is away."""
        closing = threading.Thread(target=self._transport.cleanup, name=f"close-{self.cell}", daemon=True)
        closing.start()
        closing.join(timeout=3.0)

    def _bounded(self, work: Callable[[], Any], seconds: float) -> Any:
        """Return what ``work`` returns, if it does within ``seconds``. With the broker away oslo.messaging may block
        for as long as that lasts: the thread is then left behind, and there is only a bounded number of them."""
        if not self._slots.acquire(timeout=seconds):
            raise errors.Unreachable(f"Cell {self.cell} did not answer in time.")
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def fulfil() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 -- raised again where it is waited for
                future.set_exception(error)
            finally:
                self._slots.release()

        threading.Thread(target=fulfil, name=f"call-{self.cell}", daemon=True).start()
        try:
            return future.result(timeout=seconds)
        except OSError as error:  # a time-out is one
            raise self.translated(error) from error

    def translated(self, error: Exception) -> errors.CellcloudError:
        """Return what an error of oslo.messaging, kombu, the protocol's library or the socket means."""
        if isinstance(error, concurrent.futures.TimeoutError | messaging.MessagingTimeout):
            return errors.Unreachable(f"Cell {self.cell} did not answer in time.", detail=str(error))
        if isinstance(error, DestinationNotFound | messaging.MessageUndeliverable):
            return errors.Unreachable(f"Nobody in cell {self.cell} serves this now.", detail=str(error))
        if ACCESS_REFUSED in str(error):
            return errors.Forbidden(f"The queue of cell {self.cell} refuses this.", detail=str(error))
        return errors.Unreachable(f"Cell {self.cell} cannot be reached.", detail=str(error))


class _Client:
    """Made by ``Transport.client``; its methods are built once, at construction."""

    def __init__(self, transport: Transport, interface: type[Any], server: str | None) -> None:
        role = server_of(interface)
        believed = Account(role, server or "") if role in EACH else Account(role)
        target = messaging.Target(topic=topic_of(interface, transport.cell, server))
        certain = messaging.TransportOptions(at_least_once=True)
        raw = messaging.get_rpc_client(
            transport._transport, target, retry=0, transport_options=certain, serializer=Serializer()
        )
        for verb in verbs_of(interface).values():
            setattr(self, verb.name, _method(transport, raw, interface.__name__, verb, believed))


def _method(transport: Transport, raw: Any, interface: str, verb: Verb, believed: Account) -> Callable[..., Any]:
    names = list(verb.parameters)
    version = f"1.{verb.since}"

    def ask(context: RequestContext, payload: Arguments) -> Message:
        seconds = min(verb.timeout, context.remaining())

        def deliver() -> Any:
            try:
                if verb.answered:
                    prepared = raw.prepare(timeout=seconds, version=version)
                    return prepared.call(context, verb.name, payload=payload)
                prepared = raw.prepare(fanout=verb.fanout or None, version=version)
                with contextlib.suppress(DestinationNotFound, messaging.MessageUndeliverable):  # it may be lost
                    prepared.cast(context, verb.name, payload=payload)
            except Exception as error:
                raise transport.translated(error) from error
            return None

        shim = transport.shim
        sent: Message = transport._bounded(
            deliver if shim is None else lambda: shim(interface, verb.name, deliver), seconds + 0.5
        )
        return sent

    def send(context: RequestContext, *args: Any, **kwargs: Any) -> Any:
        given = Arguments.of(dict(zip(names, args, strict=False)) | kwargs)
        with _timed(transport.cell, f"{interface}.{verb.name}"):
            if verb.pages:
                return _read_pages(transport, functools.partial(ask, context), given, verb, believed)
            reply = ask(context, given)
            return _read_reply(transport, reply, verb, believed) if verb.answered else None

    return send


@contextlib.contextmanager
def _timed(cell: str, method: str) -> Iterator[None]:
    begun, outcome = time.monotonic(), "ok"
    metrics.CALLS_WAITING.labels(cell).inc()
    try:
        yield
    except errors.CellcloudError as error:
        outcome = type(error).__name__
        raise
    finally:
        metrics.CALLS_WAITING.labels(cell).dec()
        metrics.CALL_TIMES.labels(cell, method, outcome).observe(time.monotonic() - begun)


def _read_pages(
    transport: Transport, ask: Callable[[Arguments], Message], given: Arguments, verb: Verb, believed: Account
) -> list[Any]:
    """All of a list, in as many messages as it takes."""
    found: list[Any] = []
    wanted: dict[str, Any] = {}
    while True:
        reply = ask(Arguments(given.texts, wanted))
        found += _read_reply(transport, reply, verb, believed)
        if reply.more is None:
            return found
        wanted = {"after": reply.more}


def _read_reply(transport: Transport, reply: Message, verb: Verb, believed: Account) -> Any:
    """``believed``: whose answer it must be."""
    if transport.sender(reply.account) not in (believed, EVERYBODY):
        LOG.error("answer not believed", extra={"verb": verb.name, "account": reply.account})
        raise errors.Unreachable("An answer did not come from the service that was asked.")
    return reply.answer(verb.answer)


class _Endpoint:
    """What oslo.messaging dispatches to: one method per verb."""

    def __init__(self, transport: Transport, interface: type[Any], implementation: Any) -> None:
        self.target = messaging.Target(version=version_of(interface))
        for verb in verbs_of(interface).values():
            function = getattr(implementation, verb.name)
            after = getattr(type(implementation), f"{verb.name}_after", None) if verb.pages else None
            resume = None if after is None else functools.partial(after, implementation)
            setattr(self, verb.name, _handler(transport, interface.__name__, verb, function, resume))


def _handler(
    transport: Transport,
    interface: str,
    verb: Verb,
    function: Callable[..., Any],
    resume: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """``resume``: answers from an item on, see ``paging``."""

    def perform(context: RequestContext, payload: Message, sender: Account | None) -> Reply:
        if sender is None or not verb.admits(sender):
            raise errors.Forbidden("This account may not ask for that.")
        given = payload.arguments(verb.parameters)
        if not verb.is_about(sender, given):
            raise errors.Forbidden("This account may not speak for another host.")
        if not verb.pages or payload.page is None:
            return Reply.of(function(context, **given))
        after = payload.page.get("after")
        if resume is None:
            return Reply(*paging.page_of(function(context, **given), verb.pages, after))
        return Reply(*paging.first_page(resume(context, after, **given), verb.pages))

    def handle(heard: Heard, payload: Message) -> Reply | errors.CellcloudError:
        log.request_id.set(heard.context.request_id)
        try:
            try:
                reply = perform(heard.context, payload, transport.sender(heard.account))
            except errors.LostConnection:  # any message may come twice, so what it asks may be done twice
                reply = perform(heard.context, payload, transport.sender(heard.account))
        except errors.CellcloudError as error:
            metrics.CALLS.labels(interface, verb.name, type(error).__name__).inc()
            if isinstance(error, errors.Forbidden):
                facts = {"account": heard.account, "verb": f"{interface}.{verb.name}", "why": error.message}
                LOG.warning("call refused", extra=facts)
            return error
        except Exception as error:
            LOG.exception("call failed", extra={"verb": f"{interface}.{verb.name}"})
            metrics.CALLS.labels(interface, verb.name, "defect").inc()
            detail = f"{interface}.{verb.name}: {type(error).__name__}"
            return errors.CallHuman("An internal error occurred.", detail=detail)
        metrics.CALLS.labels(interface, verb.name, "ok").inc()
        return reply

    return handle


class Server:
    """Answers an interface's verbs until stopped."""

    def __init__(self, transport: Transport, interface: type[T], implementation: T, server: str, threads: int) -> None:
        heard_by_all = any(verb.fanout for verb in verbs_of(interface).values())
        topic = topic_of(interface, transport.cell, server)
        target = messaging.Target(topic=topic, server=server, fanout=heard_by_all)
        endpoint = _Endpoint(transport, interface, implementation)
        self._server = messaging.get_rpc_server(transport._transport, target, [endpoint], serializer=Serializer())
        try:
            self._server.start(override_pool_size=threads)
        except Exception as error:
            raise transport.translated(error) from error

    def stop(self) -> None:
        """Take no more messages and finish those at hand."""
        self._server.stop()
        self._server.wait()


def unique_name(host: str) -> str:
    """Return a name for one of several alike services on a host."""
    return f"{host}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
