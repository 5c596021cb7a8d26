"""Defaults of the embedded volume service's rules: Cinder's names, roles and scope types."""

from __future__ import annotations

from oslo_policy.policy import RuleDefault

ADMIN = "rule:context_is_admin"
READER = f"({ADMIN}) or (role:reader and project_id:%(project_id)s)"
MEMBER = f"({ADMIN}) or (role:member and project_id:%(project_id)s)"
_ACTIONS = "volume_extension:volume_actions"
_ADMIN_ACTIONS = "volume_extension:volume_admin_actions"
_RULES = (
    ("volume:create", MEMBER, "Create volumes."),
    ("volume:create_from_image", MEMBER, "Create volumes from images."),
    ("volume:multiattach", MEMBER, "Create volumes that several servers may have."),
    ("volume:get", READER, "Show a volume."),
    ("volume:get_all", READER, "List volumes."),
    ("volume:update", MEMBER, "Change a volume's name, description or metadata, and whether it is bootable."),
    ("volume:delete", MEMBER, "Delete a volume."),
    ("volume:force_delete", ADMIN, "Delete a volume whatever its status is."),
    ("volume_extension:volume_host_attribute", ADMIN, "See the volume service that a volume is with."),
    ("volume_extension:volume_tenant_attribute", READER, "See the project of a volume."),
    ("volume_extension:volume_mig_status_attribute", ADMIN, "See whether a volume migrates."),
    ("volume_extension:volume_encryption_metadata", READER, "See how a volume is encrypted: here none is."),
    ("volume:attachment_create", MEMBER, "Keep a volume for a server."),
    ("volume:attachment_update", MEMBER, "Connect a volume that is kept to a host."),
    ("volume:attachment_delete", MEMBER, "Give a volume up."),
    ("volume:attachment_complete", MEMBER, "Note that a server has a volume."),
    ("volume:extend", MEMBER, "Let a volume grow."),
    ("volume:extend_attached_volume", MEMBER, "Let a volume in use grow."),
    ("volume:revert_to_snapshot", MEMBER, "Let a volume become what it was at its latest snapshot."),
    ("volume:retype", MEMBER, "Give a volume another type."),
    ("volume:update_readonly_flag", MEMBER, "Say whether a volume may be written."),
    ("volume:reimage", MEMBER, "Write an image to a volume."),
    ("volume:reimage_reserved", MEMBER, "Write an image to a volume that is kept for a server."),
    (f"{_ACTIONS}:attach", MEMBER, "Note that a server has a volume, as before there were attachments."),
    (f"{_ACTIONS}:detach", MEMBER, "Note that nobody has a volume, as before there were attachments."),
    (f"{_ACTIONS}:reserve", MEMBER, "Keep a volume, as before there were attachments."),
    (f"{_ACTIONS}:unreserve", MEMBER, "Keep a volume no longer, as before there were attachments."),
    (f"{_ACTIONS}:begin_detaching", MEMBER, "Note that a volume is being detached."),
    (f"{_ACTIONS}:roll_detaching", MEMBER, "Note that a volume is not being detached after all."),
    (f"{_ACTIONS}:initialize_connection", MEMBER, "Export a volume to a host."),
    (f"{_ACTIONS}:terminate_connection", MEMBER, "Export a volume to a host no longer."),
    (f"{_ACTIONS}:upload_image", MEMBER, "Make an image of a volume."),
    (f"{_ACTIONS}:upload_public", ADMIN, "Make a public image of a volume."),
    (f"{_ADMIN_ACTIONS}:reset_status", ADMIN, "Say what a volume's status is."),
    (f"{_ADMIN_ACTIONS}:force_delete", ADMIN, "Delete a volume whatever its status is, as an action."),
    (f"{_ADMIN_ACTIONS}:force_detach", ADMIN, "End an attachment whatever a server does with it."),
    (f"{_ADMIN_ACTIONS}:migrate_volume", ADMIN, "Move a volume to another volume service: not offered here."),
)
_SNAPSHOTS = (
    ("volume:get_all_snapshots", READER, "List snapshots."),
    ("volume:get_snapshot", READER, "Show a snapshot."),
    ("volume:create_snapshot", MEMBER, "Take a snapshot of a volume."),
    ("volume:update_snapshot", MEMBER, "Change a snapshot's name or description."),
    ("volume:delete_snapshot", MEMBER, "Delete a snapshot."),
    ("volume_extension:extended_snapshot_attributes", READER, "See the project of a snapshot."),
    ("volume_extension:snapshot_admin_actions:reset_status", ADMIN, "Say what a snapshot's status is."),
    ("volume_extension:snapshot_admin_actions:force_delete", ADMIN, "Delete a snapshot whatever its status is."),
    ("snapshot_extension:snapshot_actions:update_snapshot_status", MEMBER, "Say how far a snapshot is."),
)
_METADATA = (
    ("volume:get_volume_metadata", READER, "See a volume's metadata."),
    ("volume:create_volume_metadata", MEMBER, "Add to a volume's metadata."),
    ("volume:update_volume_metadata", MEMBER, "Replace a volume's metadata."),
    ("volume:delete_volume_metadata", MEMBER, "Delete a volume's metadata."),
    ("volume:get_snapshot_metadata", READER, "See a snapshot's metadata."),
    ("volume:update_snapshot_metadata", MEMBER, "Change a snapshot's metadata."),
    ("volume:delete_snapshot_metadata", MEMBER, "Delete a snapshot's metadata."),
    ("volume_extension:volume_image_metadata:show", READER, "See what a volume keeps of its image."),
    ("volume_extension:volume_image_metadata:set", MEMBER, "Change what a volume keeps of its image."),
    ("volume_extension:volume_image_metadata:remove", MEMBER, "Delete what a volume keeps of its image."),
)
_SPECS, _ACCESS = "volume_extension:types_extra_specs", "volume_extension:volume_type_access"
_TYPES = (
    ("volume_extension:type_get", "@", "Show a volume type."),
    ("volume_extension:type_get_all", "@", "List volume types."),
    ("volume_extension:type_create", ADMIN, "Create a volume type."),
    ("volume_extension:type_update", ADMIN, "Change a volume type."),
    ("volume_extension:type_delete", ADMIN, "Delete a volume type."),
    ("volume_extension:access_types_extra_specs", "@", "See that types have extra specs."),
    ("volume_extension:access_types_qos_specs_id", ADMIN, "See the QoS specifications of types."),
    (f"{_SPECS}:index", "@", "List the extra specs of a type that one may see."),
    (f"{_SPECS}:show", "@", "Show an extra spec of a type."),
    (f"{_SPECS}:read_sensitive", ADMIN, "See all extra specs of types."),
    (f"{_SPECS}:create", ADMIN, "Add extra specs to a type."),
    (f"{_SPECS}:update", ADMIN, "Change an extra spec of a type."),
    (f"{_SPECS}:delete", ADMIN, "Delete an extra spec of a type."),
    (_ACCESS, "role:member or rule:context_is_admin", "See whether types are public."),
    (f"{_ACCESS}:addProjectAccess", ADMIN, "Let a project use a type."),
    (f"{_ACCESS}:removeProjectAccess", ADMIN, "Let a project use a type no longer."),
    (f"{_ACCESS}:get_all_for_type", ADMIN, "List the projects that may use a type."),
    ("volume_extension:volume_type_encryption:get", ADMIN, "See how a type is encrypted: here none is."),
    ("volume_extension:volume_type_encryption:create", ADMIN, "Encrypt a type: not offered here."),
    ("volume_extension:default_get", ADMIN, "Show a project's default type."),
    ("volume_extension:default_get_all", ADMIN, "List the projects' default types."),
    ("volume_extension:default_set_or_update", ADMIN, "Give a project a default type."),
    ("volume_extension:default_unset", ADMIN, "Take a project's default type away."),
)
_OTHERS = (
    ("volume_extension:quotas:show", READER, "See a project's quotas of the volume API."),
    ("volume_extension:quotas:update", ADMIN, "Change a project's quotas of the volume API."),
    ("volume_extension:quotas:delete", ADMIN, "Give a project the default quotas of the volume API."),
    ("volume_extension:quota_classes:get", ADMIN, "See the default quotas of the volume API."),
    ("volume_extension:quota_classes:update", ADMIN, "Change the default quotas of the volume API."),
    ("limits_extension:used_limits", READER, "See what is used of the limits of the volume API."),
    ("volume:get_all_transfers", READER, "List volumes on offer."),
    ("volume:get_transfer", READER, "Show a volume on offer."),
    ("volume:create_transfer", MEMBER, "Offer a volume to another project."),
    ("volume:accept_transfer", MEMBER, "Take a volume that is on offer."),
    ("volume:delete_transfer", MEMBER, "Offer a volume no longer."),
    ("volume_extension:services:index", ADMIN, "List volume services."),
    ("volume_extension:services:update", ADMIN, "Enable, disable, freeze and thaw volume services."),
    ("volume_extension:hosts", ADMIN, "List the hosts of volume services."),
    ("scheduler_extension:scheduler_stats:get_pools", ADMIN, "See what room volume services have."),
    ("volume_extension:capabilities", ADMIN, "See what volume services can do."),
    ("message:get_all", READER, "List what went wrong with volumes."),
    ("message:get", READER, "Show what went wrong with a volume."),
    ("message:delete", MEMBER, "Forget what went wrong with a volume."),
    ("cellcloud:volume_limits", "@", "See one's own project's limits of the volume API: Cinder asks no rule."),
    ("cellcloud:volume_discovery", "@", "See what the volume API has: Cinder asks no rule."),
)
_ALL = (*_RULES, *_SNAPSHOTS, *_METADATA, *_TYPES, *_OTHERS)


def list_rules() -> list[RuleDefault]:
    """Defaults of the embedded volume service's rules."""
    return [RuleDefault(name, check, text, scope_types=["project"]) for name, check, text in _ALL]
