"""What Nova has for services that this cloud does not: everything about it is refused as Nova refuses it without them.

Nodes of Ironic's, up to 2.35, and snapshots of volumes that lie as files on a host.
"""

from __future__ import annotations

import json
from typing import Any

from cellcloud import errors
from top_api.request_pipeline import Call, Resource
from top_api.response_schema import NEVER
from top_api.schemas import assisted_volume_snapshots as schemas

baremetal_nodes = Resource("os-baremetal-nodes")
assisted_volume_snapshots = Resource("os-assisted-volume-snapshots")
LAST_NODES = (2, 35)
NODES, SNAPSHOTS = "/os-baremetal-nodes", "/os-assisted-volume-snapshots"
_ASSISTED = "os_compute_api:os-assisted-volume-snapshots"


def _no_ironic(call: Call, **_: str) -> Any:
    raise errors.NotSupported("The requested functionality is not supported.")


def _ask_ironic(call: Call, **_: str) -> Any:
    raise errors.Invalid("Command not supported. Please use the commands of Ironic to perform this action.")


baremetal_nodes.route(
    "GET", NODES, "os_compute_api:os-baremetal-nodes:list", also=(501,), until=LAST_NODES, answer=NEVER
)(_no_ironic)
baremetal_nodes.route(
    "GET", NODES + "/<x>", "os_compute_api:os-baremetal-nodes:show", also=(501,), until=LAST_NODES, answer=NEVER
)(_no_ironic)
for _method, _path in (("POST", NODES), ("DELETE", NODES + "/<x>"), ("POST", NODES + "/<x>/action")):
    baremetal_nodes.route(_method, _path, "cellcloud:gone", until=LAST_NODES, answer=NEVER)(_ask_ironic)


@assisted_volume_snapshots.route("POST", SNAPSHOTS, f"{_ASSISTED}:create", body=schemas.CREATE, answer=NEVER)
def create(call: Call) -> Any:
    _raise_not_attached(call.body["snapshot"]["volume_id"])


@assisted_volume_snapshots.route(
    "DELETE", SNAPSHOTS + "/<snapshot_id>", f"{_ASSISTED}:delete", status=204, query=schemas.DELETE, answer=NEVER
)
def delete(call: Call, snapshot_id: str) -> Any:
    try:
        volume_id = json.loads(call.param("delete_info") or "")["volume_id"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise errors.Invalid("delete_info names no volume_id.") from error
    _raise_not_attached(str(volume_id))


def _raise_not_attached(volume_id: str) -> None:
    """Refuse a volume. Raises Invalid: no server here has a volume."""
    raise errors.Invalid(f"No volume Block Device Mapping with id {volume_id[:64]}.")
