"""The embedded services over HTTP, as the standard clients know them: Keystone v3, Glance v2, Neutron v2.0,
Cinder v3."""

from __future__ import annotations

from top_api.embedded_api.floating_ips import floating_ips
from top_api.embedded_api.identity import identity
from top_api.embedded_api.identity_catalog import catalog
from top_api.embedded_api.identity_credentials import credentials
from top_api.embedded_api.identity_directory import directory
from top_api.embedded_api.identity_limits import limits
from top_api.embedded_api.identity_roles import roles_and_grants
from top_api.embedded_api.identity_signed_requests import signed_requests
from top_api.embedded_api.identity_users import users_and_groups
from top_api.embedded_api.image import image
from top_api.embedded_api.image_data import data as image_data
from top_api.embedded_api.image_discovery import discovery as image_discovery
from top_api.embedded_api.image_imports import imports as image_imports
from top_api.embedded_api.image_members import members as image_members
from top_api.embedded_api.network import network
from top_api.embedded_api.network_agents import network_agents
from top_api.embedded_api.network_ports import ports
from top_api.embedded_api.network_quotas import quotas
from top_api.embedded_api.network_sharing import sharing
from top_api.embedded_api.network_tags import tags as network_tags
from top_api.embedded_api.routers import routers
from top_api.embedded_api.security_groups import security_groups
from top_api.embedded_api.volume import volumes
from top_api.embedded_api.volume_actions import volume_actions
from top_api.embedded_api.volume_administration import volume_administration
from top_api.embedded_api.volume_attachments import attachments
from top_api.embedded_api.volume_metadata import volume_metadata
from top_api.embedded_api.volume_quotas import volume_quotas
from top_api.embedded_api.volume_refused import volume_refused
from top_api.embedded_api.volume_snapshots import snapshots
from top_api.embedded_api.volume_transfers import volume_transfers
from top_api.embedded_api.volume_types import volume_types
from top_api.request_pipeline import Resource

_IDENTITY = (
    *(identity, directory, users_and_groups, roles_and_grants),
    *(catalog, credentials, signed_requests, limits),
)
_IMAGE = (image, image_data, image_discovery, image_imports, image_members)
_VOLUME = (
    *(volumes, volume_actions, attachments, snapshots, volume_metadata, volume_types),
    *(volume_quotas, volume_transfers, volume_administration, volume_refused),
)
_NETWORK = (
    *(network, ports, quotas, security_groups, routers, floating_ips, network_tags),
    *(sharing, network_agents),
)
RESOURCES: tuple[Resource, ...] = (*_IDENTITY, *_IMAGE, *_NETWORK, *_VOLUME)
