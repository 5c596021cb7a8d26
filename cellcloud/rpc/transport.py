"""The one door to oslo.messaging.

A ``Transport`` belongs to one cell. Every call has a deadline that holds even when the broker is away: it is made in
a bounded pool and given up when its time is over. Errors of our tree cross as values; anything else a server raises
reaches the caller as CallHuman, without its text.

What a call is given and what it answers cross as texts: oslo.messaging writes and reads all values twice, one by one,
and a batch has thousands of them.
"""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import os
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from oslo_config import cfg

sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type] # threads serve here: keep futurist from loading it
from oslo_service import backend  # noqa: E402

backend.init_backend(backend.BackendType.THREADING)

import oslo_messaging as messaging  # noqa: E402

from cellcloud import errors, log, metrics  # noqa: E402
from cellcloud.context import RequestContext  # noqa: E402
from cellcloud.model import codec  # noqa: E402
from cellcloud.rpc import memory  # noqa: E402
from cellcloud.rpc.interface import Verb, topic_of, verbs_of  # noqa: E402

memory.install()
LOG = logging.getLogger(__name__)
T = TypeVar("T")
# Sees each message on its way out: (interface, verb, deliver). Tests lose, repeat and reorder with it.
Shim = Callable[[str, str, Callable[[], Any]], Any]
RABBIT = {
    "heartbeat_timeout_threshold": 20,
    "kombu_reconnect_delay": 0.2,
    "rabbit_interval_max": 2,
    "conn_pool_min_size": 1,
}


@functools.cache
def _options() -> Any:
    """oslo.messaging reads some options from the process-wide object only, so that is the one it gets."""
    cfg.CONF([], project="cellcloud", default_config_files=[])
    return cfg.CONF


def _look_seldom() -> None:
    """After each message a consumer wakes up after 1, 2, 4, 8 ... ms to see whether another thread has asked it to
    acknowledge one. RPC acknowledges where it receives, so nobody waits for that, and looking took a sixth of the
    processors' time of a create."""
    from oslo_messaging._drivers import amqpdriver

    amqpdriver.ACK_REQUEUE_EVERY_SECONDS_MIN = 1.0


class Transport:
    """A cell's queue as clients and servers use it. Safe to call from several threads."""

    def __init__(self, cell: str, url: str, *, pool_size: int = 64, shim: Shim | None = None) -> None:
        self.cell = cell
        self.shim = shim
        options = _options()
        try:
            self._transport = messaging.get_rpc_transport(options, url)
        except messaging.DriverLoadFailure as error:
            raise errors.Misconfigured("The queue's URL is not one oslo.messaging knows.") from error
        if url.startswith("rabbit"):
            _look_seldom()
            for name, value in RABBIT.items():
                options.set_override(name, value, group="oslo_messaging_rabbit")
        else:
            options.set_override("heartbeat_timeout_threshold", 0, group="oslo_messaging_rabbit")
        self._slots = threading.BoundedSemaphore(pool_size)

    def client(self, interface: type[T], *, server: str | None = None) -> T:
        """An object whose methods are the interface's verbs, sent to ``server`` or to any that serves it."""
        return _Client(self, interface, server)  # type: ignore[return-value]

    def serve(self, interface: type[T], implementation: T, *, server: str, threads: int = 32) -> Server:
        """Start answering the interface's verbs with ``implementation``'s methods, so many at once."""
        return Server(self, interface, implementation, server, threads)

    def close(self) -> None:
        """Let go of the queue; not waited for when its broker is away."""
        closing = threading.Thread(target=self._transport.cleanup, name=f"close-{self.cell}", daemon=True)
        closing.start()
        closing.join(timeout=3.0)

    def _bounded(self, work: Callable[[], Any], seconds: float) -> Any:
        """What ``work`` returns, if it does within ``seconds``. With the broker away oslo.messaging may block for
        as long as that lasts: the thread is then left behind, and there is only a bounded number of them."""
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
        except concurrent.futures.TimeoutError as error:
            raise errors.Unreachable(f"Cell {self.cell} did not answer in time.") from error
        except messaging.MessagingException as error:
            raise errors.Unreachable(f"Cell {self.cell} did not answer.", detail=str(error)) from error
        except (OSError, ConnectionError) as error:
            raise errors.Unreachable(f"Cell {self.cell} cannot be reached.", detail=str(error)) from error


class _Client:
    """Made by ``Transport.client``; its methods are built once, at construction."""

    def __init__(self, transport: Transport, interface: type[Any], server: str | None) -> None:
        target = messaging.Target(topic=topic_of(interface, transport.cell), server=server)
        raw = messaging.get_rpc_client(transport._transport, target, retry=0)
        for verb in verbs_of(interface).values():
            setattr(self, verb.name, _method(transport, raw, interface.__name__, verb))


def _method(transport: Transport, raw: Any, interface: str, verb: Verb) -> Callable[..., Any]:
    names = list(verb.parameters)

    def send(context: RequestContext, *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(names, args, strict=False)) | kwargs
        payload = {name: codec.to_wire(value) for name, value in given.items()}
        seconds = min(verb.timeout, context.remaining())

        def deliver() -> Any:
            if verb.answered:
                return raw.prepare(timeout=seconds).call(context.to_wire(), verb.name, payload=payload)
            return raw.prepare(fanout=verb.fanout or None).cast(context.to_wire(), verb.name, payload=payload)

        shim = transport.shim
        reply = transport._bounded(
            deliver if shim is None else lambda: shim(interface, verb.name, deliver), seconds + 0.5
        )
        return _read_reply(reply, verb) if verb.answered else None

    return send


def _read_reply(reply: Any, verb: Verb) -> Any:
    if not isinstance(reply, dict):
        raise errors.Unreachable("A service gave an answer that cannot be read.")
    if "error" in reply:
        problem = reply["error"]
        error = errors.by_name(problem.get("name", ""))(problem.get("message", ""), detail=problem.get("detail", ""))
        error.relayed = True
        raise error
    return codec.from_wire(reply.get("answer"), verb.answer)


class _Endpoint:
    """What oslo.messaging dispatches to: one method per verb."""

    target = messaging.Target()

    def __init__(self, interface: type[Any], implementation: Any) -> None:
        for verb in verbs_of(interface).values():
            setattr(self, verb.name, _handler(interface.__name__, verb, getattr(implementation, verb.name)))


def _handler(interface: str, verb: Verb, function: Callable[..., Any]) -> Callable[..., Any]:
    def handle(ctxt: dict[str, Any], payload: dict[str, Any]) -> Any:
        context = RequestContext.from_wire(ctxt)
        log.request_id.set(context.request_id)
        try:
            given = {
                name: codec.from_wire(payload[name], kind) for name, kind in verb.parameters.items() if name in payload
            }
            answer = codec.to_wire(function(context, **given))
        except errors.CellcloudError as error:
            metrics.CALLS.labels(interface, verb.name, type(error).__name__).inc()
            problem = {"name": type(error).__name__, "message": error.message, "detail": error.detail}
            return {"error": problem}
        except Exception as error:
            LOG.exception("call failed", extra={"verb": f"{interface}.{verb.name}"})
            metrics.CALLS.labels(interface, verb.name, "defect").inc()
            detail = f"{interface}.{verb.name}: {type(error).__name__}"
            return {"error": {"name": "CallHuman", "message": "An internal error occurred.", "detail": detail}}
        metrics.CALLS.labels(interface, verb.name, "ok").inc()
        return {"answer": answer}

    return handle


class Server:
    """Answers an interface's verbs until stopped."""

    def __init__(self, transport: Transport, interface: type[T], implementation: T, server: str, threads: int) -> None:
        target = messaging.Target(topic=topic_of(interface, transport.cell), server=server)
        self._server = messaging.get_rpc_server(transport._transport, target, [_Endpoint(interface, implementation)])
        self._server.start(override_pool_size=threads)

    def stop(self) -> None:
        """Take no more messages and finish those at hand."""
        self._server.stop()
        self._server.wait()


def unique_name(host: str) -> str:
    """A name for one of several alike services on a host."""
    return f"{host}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
