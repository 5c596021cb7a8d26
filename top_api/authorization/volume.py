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


def list_rules() -> list[RuleDefault]:
    """Defaults of the embedded volume service's rules."""
    return [RuleDefault(name, check, text, scope_types=["project"]) for name, check, text in _RULES]
