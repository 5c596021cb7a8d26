"""The Compute API's resources. One file per resource, with the same name in routes, schemas and views."""

from top_api.request_pipeline import Resource
from top_api.routes.aggregates import aggregates
from top_api.routes.availability_zones import availability_zones
from top_api.routes.console_auth_tokens import console_auth_tokens
from top_api.routes.extensions import extensions
from top_api.routes.flavors import flavors
from top_api.routes.floating_ips import floating_ips
from top_api.routes.gone import gone
from top_api.routes.hosts import hosts
from top_api.routes.hypervisors import hypervisors
from top_api.routes.images import images
from top_api.routes.instance_actions import instance_actions
from top_api.routes.instance_usage_audit_log import instance_usage_audit_log
from top_api.routes.interfaces import interfaces
from top_api.routes.keypairs import keypairs
from top_api.routes.limits_quota_sets import limits
from top_api.routes.migrations import migrations
from top_api.routes.operator_administration import operator
from top_api.routes.operator_scheduling import scheduling
from top_api.routes.refused import assisted_volume_snapshots, baremetal_nodes
from top_api.routes.security_groups import security_groups
from top_api.routes.server_actions import server_actions
from top_api.routes.server_external_events import server_external_events
from top_api.routes.server_groups import server_groups
from top_api.routes.server_guests import server_guests
from top_api.routes.server_ips import server_ips
from top_api.routes.server_metadata_tags import server_metadata
from top_api.routes.servers import servers
from top_api.routes.services import services
from top_api.routes.simple_tenant_usage import simple_tenant_usage
from top_api.routes.versions import versions
from top_api.routes.volume_attachments import volume_attachments
from top_api.routes.volumes import volumes

RESOURCES: tuple[Resource, ...] = (
    versions,
    servers,
    server_actions,
    server_metadata,
    server_ips,
    server_guests,
    volume_attachments,
    volumes,
    interfaces,
    security_groups,
    floating_ips,
    console_auth_tokens,
    instance_actions,
    migrations,
    flavors,
    keypairs,
    limits,
    server_groups,
    availability_zones,
    services,
    hypervisors,
    aggregates,
    hosts,
    server_external_events,
    simple_tenant_usage,
    instance_usage_audit_log,
    assisted_volume_snapshots,
    baremetal_nodes,
    images,
    extensions,
    gone,
    operator,
    scheduling,
)
