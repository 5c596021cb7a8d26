"""Which of Nova's controllers each of our routes and actions stands for, and where we differ on purpose."""

from __future__ import annotations

from tests.parity import samples

# Method and path -> controller file and method.
ROUTES: dict[tuple[str, str], tuple[str, str]] = {
    ("GET", "/servers"): ("servers", "index"),
    ("GET", "/servers/detail"): ("servers", "detail"),
    ("POST", "/servers"): ("servers", "create"),
    ("GET", "/servers/<server_id>"): ("servers", "show"),
    ("PUT", "/servers/<server_id>"): ("servers", "update"),
    ("DELETE", "/servers/<server_id>"): ("servers", "delete"),
    ("GET", "/servers/<server_id>/metadata"): ("server_metadata", "index"),
    ("POST", "/servers/<server_id>/metadata"): ("server_metadata", "create"),
    ("PUT", "/servers/<server_id>/metadata"): ("server_metadata", "update_all"),
    ("GET", "/servers/<server_id>/metadata/<key>"): ("server_metadata", "show"),
    ("PUT", "/servers/<server_id>/metadata/<key>"): ("server_metadata", "update"),
    ("DELETE", "/servers/<server_id>/metadata/<key>"): ("server_metadata", "delete"),
    ("GET", "/servers/<server_id>/tags"): ("server_tags", "index"),
    ("PUT", "/servers/<server_id>/tags"): ("server_tags", "update_all"),
    ("DELETE", "/servers/<server_id>/tags"): ("server_tags", "delete_all"),
    ("GET", "/servers/<server_id>/tags/<tag>"): ("server_tags", "show"),
    ("PUT", "/servers/<server_id>/tags/<tag>"): ("server_tags", "update"),
    ("DELETE", "/servers/<server_id>/tags/<tag>"): ("server_tags", "delete"),
    ("GET", "/servers/<server_id>/ips"): ("ips", "index"),
    ("GET", "/servers/<server_id>/ips/<network>"): ("ips", "show"),
    ("GET", "/servers/<server_id>/os-instance-actions"): ("instance_actions", "index"),
    ("GET", "/servers/<server_id>/os-instance-actions/<request_id>"): ("instance_actions", "show"),
    ("POST", "/servers/<server_id>/remote-consoles"): ("remote_consoles", "create"),
    ("GET", "/flavors"): ("flavors", "index"),
    ("GET", "/flavors/detail"): ("flavors", "detail"),
    ("GET", "/flavors/<flavor_id>"): ("flavors", "show"),
    ("POST", "/flavors"): ("flavors", "create"),
    ("PUT", "/flavors/<flavor_id>"): ("flavors", "update"),
    ("DELETE", "/flavors/<flavor_id>"): ("flavors", "delete"),
    ("GET", "/flavors/<flavor_id>/os-extra_specs"): ("flavors_extraspecs", "index"),
    ("POST", "/flavors/<flavor_id>/os-extra_specs"): ("flavors_extraspecs", "create"),
    ("GET", "/flavors/<flavor_id>/os-extra_specs/<key>"): ("flavors_extraspecs", "show"),
    ("PUT", "/flavors/<flavor_id>/os-extra_specs/<key>"): ("flavors_extraspecs", "update"),
    ("DELETE", "/flavors/<flavor_id>/os-extra_specs/<key>"): ("flavors_extraspecs", "delete"),
    ("GET", "/flavors/<flavor_id>/os-flavor-access"): ("flavor_access", "index"),
    ("GET", "/os-keypairs"): ("keypairs", "index"),
    ("POST", "/os-keypairs"): ("keypairs", "create"),
    ("GET", "/os-keypairs/<name>"): ("keypairs", "show"),
    ("DELETE", "/os-keypairs/<name>"): ("keypairs", "delete"),
    ("GET", "/limits"): ("limits", "index"),
    ("GET", "/os-quota-sets/<project_id>"): ("quota_sets", "show"),
    ("GET", "/os-quota-sets/<project_id>/detail"): ("quota_sets", "detail"),
    ("GET", "/os-quota-sets/<project_id>/defaults"): ("quota_sets", "defaults"),
    ("PUT", "/os-quota-sets/<project_id>"): ("quota_sets", "update"),
    ("DELETE", "/os-quota-sets/<project_id>"): ("quota_sets", "delete"),
    ("GET", "/os-quota-class-sets/<name>"): ("quota_classes", "show"),
    ("PUT", "/os-quota-class-sets/<name>"): ("quota_classes", "update"),
    ("GET", "/os-services"): ("services", "index"),
    ("PUT", "/os-services/<target>"): ("services", "update"),
    ("DELETE", "/os-services/<target>"): ("services", "delete"),
    ("GET", "/os-hypervisors"): ("hypervisors", "index"),
    ("GET", "/os-hypervisors/detail"): ("hypervisors", "detail"),
    ("GET", "/os-hypervisors/<identifier>"): ("hypervisors", "show"),
    ("GET", "/os-hypervisors/statistics"): ("hypervisors", "statistics"),
    ("GET", "/os-hypervisors/<identifier>/uptime"): ("hypervisors", "uptime"),
    ("GET", "/os-hypervisors/<pattern>/search"): ("hypervisors", "search"),
    ("GET", "/os-hypervisors/<pattern>/servers"): ("hypervisors", "servers"),
    ("GET", "/os-availability-zone"): ("availability_zone", "index"),
    ("GET", "/os-availability-zone/detail"): ("availability_zone", "detail"),
    ("GET", "/os-aggregates"): ("aggregates", "index"),
    ("POST", "/os-aggregates"): ("aggregates", "create"),
    ("GET", "/os-aggregates/<aggregate_id>"): ("aggregates", "show"),
    ("PUT", "/os-aggregates/<aggregate_id>"): ("aggregates", "update"),
    ("DELETE", "/os-aggregates/<aggregate_id>"): ("aggregates", "delete"),
    ("GET", "/extensions"): ("extension_info", "index"),
    ("GET", "/extensions/<alias>"): ("extension_info", "show"),
}
# Path of a route whose body names what is to be done -> that name -> controller file and action.
SERVER_ACTION, FLAVOR_ACTION = "/servers/<server_id>/action", "/flavors/<flavor_id>/action"
AGGREGATE_ACTION = "/os-aggregates/<aggregate_id>/action"
ACTIONS: dict[str, dict[str, tuple[str, str]]] = {
    SERVER_ACTION: {
        "os-start": ("servers", "os-start"),
        "os-stop": ("servers", "os-stop"),
        "reboot": ("servers", "reboot"),
        "pause": ("pause_server", "pause"),
        "unpause": ("pause_server", "unpause"),
        "lock": ("lock_server", "lock"),
        "unlock": ("lock_server", "unlock"),
        "os-getConsoleOutput": ("console_output", "os-getConsoleOutput"),
        "os-getVNCConsole": ("remote_consoles", "os-getVNCConsole"),
    },
    FLAVOR_ACTION: {
        "addTenantAccess": ("flavor_access", "addTenantAccess"),
        "removeTenantAccess": ("flavor_access", "removeTenantAccess"),
    },
    AGGREGATE_ACTION: {
        "add_host": ("aggregates", "add_host"),
        "remove_host": ("aggregates", "remove_host"),
        "set_metadata": ("aggregates", "set_metadata"),
    },
}
# Resources of which nothing is compared, and why.
NOT_COMPARED: dict[str, str] = {
    "gone": "answers 410 and nothing else",
    "operator": "of this API alone",
    "scheduling": "of this API alone",
    "versions": "documents without a schema",
}
# A part of what is reported of a disagreement -> why it is meant so.
ON_PURPOSE: dict[str, str] = {
    "block_device_mapping": "volumes are not offered: only the image's own disk may be described",
    "_hints": "hints are a closed list",
    "?walk": "our own links to the next page of servers carry it",
    "letters: Nova takes": "texts are bounded, where Nova bounds but the whole address or body",
    "\\n': Nova takes": "a line's end behind a text is part of the text, and no control character is taken",
    "\\nb': Nova takes": "no control character is taken",
    "\\x00b': Nova takes": "no control character is taken",
    "?sort_key": "which keys servers are sorted by is checked where they are read",
    "?sort_dir": "Nova refuses such a direction where servers are read",
    "rxtx_factor = '0': Nova takes": "Nova's controller refuses it",
    "'11111111222243338444555555555555': Nova takes": "numbers are bounded, here before anything counts to them",
    "server.user_data = None: Nova refuses": "null says that there is none, as in the API of before 2.1",
    "os-services/<target>:  = {}: Nova takes": "Nova's controller refuses it",
    **dict.fromkeys(
        (
            f"{where} = '{text}': Nova takes"
            for where in ("server.user_data", "server.personality.0.contents")
            for text in ("-", samples.ID, "192.0.2.256", "2001:db8::1", "2026-01-01")
        ),
        "Nova drops letters that are none of base64's, and the guest would get something else than was meant",
    ),
    "server.networks x": "a guest's machine has places for 32 network cards",
    "server.networks.0.uuid": "Nova's controller refuses what is no UUID",
    "?system_metadata": "Nova's controller refuses it",
    "?services": "Nova's controller refuses it",
    "?security_groups": "Nova's controller refuses it",
    "?pci_devices": "Nova's controller refuses it",
    "?metadata": "Nova's controller refuses it",
    "?info_cache": "Nova's controller refuses it",
    "?block_device_mapping": "Nova's controller refuses it",
    "keypair.user_id = '': Nova takes": "a user without a name is nobody",
}
