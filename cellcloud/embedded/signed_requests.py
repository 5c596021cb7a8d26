"""Requests that somebody signed with the secret of an EC2 credential, as AWS's clients do, and who that was.

What is shown is never the secret: a service hands over what was signed and the signature, and is told who signed. Of
EC2's requests the versions 2 and 4 are taken, of S3's those of HMAC-SHA1 and 4; older ones sign too little.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from keystoneclient.contrib.ec2.utils import Ec2Signer

import cellcloud.db.identity_credentials as db
from cellcloud import errors
from cellcloud.db.engine import Connection
from cellcloud.model.identity import Credential

EC2 = "ec2"
_WRONG = "Invalid EC2 signature."
_LASTS = dt.timedelta(minutes=15)  # Keystone's auth_ttl
_V4 = b"AWS4-HMAC-SHA256"
_S3_SERVICES = (b"s3", b"iam", b"sts")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureClaim:
    """``token``: S3's text to sign in base 64; None: one of EC2's, whose other parts are signed. ``host`` is as the
    client wrote it."""

    access: str
    signature: str
    token: str | None = None
    verb: str = ""
    host: str = ""
    path: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """``application_credential_id``: what the credential was made by, which bounds what it is good for."""

    user_id: str
    project_id: str
    application_credential_id: str | None


def credential_id_of(access: str) -> str:
    """Return the id that a credential of that access key has."""
    return hashlib.sha256(access.encode("utf-8", "surrogatepass")).hexdigest()


def find_signer(c: Connection, request: SignatureClaim, now: dt.datetime) -> Signer:
    """Return who signed. Raises NotFound for a key that there is not, Unauthenticated for a signature that is wrong or
    too old."""
    found = db.CREDENTIALS.find(c, id=credential_id_of(request.access))
    if found is None or found.type.lower() != EC2 or found.project_id is None:
        raise errors.NotFound("EC2 access key not found.")
    blob = _blob(found)
    secret = str(blob.get("secret") or "")
    signed = _signs_text(request, secret) if request.token is not None else _signs_parts(request, secret)
    if not secret or not signed:
        raise errors.Unauthenticated(_WRONG)
    _check_time(request, now)
    of_application = blob.get("app_cred_id")
    return Signer(
        user_id=found.user_id,
        project_id=found.project_id,
        application_credential_id=None if of_application is None else str(of_application),
    )


def _blob(credential: Credential) -> Mapping[str, Any]:
    try:
        return msgspec.json.decode(credential.blob, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return {}


# ---- EC2 -----------------------------------------------------------------------------------------------------------
def _signs_parts(request: SignatureClaim, secret: str) -> bool:
    """Return whether the secret signs the request; some clients leave the port out of the host that they sign."""
    if request.params.get("SignatureVersion", "2") != "2":
        return False
    hosts = dict.fromkeys((request.host, request.host.rsplit(":", 1)[0]))
    return any(_is_same(request.signature, _signature_of(request, secret, host)) for host in hosts)


def _signature_of(request: SignatureClaim, secret: str, host: str) -> str:
    given = {
        "params": dict(request.params),
        "headers": dict(request.headers),
        "verb": request.verb,
        "host": host,
        "path": request.path,
        "body_hash": request.body_hash,
    }
    try:
        return str(Ec2Signer(secret).generate(given))
    except Exception as error:  # the library raises whatever what it was given leads to, and Exception itself
        raise errors.Unauthenticated(_WRONG) from error


# ---- S3 ------------------------------------------------------------------------------------------------------------
def _signs_text(request: SignatureClaim, secret: str) -> bool:
    try:
        text = base64.b64decode((request.token or "").encode(), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise errors.Invalid("token: it is not in base 64.") from None
    if text.startswith(b"AWS4"):
        return _is_same(request.signature, _version_4(text, secret))
    digest = hmac.new(secret.encode("utf-8", "surrogatepass"), text, hashlib.sha1).digest()
    return _is_same(request.signature, base64.b64encode(digest).decode())


def _version_4(text: bytes, secret: str) -> str:
    """Return the signature of a text of version 4: its algorithm, time, scope and the request's hash, a line each."""
    parts = text.split(b"\n")
    scope = parts[2].split(b"/") if len(parts) == 4 and parts[0] == _V4 else []
    if len(scope) != 4 or scope[2] not in _S3_SERVICES or scope[3] != b"aws4_request":
        raise errors.Unauthenticated(_WRONG)
    key = f"AWS4{secret}".encode("utf-8", "surrogatepass")
    for part in scope:
        key = hmac.new(key, part, hashlib.sha256).digest()
    return hmac.new(key, text, hashlib.sha256).hexdigest()


# ---- both ----------------------------------------------------------------------------------------------------------
def _is_same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


def _check_time(request: SignatureClaim, now: dt.datetime) -> None:
    """Check that the request was signed of late, where it says when. Raises Unauthenticated."""
    places = (request.params.get("Timestamp"), request.headers.get("X-Amz-Date"), request.params.get("X-Amz-Date"))
    said = next((place for place in places if place), None)
    if said is None:
        return
    try:
        at = dt.datetime.fromisoformat(str(said))
        at = at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)
        late = now > at + _LASTS
    except (ValueError, OverflowError):
        raise errors.Unauthenticated("Credential timestamp is invalid.") from None
    if late:
        raise errors.Unauthenticated("Credential is expired")
