"""Identity v3 over the embedded identity: whose a signed request is that came to another service, as EC2's or S3's."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.embedded.signed_requests import SignatureClaim
from top_api.embedded_api.error_formats import IDENTITY
from top_api.embedded_api.identity import token_body
from top_api.embedded_api.identity_credential_schemas import SIGNED, SIGNED_PLACES
from top_api.request_pipeline import Answer, Call, Resource

signed_requests = Resource("identity_signed_requests", IDENTITY)
_EC2_PARTS = ("verb", "host", "path", "params", "headers", "body_hash")


def _given(call: Call) -> dict[str, Any]:
    """Return what the request is about. Raises Unauthenticated where nothing is signed."""
    given: dict[str, Any] = next((call.body[place] for place in SIGNED_PLACES if call.body.get(place)), {})
    if "access" not in given or "signature" not in given:
        raise errors.Unauthenticated("EC2 Signature not supplied")
    return given


@signed_requests.route("POST", "/v3/ec2tokens", "identity:ec2tokens_validate", body=SIGNED)
def issue_ec2_token(call: Call) -> Answer:
    given = _given(call)
    parts = {name: given[name] for name in _EC2_PARTS if name in given}
    request = SignatureClaim(access=given["access"], signature=given["signature"], **parts)
    token, facts = call.embedded.identity.issue_signed(request)
    return Answer(body=token_body(call, facts), headers={"X-Subject-Token": token})


@signed_requests.route("POST", "/v3/s3tokens", "identity:s3tokens_validate", body=SIGNED)
def issue_s3_token(call: Call) -> dict[str, Any]:
    given = _given(call)
    if "token" not in given:
        raise errors.Invalid("token: it is required.")
    request = SignatureClaim(access=given["access"], signature=given["signature"], token=given["token"])
    _, facts = call.embedded.identity.issue_signed(request)
    return token_body(call, facts)
