"""All that this project changes in libraries, and all that it uses of them without their promise.

Each entry names the versions it was tried with. Another one fails a test: whoever takes it looks at what the library
changed, runs the suite, and adds the version. pyproject.toml keeps out what is newer than that.

The classes that are put in a library's place stand where their layer is (messages, the web server, consoles): a cell's
console proxy may not load the API's web server. They are listed here by their files, with every name they rely on.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """``names``: what is relied on, as ``module:Class.attribute`` or ``module:name``; ``files``: where."""

    package: str
    tried: tuple[str, ...]
    why: str
    names: tuple[str, ...]
    files: tuple[str, ...]


_RABBIT = "oslo_messaging._drivers.impl_rabbit:Connection"
_AMQP = "oslo_messaging._drivers.amqpdriver"
REACHES = (
    Reach(
        package="oslo.messaging",
        tried=("18.3.1",),
        why="Accounts of their own, senders that can be believed, answers to nobody but the asker: its drivers offer "
        "no seam for that.",
        names=(
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
            "oslo_messaging._drivers.base:PollStyleListenerAdapter",
            "oslo_messaging._drivers.common:PURPOSE_LISTEN",
            "oslo_messaging._drivers.amqp:AMQPDestinationNotFound",
            f"{_AMQP}:RpcAMQPListener.__call__",
            f"{_AMQP}:AMQPDriverBase._get_connection",
            f"{_AMQP}:AMQPDriverBase._connection_pool",
            f"{_AMQP}:ACK_REQUEUE_EVERY_SECONDS_MIN",
        ),
        files=("cellcloud/rpc/rabbitmq_driver.py", "cellcloud/rpc/transport.py"),
    ),
    Reach(
        package="kombu",
        tried=("5.7.0",),
        why="Its memory transport asks all its queues again and again, and its connections cannot be let go of.",
        names=(
            "kombu.transport:TRANSPORT_ALIASES",
            "kombu.transport.memory:Channel._put",
            "kombu.transport.memory:Channel._put_fanout",
            "kombu.transport.memory:Channel._lookup",
            "kombu.transport.memory:Channel.basic_publish",
            "kombu.transport.virtual.base:Channel._active_queues",
            "kombu.transport.virtual.base:Transport._deliver",
            "kombu.transport.virtual.base:Transport.cycle",
            "kombu.connection:Connection._connection",
        ),
        files=("cellcloud/rpc/memory.py", "cellcloud/rpc/rabbitmq_driver.py"),
    ),
    Reach(
        package="oslo.service",
        tried=("4.8.0",),
        why="Left to itself it loads eventlet, which changes the standard library.",
        names=("oslo_service.backend:init_backend", "oslo_service.backend:BackendType"),
        files=("cellcloud/third_party_patches.py",),
    ),
    Reach(
        package="uvicorn",
        tried=("0.54.0",),
        why="It has no time-out for heads and for clients that take none of their answer.",
        names=(
            "uvicorn.protocols.http.h11_impl:H11Protocol.timeout_keep_alive_handler",
            "uvicorn.protocols.http.h11_impl:H11Protocol.cycle",
            "uvicorn.protocols.http.h11_impl:RequestResponseCycle.response_complete",
        ),
        files=("cellcloud/launcher/request_buffering.py",),
    ),
    Reach(
        package="a2wsgi",
        tried=("1.10.10",),
        why="Its threads are counted and shared, which it has no seam for.",
        names=("a2wsgi.wsgi:build_environ", "a2wsgi.wsgi:WSGIMiddleware.executor"),
        files=("cellcloud/launcher/request_buffering.py",),
    ),
    Reach(
        package="psycopg",
        tried=("3.3.9",),
        why="What its wait raises when the time is over has no public name.",
        names=("psycopg.errors:_WaitTimeout", "psycopg:Connection.wait"),
        files=("cellcloud/db/postgresql_socket_timeouts.py",),
    ),
    Reach(
        package="SQLAlchemy",
        tried=("2.1.9",),
        why="Its dialect for MySQL asks the server to commit what nothing was begun for.",
        names=("sqlalchemy.engine.default:DefaultDialect.do_commit",),
        files=("cellcloud/db/engine.py",),
    ),
    Reach(
        package="websockify",
        tried=("0.13.0",),
        why="Its buffers have no end.",
        names=(
            "websockify.websocket:WebSocket._recv",
            "websockify.websocket:WebSocket._decode_hybi",
            "websockify.websocket:WebSocket._recv_buffer",
            "websockify.websocket:WebSocket._partial_msg",
        ),
        files=("cell/consoleproxy/bounded_websocket.py",),
    ),
    Reach(
        package="google-re2",
        tried=("1.1.20251105",),
        why="A match has no public name; it is only annotated with.",
        names=("re2:_Match",),
        files=("cellcloud/safe_regex.py",),
    ),
)


def use_threads() -> None:
    """Let oslo.service and oslo.messaging work with threads. Called before either is loaded."""
    sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type] # keeps futurist from loading it
    from oslo_service import backend

    backend.init_backend(backend.BackendType.THREADING)


def look_seldom() -> None:
    """After each message a consumer wakes up after 1, 2, 4, 8 ... ms to see whether another thread has asked it to
    acknowledge one. RPC acknowledges where it receives, so nobody waits for that, and looking took a sixth of the
    processors' time of a create."""
    from oslo_messaging._drivers import amqpdriver

    amqpdriver.ACK_REQUEUE_EVERY_SECONDS_MIN = 1.0


def replace_memory_transport(place: str) -> None:
    """Let URLs of the kind ``memory`` mean the transport at ``place``: ``module:Class``."""
    from kombu.transport import TRANSPORT_ALIASES

    TRANSPORT_ALIASES["memory"] = place
