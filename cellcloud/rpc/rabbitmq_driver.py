"""oslo.messaging's RabbitMQ driver with names that permissions can be given to, and senders that can be believed.

As it comes, every service shares one exchange, and answers go through the broker's default exchange, which leads to
every queue there is: who may answer may send anything to anybody. Here everything for an account goes through its own
exchange (see ``accounts``), each message carries the name of its sender, which the broker vouches for (AMQP's user-id),
and only the queues that are needed are made, to go by themselves when their process has gone.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import uuid
from typing import Any

import amqp
import oslo_messaging as messaging
from kombu import entity
from kombu.exceptions import KombuError
from kombu.messaging import Producer
from oslo_messaging._drivers import amqpdriver, base, impl_rabbit
from oslo_messaging._drivers import common as rpc_common

from cellcloud.rpc.accounts import EVERYBODY, Account, account_of, exchange_of
from cellcloud.rpc.rights import Rights, rights_of
from cellcloud.socket_poll import is_readable

LOG = logging.getLogger(__name__)
SENDER = "_context_account"  # the key of a message under which its receiver finds the sender
SCHEMES = ("rabbit", "kombu+memory")
UNKNOWN_VERBS = {"NoSuchMethod", "UnsupportedVersion"}


class Connection(impl_rabbit.Connection):  # type: ignore[misc]
    """Made for one account. In the memory of one process, where no broker does it, it looks at the rights itself."""

    def __init__(self, account: Account, rights: Rights | None, *args: Any, **options: Any) -> None:
        self._account = account
        self._rights = rights
        self._passing: list[impl_rabbit.Consumer] = []
        super().__init__(*args, **options)

    def declare_queue(self, queue: str, key: str, callback: Any, *, lasting: bool) -> None:
        """Receive what comes to the queue's exchange under ``key``. ``lasting``: as the deployment wants queues that
        processes share."""
        self._check("read", queue)
        quorum = self.rabbit_quorum_queue if lasting else self.rabbit_transient_quorum_queue
        consumer = impl_rabbit.Consumer(
            exchange_name=exchange_of(queue),
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

    def close(self) -> None:
        """Take along the queues that nobody else receives from; those of a process that was killed expire."""
        for consumer in self._passing:
            with contextlib.suppress(OSError, amqp.AMQPError, KombuError):
                consumer.queue.delete()
        super().close()

    def declare_direct_consumer(self, topic: str, callback: Any) -> None:
        """The queue of this process's answers."""
        self.declare_queue(topic, topic, functools.partial(_hear_answer, callback), lasting=False)

    def topic_send(self, exchange_name: str, topic: str, msg: Any, **options: Any) -> None:
        self._send(topic, msg, **options)

    def fanout_send(self, topic: str, msg: Any, retry: Any = None) -> None:
        self._send(f"{topic}/all", msg, retry=retry)

    def direct_send(self, msg_id: str, msg: Any) -> None:
        self._send(msg_id, msg, transport_options=messaging.TransportOptions(at_least_once=True))

    def _send(self, queue: str, msg: Any, **options: Any) -> None:
        """Send to the queue's exchange, which is its owner's to make. Raises AMQPDestinationNotFound without one."""
        exchange = exchange_of(queue)
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
        if self._rights is None and self.connection._connection is not None:
            self.connection._connection.collect()
        self._set_current_channel(None)

    def _set_current_channel(self, new_channel: Any) -> None:
        super()._set_current_channel(new_channel)
        if new_channel is not None:
            self._producer.publish = functools.partial(Producer.publish, self._producer, user_id=self._account.name)

    def _check(self, right: str, name: str) -> None:
        if self._rights is not None and not self._rights.allow(right, name):
            text = f"ACCESS_REFUSED - {right} access to {name} refused for user {self._account.name}"
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


class Listener(amqpdriver.RpcAMQPListener):  # type: ignore[misc]
    """Tells who sent a message by the broker's word, and answers nobody but the sender."""

    def __call__(self, message: Any) -> None:
        sender = message._raw_message.properties.get("user_id", "")
        message[SENDER] = sender
        answers = message.get("_reply_q")
        if answers and not str(answers).startswith(f"{self.driver.cell}/{sender}/"):
            LOG.warning("message dropped: its answer was to go to another", extra={"account": sender, "to": answers})
            message.acknowledge()
            return
        super().__call__(message)


class RpcDriver(impl_rabbit.RabbitDriver):  # type: ignore[misc]
    """For one account of one cell's queue. Raises ValueError when the URL's user is none of the cell's accounts."""

    def __init__(self, conf: Any, url: messaging.TransportURL, cell: str) -> None:
        self.cell = cell
        if url.transport not in SCHEMES:
            raise ValueError(f"it must begin with one of {', '.join(SCHEMES)}")
        self.in_memory = url.transport == "kombu+memory"
        name = url.hosts[0].username or "" if url.hosts else ""
        account = account_of(name) if name or not self.in_memory else EVERYBODY
        if account is None:
            raise ValueError(f"{name!r} is none of a cell's accounts: top, conductor, scheduler, ..., host.NAME")
        self.account = account
        if self.in_memory:
            url.hosts.clear()
        super().__init__(conf, url, default_exchange=cell, allowed_remote_exmods=[])
        rights = rights_of(account, cell) if self.in_memory else None
        self._connection_pool.connection_cls = functools.partial(Connection, account, rights)

    def listen(self, target: messaging.Target, batch_size: int, batch_timeout: float) -> Any:
        """Receive from the target's queue, and with ``fanout`` what is for all who serve it."""
        connection = self._get_connection(rpc_common.PURPOSE_LISTEN)
        listener = Listener(self, connection)
        connection.declare_queue(target.topic, target.topic, listener, lasting=True)
        if target.fanout:
            queue = f"{target.topic}/all/{uuid.uuid4().hex}"
            connection.declare_queue(queue, f"{target.topic}/all", listener, lasting=False)
        return base.PollStyleListenerAdapter(listener, batch_size, batch_timeout)

    def _get_reply_queue_name(self) -> str:
        return f"{self.cell}/{self.account.name}/answers/{uuid.uuid4().hex}"
