"""Policies that let other projects use networks and security groups, as Neutron shows them (RBAC)."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.embedded.network_sharing import EmbeddedNetworkSharing
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network_sharing import EVERYBODY, SharingPolicy
from top_api.embedded_api import network_list_filters as lists
from top_api.embedded_api.error_formats import NETWORK as API
from top_api.embedded_api.network_schemas import RBAC_POLICIES, RBAC_POLICY_UPDATE
from top_api.embedded_api.network_viewers import owner_of, viewer_of
from top_api.request_pipeline import Call, Resource

sharing = Resource("network_sharing", API)


def _viewer(call: Call) -> Viewer:
    viewer = viewer_of(call)
    if viewer.revision is not None:
        raise errors.Invalid("Revision matching not supported for this resource")
    return viewer


def _service(call: Call) -> EmbeddedNetworkSharing:
    return call.embedded.networks.sharing


@sharing.route("GET", "/v2.0/rbac-policies", "get_rbac_policy")
def list_policies(call: Call) -> dict[str, Any]:
    page = lists.RBAC_POLICIES.page(call)
    return lists.listed(call, "rbac_policies", map(_policy, _service(call).list_policies(_viewer(call), page)), page)


@sharing.route("POST", "/v2.0/rbac-policies", "create_rbac_policy", status=201, body=RBAC_POLICIES)
def create_policies(call: Call) -> dict[str, Any]:
    wanted = call.body.get("rbac_policies") or [call.body["rbac_policy"]]
    made = [
        _policy(one) for one in _service(call).create_policies(_viewer(call), [_new(call, each) for each in wanted])
    ]
    return {"rbac_policies": made} if "rbac_policies" in call.body else {"rbac_policy": made[0]}


@sharing.route("GET", "/v2.0/rbac-policies/<policy_id>", "get_rbac_policy")
def show_policy(call: Call, policy_id: str) -> dict[str, Any]:
    return {"rbac_policy": lists.fields(call, _policy(_service(call).get_policy(_viewer(call), policy_id)))}


@sharing.route("PUT", "/v2.0/rbac-policies/<policy_id>", "update_rbac_policy", body=RBAC_POLICY_UPDATE)
def update_policy(call: Call, policy_id: str) -> dict[str, Any]:
    target = _target(call, "update_rbac_policy", call.body["rbac_policy"])
    return {"rbac_policy": _policy(_service(call).change_target(_viewer(call), policy_id, target))}


@sharing.route("DELETE", "/v2.0/rbac-policies/<policy_id>", "delete_rbac_policy", status=204)
def delete_policy(call: Call, policy_id: str) -> None:
    _service(call).delete_policy(_viewer(call), policy_id)


def _new(call: Call, wanted: dict[str, Any]) -> SharingPolicy:
    return SharingPolicy(
        id="",
        object_type=wanted["object_type"].strip().lower(),
        object_id=wanted["object_id"],
        action=wanted["action"],
        target=_target(call, "create_rbac_policy", wanted),
        project_id=owner_of(call, wanted, allowed=call.context.is_admin),
    )


def _target(call: Call, rule: str, wanted: dict[str, Any]) -> str:
    """Return whom it is for. Raises Forbidden for everybody, where the caller may not say that."""
    target = str(wanted["target_tenant"])
    if target == EVERYBODY:
        call.check(f"{rule}:target_tenant")
    return target


def _policy(policy: SharingPolicy) -> dict[str, Any]:
    return {
        "id": policy.id,
        "object_type": policy.object_type,
        "object_id": policy.object_id,
        "action": policy.action,
        "target_tenant": policy.target,
        "project_id": policy.project_id,
        "tenant_id": policy.project_id,
    }
