"""A cell's metadata service, as far as a node's proxy sees of it."""

from __future__ import annotations

import base64
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from cellcloud.model import metadata_signature as signature
from cellcloud.model.instance_metadata_documents import GuestFacts, openstack_documents
from cellcloud.model.network import Port
from cellcloud.model.server import ServerSpec
from tests.libvirt_node import METADATA_PORT, SECRET, LibvirtNode


@dataclass(slots=True)
class MetadataStandIn:
    """A cell's metadata service, just enough of one: it checks who signs and answers from ``servers``."""

    servers: dict[str, tuple[ServerSpec, list[Port]]] = field(default_factory=dict)
    seen: list[dict[str, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        named = {name.lower(): value for name, value in headers.items()}
        signed = signature.SignedRequest(
            method="GET",
            path=path,
            host=named.get(signature.HOST.lower(), ""),
            server=named.get(signature.SERVER.lower(), ""),
            port=named.get(signature.PORT.lower(), ""),
            time=named.get(signature.TIME.lower(), "0"),
            nonce=named.get(signature.NONCE.lower(), ""),
        )
        key = signature.node_key(SECRET, signed.host)
        fresh = abs(time.time() - int(signed.time)) < 60
        if not fresh or not signed.is_signed_by(key, named.get(signature.SIGNATURE.lower(), "")):
            self.refused.append(path)
            return 403, b""
        self.seen.append({"path": path, "server": signed.server, "host": signed.host, **named})
        spec, ports = self.servers[signed.server]
        if path == "/openstack/latest/meta_data.json":
            facts = GuestFacts(spec=spec, ports=ports, zone="nova")
            return 200, openstack_documents(facts, "latest")["meta_data.json"]
        if path == "/openstack/latest/user_data" and spec.user_data:
            return 200, base64.b64decode(spec.user_data)
        return 404, b""


class _PlainServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def serve_metadata(node: LibvirtNode) -> Iterator[MetadataStandIn]:
    """The service at the gateway of the node's cell."""
    stand_in = MetadataStandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = stand_in.answer(self.path, dict(self.headers.items()))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with _PlainServer((node.config.gateway_ip, METADATA_PORT), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield stand_in
        server.shutdown()
        thread.join()
