"""All that this project changes in libraries, and all that it uses of them without their promise.

``REACHES`` names the versions each was tried with. Another one fails a test: whoever takes it looks at what the library
changed, runs the suite, and adds the version. pyproject.toml keeps out what is newer than that.

The largest part is oslo.messaging's RabbitMQ driver with names that permissions can be given to, and senders that can
be believed. As it comes, every service shares one exchange, and answers go through the broker's default exchange, which
leads to every queue there is: who may answer may send anything to anybody. Here everything for an account goes through
its own exchange, each message carries the name of its sender, which the broker vouches for (AMQP's user-id), and only
the queues that are needed are made, to go by themselves when their process has gone.

Subclasses that override nothing but what a library documents for that are no patches, and stand where they are used.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from oslo_service import backend

# oslo.messaging asks oslo.service whether it works with threads; and futurist and oslo.utils would load eventlet, which
# oslo.service brings along: 19 MiB and 0.3 s of every process for nothing.
sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type]
backend.init_backend(backend.BackendType.THREADING)

import amqp
import oslo_messaging as messaging
from kombu import entity
from kombu.exceptions import KombuError
from kombu.messaging import Producer
from kombu.transport import TRANSPORT_ALIASES
from oslo_messaging._drivers import amqpdriver, base, impl_rabbit
from oslo_messaging._drivers import common as rpc_common
from oslo_messaging._drivers.amqp import AMQPDestinationNotFound

from cellcloud.socket_readability import is_readable

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """``names``: what is relied on, as ``module:Class.attribute`` or ``module:name``."""

    package: str
    tried: tuple[str, ...]
    why: str
    names: tuple[str, ...]


_RABBIT = "oslo_messaging._drivers.impl_rabbit:Connection"
_AMQP = "oslo_messaging._drivers.amqpdriver"
REACHES = (
    Reach(
        package="oslo.messaging",
        tried=("18.3.1",),
        why="Accounts of their own, senders that can be believed, answers to nobody but the asker: its drivers offer "
        "no seam for that.",
        names=(
            f"{_RABBIT}.consume",
            f"{_RABBIT}.topic_send",
            f"{_RABBIT}.fanout_send",
            f"{_RABBIT}.direct_send",
            f"{_RABBIT}.declare_direct_consumer",
            f"{_RABBIT}.declare_consumer",
            f"{_RABBIT}.rabbit_transient_quorum_queue",
            f"{_RABBIT}._set_current_channel",
            f"{_RABBIT}._ensure_publishing",
            f"{_RABBIT}._publish_and_raises_on_missing_exchange",
            f"{_RABBIT}._connection_lock",
            f"{_RABBIT}._producer",
            "oslo_messaging._drivers.impl_rabbit:Consumer",
            "oslo_messaging._drivers.impl_rabbit:RabbitMessage._raw_message",
            "oslo_messaging._drivers.impl_rabbit:RabbitDriver._get_reply_queue_name",
            "oslo_messaging._drivers.impl_rabbit:rabbit_opts",
            "oslo_messaging._drivers.base:PollStyleListenerAdapter",
            "oslo_messaging._drivers.common:PURPOSE_LISTEN",
            "oslo_messaging._drivers.amqp:AMQPDestinationNotFound",
            f"{_AMQP}:RpcAMQPListener.__call__",
            f"{_AMQP}:AMQPDriverBase._get_connection",
            f"{_AMQP}:AMQPDriverBase._connection_pool",
        ),
    ),
    Reach(
        package="kombu",
        tried=("5.7.0",),
        why="A transport of one's own is named in its table, which it documents and offers no function for.",
        names=("kombu.transport:TRANSPORT_ALIASES",),
    ),
    Reach(
        package="oslo.service",
        tried=("4.8.0",),
        why="It requires eventlet, which the libraries beside it load where they find it.",
        names=("oslo_utils.eventletutils:EVENTLET_AVAILABLE",),
    ),
    Reach(
        package="a2wsgi",
        tried=("1.10.10",),
        why="A request that is there in whole needs its environment alone, not its threads.",
        names=("a2wsgi.wsgi:build_environ",),
    ),
    Reach(
        package="Werkzeug",
        tried=("3.1.9",),
        why="Of each rule it compiles two functions that build URLs, nine tenths of the time that a map of them takes.",
        names=("werkzeug.routing:Rule._compile_builder",),
    ),
    Reach(
        package="psycopg",
        tried=("3.3.9",),
        why="It has no time-out for an answer.",
        names=("psycopg:Connection.wait",),
    ),
)

# ---- oslo.messaging ------------------------------------------------------------------------------------------------
SENDER = "_context_account"  # the key of a message under which its receiver finds the sender
UNKNOWN_VERBS = {"NoSuchMethod", "UnsupportedVersion"}
LOOK_SECONDS = 1.0  # after a message a consumer would look for acknowledgements to send after 1, 2, 4, 8 ... ms
LOOK_SECONDS_IN_MEMORY = 0.25  # until a consumer that is told to stop does
RABBIT_OPTIONS = impl_rabbit.rabbit_opts
DestinationNotFound = AMQPDestinationNotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """In whose name a process sends. ``allows``: whether it has a right ("read", "write") to a queue or an exchange;
    None where a broker looks at that. ``exchange_of``: the exchange by which a queue is reached."""

    cell: str
    account: str
    allows: Callable[[str, str], bool] | None
    exchange_of: Callable[[str], str]


class Connection(impl_rabbit.Connection):  # type: ignore[misc]
    """Made for one account. In the memory of one process, where no broker does it, it looks at the rights itself."""

    def __init__(self, sender: Sender, *args: Any, **options: Any) -> None:
        self._sender = sender
        self._passing: list[impl_rabbit.Consumer] = []
        self._line: Any = None  # the protocol's connection under the present channel
        super().__init__(*args, **options)

    def declare_queue(self, queue: str, key: str, callback: Any, *, lasting: bool) -> None:
        """Receive what comes to the queue's exchange under ``key``. ``lasting``: as the deployment wants queues that
        processes share."""
        self._check("read", queue)
        quorum = self.rabbit_quorum_queue if lasting else self.rabbit_transient_quorum_queue
        consumer = impl_rabbit.Consumer(
            exchange_name=self._sender.exchange_of(queue),
            queue_name=queue,
            routing_key=key,
            type="direct",
            durable=self.durable if lasting else quorum,
            exchange_auto_delete=True,
            queue_auto_delete=False,
            callback=callback,
            rabbit_ha_queues=self.rabbit_ha_queues,
            rabbit_queue_ttl=self.rabbit_transient_queues_ttl,
            enable_cancel_on_failover=self.enable_cancel_on_failover,
            rabbit_quorum_queue=quorum,
            rabbit_quorum_queue_config=self.rabbit_quorum_queue_config,
        )
        consumer.exchange.durable = self.durable
        if not lasting:
            self._passing.append(consumer)
        self.declare_consumer(consumer)

    def consume(self, timeout: float | None = None) -> None:
        """Receive, and look up seldom: RPC acknowledges where it receives, so nobody waits for that, and looking took
        a sixth of the processors' time of a create."""
        in_memory = self._sender.allows is not None
        super().consume(timeout=LOOK_SECONDS_IN_MEMORY if in_memory else max(timeout or 0.0, LOOK_SECONDS))

    def close(self) -> None:
        """Take along the queues that nobody else receives from; those of a process that was killed expire."""
        for consumer in self._passing:
            with contextlib.suppress(OSError, amqp.AMQPError, KombuError):
                consumer.queue.delete()
        super().close()

    def declare_direct_consumer(self, topic: str, callback: Any) -> None:
        """Receive this process's answers."""
        self.declare_queue(topic, topic, functools.partial(_hear_answer, callback), lasting=False)

    def topic_send(self, exchange_name: str, topic: str, msg: Any, **options: Any) -> None:
        self._send(topic, msg, **options)

    def fanout_send(self, topic: str, msg: Any, retry: Any = None) -> None:
        self._send(f"{topic}/all", msg, retry=retry)

    def direct_send(self, msg_id: str, msg: Any) -> None:
        self._send(msg_id, msg, transport_options=messaging.TransportOptions(at_least_once=True))

    def _send(self, queue: str, msg: Any, **options: Any) -> None:
        """Send to the queue's exchange, which is its owner's to make. Raises DestinationNotFound without one."""
        exchange = self._sender.exchange_of(queue)
        self._check("write", exchange)
        where = entity.Exchange(exchange, type="direct", passive=True)  # type: ignore[no-untyped-call]
        publish = self._publish_and_raises_on_missing_exchange
        self._ensure_alive()
        try:
            self._ensure_publishing(publish, where, msg, routing_key=queue, **options)
        except messaging.MessageDeliveryFailure:
            with self._connection_lock:
                self._let_go()
            raise

    def _ensure_alive(self) -> None:
        """Let go of a connection that died while nobody used it, before a message is sent on it: of one that was sent
        and not confirmed nobody could say whether it arrived. The next step connects anew."""
        with self._connection_lock:
            line = getattr(getattr(self.channel, "connection", None), "sock", None)
            if line is None or not is_readable(line):
                return
            try:
                self.connection.drain_events(timeout=0.001)
            except TimeoutError:
                return
            except (OSError, amqp.AMQPError, KombuError):
                self._let_go()

    def _let_go(self) -> None:
        """Forget a connection that failed, without a word to the other side. Kept, it would be offered again by the
        pool and fail for ever: kombu makes no new channel on a connection whose first one was closed."""
        if self._sender.allows is None and self._line is not None:
            self._line.collect()
        self._set_current_channel(None)

    def _set_current_channel(self, new_channel: Any) -> None:
        super()._set_current_channel(new_channel)
        if new_channel is not None:
            self._line = new_channel.connection
            self._producer.publish = functools.partial(Producer.publish, self._producer, user_id=self._sender.account)

    def _check(self, right: str, name: str) -> None:
        if self._sender.allows is not None and not self._sender.allows(right, name):
            text = f"ACCESS_REFUSED - {right} access to {name} refused for user {self._sender.account}"
            raise amqp.AccessRefused(text)


def _hear_answer(callback: Any, message: Any) -> None:
    """Pass an answer on with the name of its sender. That a peer knows no such verb, or has failed at one, is an
    answer like others."""
    sender = message._raw_message.properties.get("user_id", "")
    if message.get("failure"):
        failed = json.loads(str(message["failure"]))
        name = "NotYet" if failed.get("class") in UNKNOWN_VERBS else "CallHuman"
        text = "A service is too old for this." if name == "NotYet" else "An internal error occurred."
        detail = f"{failed.get('class')}: {failed.get('message')}"
        message["failure"] = None
        message["result"] = {"error": {"name": name, "message": text, "detail": detail}}
    if isinstance(message.get("result"), dict):
        message["result"]["sender"] = sender
    callback(message)


class _Listener(amqpdriver.RpcAMQPListener):  # type: ignore[misc]
    """Tells who sent a message by the broker's word, and answers nobody but the sender."""

    def __call__(self, message: Any) -> None:
        sender = message._raw_message.properties.get("user_id", "")
        message[SENDER] = sender
        answers = message.get("_reply_q")
        if answers and not str(answers).startswith(f"{self.driver.sender.cell}/{sender}/"):
            LOG.warning("message dropped: its answer was to go to another", extra={"account": sender, "to": answers})
            message.acknowledge()
            return
        super().__call__(message)


class RpcDriver(impl_rabbit.RabbitDriver):  # type: ignore[misc]
    """For one account of one cell's queue."""

    def __init__(self, conf: Any, url: messaging.TransportURL, sender: Sender) -> None:
        self.sender = sender
        super().__init__(conf, url, default_exchange=sender.cell, allowed_remote_exmods=[])
        self._connection_pool.connection_cls = functools.partial(Connection, sender)

    def listen(self, target: messaging.Target, batch_size: int, batch_timeout: float) -> Any:
        """Receive from the target's queue, and with ``fanout`` what is for all who serve it."""
        connection = self._get_connection(rpc_common.PURPOSE_LISTEN)
        listener = _Listener(self, connection)
        connection.declare_queue(target.topic, target.topic, listener, lasting=True)
        if target.fanout:
            queue = f"{target.topic}/all/{uuid.uuid4().hex}"
            connection.declare_queue(queue, f"{target.topic}/all", listener, lasting=False)
        return base.PollStyleListenerAdapter(listener, batch_size, batch_timeout)

    def _get_reply_queue_name(self) -> str:
        return f"{self.sender.cell}/{self.sender.account}/answers/{uuid.uuid4().hex}"


# ---- kombu ---------------------------------------------------------------------------------------------------------
def name_transport(name: str, place: str) -> None:
    """Let URLs that begin with ``name`` lead to the class at ``place``: ``module:Class``."""
    TRANSPORT_ALIASES[name] = place


# ---- a2wsgi --------------------------------------------------------------------------------------------------------
def wsgi_environ(scope: Any) -> dict[str, Any]:
    """Return the WSGI environment of an ASGI request, without its body."""
    from a2wsgi.wsgi import build_environ

    return {**build_environ(scope, cast(Any, None))}


# ---- Werkzeug ------------------------------------------------------------------------------------------------------
@functools.cache
def matching_rule() -> Any:
    """Return a class of Werkzeug's rules that match paths, and that no URL is built from."""
    from werkzeug.routing import Rule

    class Matching(Rule):
        def _compile_builder(self, append_unknown: bool = True) -> Any:
            return _build_nothing

    return Matching


def _build_nothing(_rule: Any, **_values: Any) -> Any:
    raise NotImplementedError("No URL is built from a rule.")


# ---- psycopg -------------------------------------------------------------------------------------------------------
@functools.cache
def impatient_postgresql_connection(seconds: float) -> Any:
    """Return a class of psycopg connections whose every exchange with the server takes at most that long."""
    import psycopg

    class Impatient(psycopg.Connection[Any]):
        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return super().wait(gen, interval, timeout or seconds)
            except psycopg.errors.PipelineAborted:  # an earlier statement of several failed, and the server said so
                raise
            except psycopg.OperationalError as error:
                if error.sqlstate is None:  # not the server's word: nobody knows what it still does
                    self.pgconn.finish()
                raise

    return Impatient
