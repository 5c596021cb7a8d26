"""Bodies and queries about a server's ports."""

from __future__ import annotations

from top_api.schemas.types import ADDRESS, TAG, UUID, Schema, an_object, only
from top_api.validation import Versioned

FIXED_IPS: Schema = {
    "type": "array",
    "minItems": 1,
    "maxItems": 1,
    "items": an_object({"ip_address": ADDRESS}, required=("ip_address",)),
}


def _of(properties: dict[str, Schema]) -> Schema:
    wanted = {"net_id": UUID, "port_id": UUID, "fixed_ips": FIXED_IPS}
    return an_object({"interfaceAttachment": an_object({**wanted, **properties})})


CREATE = Versioned(_of({}), ((2, 49), _of({"tag": TAG})))
_NETWORK: Schema = {"type": ["string", "number"], "minLength": 1, "maxLength": 36}
ADD_FIXED_IP = Versioned(only("addFixedIp", an_object({"networkId": _NETWORK}, required=("networkId",))))
REMOVE_FIXED_IP = Versioned(only("removeFixedIp", an_object({"address": ADDRESS}, required=("address",))))
