"""The outside services that the configuration chooses, and the APIs of those that are embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cellcloud import errors
from cellcloud.clients.identity import IdentityClient
from cellcloud.clients.image import ImageClient
from cellcloud.clients.network import NetworkClient
from cellcloud.clients.volume import VolumeClient
from cellcloud.config import Config
from cellcloud.db.engine import Database
from cellcloud.embedded import EmbeddedServices
from top_api.request_pipeline import Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """``embedded``, ``resources``: the embedded services and their APIs, served at this API's own port."""

    identity: IdentityClient
    images: ImageClient
    networks: NetworkClient
    volumes: VolumeClient | None = None
    embedded: EmbeddedServices | None = None
    resources: Sequence[Resource] = ()


def make_adapters(config: Config, database: Database) -> Adapters:
    """Make the clients of the services around the cloud. Raises Misconfigured for a mixture that is not offered."""
    adapters = (config.identity.adapter, config.adapters.image_adapter, config.adapters.network_adapter)
    if adapters == ("embedded", "embedded", "embedded"):
        return _embedded(config, database)
    if adapters == ("keystone", "glance", "neutron"):
        return _real(config)
    raise errors.Misconfigured(f"This API does not offer the adapters {', '.join(adapters)} together.")


def _embedded(config: Config, database: Database) -> Adapters:
    from cellcloud.embedded.identity import EmbeddedIdentity
    from cellcloud.embedded.identity_passwords import PasswordRules
    from cellcloud.embedded.images import EmbeddedImages
    from cellcloud.embedded.networks import EmbeddedNetworks
    from cellcloud.embedded.volume.client import EmbeddedVolumes
    from cellcloud.embedded.volume.service import CellVolumes, VolumeService
    from top_api.embedded_api import RESOURCES

    identity = EmbeddedIdentity(
        database,
        token_hours=config.identity.token_hours,
        cache_seconds=config.identity.cache_seconds,
        rules=PasswordRules.of(config.identity),
    )
    images = EmbeddedImages.of(database, config.state_dir / "images", config.adapters)
    networks = EmbeddedNetworks(database, config.network)
    volumes = VolumeService(database=database, images=images, reach=CellVolumes(database))
    return Adapters(
        identity=identity,
        images=images,
        networks=networks,
        volumes=EmbeddedVolumes(volumes),
        embedded=EmbeddedServices(identity=identity, images=images, networks=networks, volumes=volumes),
        resources=RESOURCES,
    )


def _real(config: Config) -> Adapters:
    from cellcloud.clients.cinder import CinderClient
    from cellcloud.clients.glance import GlanceClient
    from cellcloud.clients.keystone import KeystoneClient
    from cellcloud.clients.neutron import NeutronClient

    return Adapters(
        identity=KeystoneClient.from_config(config),
        images=GlanceClient.from_config(config),
        networks=NeutronClient.from_config(config),
        volumes=CinderClient.from_config(config),
    )
