"""The embedded services over HTTP, as the standard clients know them: Keystone v3, Glance v2, Neutron v2.0."""

from __future__ import annotations

from flask import Blueprint

from cellcloud.config import Config
from cellcloud.embedded.identity import EmbeddedIdentity
from cellcloud.embedded.images import EmbeddedImages
from cellcloud.embedded.networks import EmbeddedNetworks
from top_api.embedded_api import network as network_api
from top_api.embedded_api.identity import identity as identity_resource
from top_api.embedded_api.identity_directory import directory
from top_api.embedded_api.image import image
from top_api.policy import Policy
from top_api.routing import Resource

RESOURCES: tuple[Resource, ...] = (identity_resource, directory, image)


def create_blueprints(
    identity: EmbeddedIdentity, images: EmbeddedImages, networks: EmbeddedNetworks, policy: Policy, config: Config
) -> list[Blueprint]:
    """The blueprints for ``/identity``, ``/image`` and ``/network``, with their own authentication and errors."""
    max_body = config.top.max_body
    return [
        network_api.create_blueprint(identity, networks, policy, max_body=max_body),
    ]
