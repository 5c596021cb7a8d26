"""Defaults of the embedded image service's rules: Glance's names, roles and scope types."""

from __future__ import annotations

from oslo_policy.policy import RuleDefault

ADMIN = "rule:context_is_admin"
MEMBER = "rule:context_is_admin or (role:member and project_id:%(project_id)s)"
READER = "rule:context_is_admin or (role:reader and project_id:%(project_id)s)"
_RULES = (
    ("get_images", READER, "List images."),
    ("get_image", READER, "Show an image that one's project may use."),
    ("add_image", MEMBER, "Create an image."),
    ("modify_image", MEMBER, "Change an image, or its tags."),
    ("publicize_image", ADMIN, "Make an image public."),
    ("communitize_image", MEMBER, "Let every project use an image that knows of it."),
    ("delete_image", MEMBER, "Delete an image."),
    ("upload_image", MEMBER, "Upload an image's data."),
    ("download_image", MEMBER, "Download an image's data."),
    ("deactivate", MEMBER, "Let nobody but administrators have an image's data."),
    ("reactivate", MEMBER, "Let an image's data be had again."),
    ("add_member", MEMBER, "Offer a shared image to another project."),
    ("get_member", READER, "Show whom an image is shared with."),
    ("get_members", READER, "List whom an image is shared with."),
    ("modify_member", MEMBER, "Accept or reject an image that one's project is offered."),
    ("delete_member", MEMBER, "Take back an offer of a shared image."),
    ("delete_image_location", ADMIN, "Delete an image's data from one of its stores."),
    ("tasks_api_access", ADMIN, "See the tasks of all imports."),
    ("get_metadef_namespaces", READER, "List the namespaces of metadata's definitions: there are none."),
    ("stores_info_detail", ADMIN, "See where images are kept, in detail."),
    (
        "cellcloud:image_discovery",
        "@",
        "See the schemas of images and how images can be imported: Glance asks no rule.",
    ),
)


def list_rules() -> list[RuleDefault]:
    """Defaults of the embedded image service's rules."""
    return [RuleDefault(name, check, text, scope_types=["project"]) for name, check, text in _RULES]
