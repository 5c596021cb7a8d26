"""The embedded services with their first content, in this process or behind HTTP on the loopback."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from argon2 import PasswordHasher
from flask import Flask
from werkzeug.serving import make_server

from cellcloud import config
from cellcloud.db.engine import Database
from cellcloud.embedded import EmbeddedServices
from cellcloud.embedded.bootstrap import Passwords, bootstrap
from cellcloud.embedded.identity import SERVICE_USER, EmbeddedIdentity, Login, Scope
from cellcloud.embedded.images import EmbeddedImages
from cellcloud.embedded.networks import EmbeddedNetworks
from cellcloud.embedded.viewer import Viewer
from cellcloud.embedded.volume.service import CellVolumes, Reach, VolumeService
from cellcloud.model.image import Image
from cellcloud.model.network import Network, Subnet
from tests.empty_databases import make_empty
from top_api.adapters import Adapters
from top_api.app import create_app
from top_api.embedded_api import RESOURCES

PASSWORDS = Passwords(admin="admin-password", demo="demo-password", service="service-password")
MAX_IMAGE = 8 << 20
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass(frozen=True)
class EmbeddedCloud:
    """The three services over one database. ``settings``: of a client of theirs, once they are served."""

    database: Database
    identity: EmbeddedIdentity
    images: EmbeddedImages
    networks: EmbeddedNetworks
    volumes: VolumeService
    settings: config.Config

    def token(self, user: str, password: str, project: str | None = "demo") -> str:
        login = Login(user_name=user, domain_id="default", password=password)
        scope = Scope(project_name=project, domain_id="default") if project else Scope(unscoped=True)
        return self.identity.issue_token([login], scope)[0]

    def project(self, name: str) -> str:
        return self.identity.directory.projects.list_all(name=name)[0].id

    def app(self) -> Flask:
        """The whole API of such a cloud."""
        services = EmbeddedServices(
            identity=self.identity, images=self.images, networks=self.networks, volumes=self.volumes
        )
        adapters = Adapters(
            identity=self.identity,
            images=self.images,
            networks=self.networks,
            embedded=services,
            resources=RESOURCES,
        )
        return create_app(self.settings, database=self.database, adapters=adapters, dispatch=lambda made: None)

    def image(self, data: bytes = b"", **fields: object) -> Image:
        """An image of project demo, with bytes where some are given."""
        wanted = Image(id="", name="i", disk_format="raw", container_format="bare", owner=self.project("demo"))
        made = self.images.create_image(dataclasses.replace(wanted, **fields))  # type: ignore[arg-type]
        return self.images.upload(made.id, [data], project_id="", is_admin=True) if data else made

    def network(self, project: str, cidr: str, *, shared: bool = False) -> Network:
        """A network of a project with one subnet."""
        admin = Viewer(project_id="", is_admin=True)
        made = self.networks.create_network(admin, Network(id="", name="n", project_id=project, shared=shared))
        self.networks.create_subnet(admin, Subnet(id="", network_id=made.id, cidr=cidr, project_id=project))
        return self.networks.get_network(admin, made.id)


@cache
def _hash_cheaply(password: str, stored: str) -> str:
    """For accounts that nobody attacks: to make a hash and to check it takes a moment, not 20 ms."""
    return stored or CHEAP.hash(password)


def make_cloud(
    database: Database, directory: Path, url: str = "http://127.0.0.1:1", *, reach: Reach | None = None
) -> EmbeddedCloud:
    """The services on a migrated, empty top database."""
    bootstrap(database, PASSWORDS, hashed=_hash_cheaply)
    settings = config.load()
    images = EmbeddedImages(database, directory / "images", max_bytes=MAX_IMAGE)
    return EmbeddedCloud(
        database=database,
        identity=EmbeddedIdentity(database, cache_seconds=0.0),
        images=images,
        networks=EmbeddedNetworks(database),
        volumes=VolumeService(database=database, images=images, reach=reach or CellVolumes(database)),
        settings=dataclasses.replace(
            settings,
            identity=dataclasses.replace(
                settings.identity,
                auth_url=f"{url}/identity",
                username=SERVICE_USER,
                password=PASSWORDS.service,
                cache_seconds=0.0,
            ),
            adapters=dataclasses.replace(settings.adapters, max_image_bytes=MAX_IMAGE),
        ),
    )


@contextmanager
def served(database: Database, directory: Path) -> Iterator[EmbeddedCloud]:
    """The same cloud with its APIs on a port of the loopback."""
    cloud = make_cloud(database, directory)
    with serving(cloud) as settings:
        yield dataclasses.replace(cloud, settings=settings)


@contextmanager
def serving(cloud: EmbeddedCloud) -> Iterator[config.Config]:
    """Serve a cloud's APIs on a port of the loopback; the settings of a client of theirs."""
    server = make_server("127.0.0.1", 0, Flask("starting"), threaded=True)
    identity = dataclasses.replace(cloud.settings.identity, auth_url=f"http://127.0.0.1:{server.port}/identity")
    settings = dataclasses.replace(cloud.settings, identity=identity)
    server.app = dataclasses.replace(cloud, settings=settings).app()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield settings
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_top_database(path: Path) -> Database:
    """An empty, migrated top database on SQLite."""
    return make_empty(path, "top")
