"""Tests of Tempest that do not pass, each with its reason. One that passes all the same fails the run."""

from __future__ import annotations

_POOLS = "pools of subnets, which the embedded network service has not"
_LIMITS = "sets limits of nova-network (fixed and floating IPs), which nothing here would apply: they are refused"
_DEFINITIONS = "definitions of metadata, a catalogue of names for dashboards, which the embedded image service has not"
_NOT_KEYSTONES_ALL = "of Keystone's that the embedded identity does not offer, and answers with 404: use Keystone for "
_GROUPS = "groups of volumes are not offered: to make one, or a type of them, is refused"
_QOS = "QoS specifications of volumes are not offered: to make one is refused"
_ENCRYPTED = "volumes are not encrypted here: a type cannot be"
_LOGIN = "logs in to a guest whatever the configuration says, and fake ones have no shell"
NOT_PASSING: dict[str, str] = {
    "ServerActionsV293TestJSON.test_rebuild_volume_backed_server": _LOGIN,
    "VolumesAssistedSnapshotsTest": "snapshots that a volume service takes by way of Nova, which are refused",
    "ServersUpdatePinnedAZ2104Test": "asks for 2.104, which is newer than what is offered",
    "GroupSnapshotsTest": _GROUPS,
    "GroupSnapshotsV319Test": _GROUPS,
    "GroupTypeSpecsTest": _GROUPS,
    "GroupTypesTest": _GROUPS,
    "GroupsTest": _GROUPS,
    "GroupsV314Test": _GROUPS,
    "GroupsV320Test": _GROUPS,
    "QosSpecsTestJSON": _QOS,
    "VolumeTypesTest.test_volume_type_encryption_create_get_update_delete": _ENCRYPTED,
    "DomainConfigurationTestJSON": _NOT_KEYSTONES_ALL + "users of another directory a domain",
    "OAUTHConsumersV3Test": _NOT_KEYSTONES_ALL + "consumers of OAuth",
    "PoliciesTestJSON": _NOT_KEYSTONES_ALL + "policies as documents, which nothing reads",
    "EndPointGroupsTest)": _NOT_KEYSTONES_ALL + "catalogs of single projects",
    "QuotaClassesAdminTestJSON.test_update_default_quotas": _LIMITS,
    "QuotasAdminTestJSON.test_update_all_quota_resources_for_tenant": _LIMITS,
    "TagsExtTest": _POOLS,
    "SubnetPoolsTestJSON": _POOLS,
    **dict.fromkeys(
        (
            "MetadataSchemaTest",
            "MetadataNamespacesTest",
            "MetadataNamespaceObjectsTest",
            "MetadataNamespacePropertiesTest",
            "MetadataNamespaceTagsTest",
            "MetadataResourceTypesTest",
        ),
        _DEFINITIONS,
    ),
}
"""Class or test, without what stands before the class -> why."""
AT_TIMES = {
    "NoVNCConsoleTestJSON.test_novnc": "looks at the screen of a server, and fake ones have none: passes where "
    "something else listens at that port",
    "UnshelveToHostMultiNodesTest.test_unshelve_to_specific_host": "names any host, and servers are unshelved within "
    "their cell: fails where the host is in the other",
    "ImportImagesTest.test_image_web_download_import": "fetches a qcow2 from the Internet, which is not "
    "everywhere, and is told of raw images alone, for other tests upload data of no format",
}
"""Those that fail by chance, or pass."""
