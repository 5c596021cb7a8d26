"""Requests signed with EC2's credentials: a token for who signed, and for nobody else."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from tests.identity_api import PASSWORD, IdentityApi, identity_api

EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityApi]:
    with identity_api(tmp_path_factory.mktemp("signed")) as made:
        yield made


@pytest.fixture(scope="module")
def service(api: IdentityApi) -> str:
    """A token of a service, which alone may ask."""
    return api.holder("service", {"project": {"id": api.make("project")["id"]}})[1]


class Signing:
    """A member of a project with a credential of EC2's."""

    def __init__(self, api: IdentityApi, **blob: Any) -> None:
        self.api = api
        self.project = api.make("project")["id"]
        self.id, self.token = api.holder("member", {"project": {"id": self.project}})
        if blob:
            given = {"user_id": self.id, "project_id": self.project, "type": "ec2", "blob": json.dumps(blob)}
            made = api.ask("POST", "credentials", {"credential": given}).get_json()["credential"]
            made = json.loads(made["blob"])
        else:
            asked = api.ask("POST", f"users/{self.id}/credentials/OS-EC2", {"tenant_id": self.project}, self.token)
            made = asked.get_json()["credential"]
        self.access, self.secret = made["access"], made["secret"]

    def version_2(
        self, host: str = "ec2.example:8788", signed_host: str | None = None, **params: Any
    ) -> dict[str, Any]:
        params = {"AWSAccessKeyId": self.access, "SignatureVersion": "2", "SignatureMethod": "HmacSHA256"} | params
        pairs = sorted((k, urllib.parse.quote(str(v), safe="-_~")) for k, v in params.items())
        text = f"GET\n{signed_host or host}\n/\n" + "&".join(f"{name}={value}" for name, value in pairs)
        digest = hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).digest()
        return {
            "access": self.access,
            "signature": base64.b64encode(digest).decode(),
            "verb": "GET",
            "host": host,
            "path": "/",
            "params": params,
        }

    def version_4(self, at: str) -> dict[str, Any]:
        scope = f"{at[:8]}/region/ec2/aws4_request"
        request = f"POST\n/\n\nhost:h\nx-amz-date:{at}\n\nhost;x-amz-date\n{EMPTY}"
        text = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        said = f"AWS4-HMAC-SHA256 Credential={self.access}/{scope}, SignedHeaders=host;x-amz-date, Signature=x"
        return {
            "access": self.access,
            "signature": self.sign_4(scope, text),
            "verb": "POST",
            "host": "h",
            "path": "/",
            "headers": {"host": "h", "X-Amz-Date": at, "Authorization": said},
            "body_hash": EMPTY,
        }

    def sign_4(self, scope: str, text: str) -> str:
        key = f"AWS4{self.secret}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()

    def s3(self, text: str, signature: str | None = None) -> dict[str, Any]:
        digest = hmac.new(self.secret.encode(), text.encode(), hashlib.sha1).digest()
        return {
            "access": self.access,
            "signature": signature or base64.b64encode(digest).decode(),
            "token": base64.urlsafe_b64encode(text.encode()).decode(),
        }

    def s3_version_4(self, service: str = "s3") -> dict[str, Any]:
        scope = f"20261129/region/{service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n20261129T000000Z\n{scope}\n{EMPTY}"
        return self.s3(text, self.sign_4(scope, text))


@pytest.fixture(scope="module")
def signing(api: IdentityApi) -> Signing:
    return Signing(api)


def stamp(minutes: float = 0) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)).strftime("%Y%m%dT%H%M%SZ")


def extended(minutes: float = 0) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


RIGHT = {
    "2": ("ec2tokens", lambda one: one.version_2(Action="DescribeInstances", Timestamp=extended())),
    "2 of a host without port": ("ec2tokens", lambda one: one.version_2(signed_host="ec2.example")),
    "2 without a time": ("ec2tokens", lambda one: one.version_2(n=1)),
    "2 of the time to come": ("ec2tokens", lambda one: one.version_2(Timestamp=extended(60))),
    "4": ("ec2tokens", lambda one: one.version_4(stamp())),
    "S3's first": ("s3tokens", lambda one: one.s3("GET\n\n\nSun, 29 Nov 2026\n/bucket/é")),
    "S3's 4": ("s3tokens", lambda one: one.s3_version_4()),
}
WRONG = {
    "2, too old": ("ec2tokens", lambda one: one.version_2(Timestamp=extended(-16)), 401),
    "2, no time": ("ec2tokens", lambda one: one.version_2(Timestamp="yesterday"), 401),
    "2, of another path": ("ec2tokens", lambda one: one.version_2() | {"path": "/other"}, 401),
    "2, of another verb": ("ec2tokens", lambda one: one.version_2() | {"verb": "POST"}, 401),
    "2, another parameter": ("ec2tokens", lambda one: one.version_2() | {"params": {"SignatureVersion": "2"}}, 401),
    "2, unsigned": ("ec2tokens", lambda one: one.version_2() | {"signature": ""}, 401),
    "2, no signature": ("ec2tokens", lambda one: one.version_2() | {"signature": "é"}, 401),
    "0": ("ec2tokens", lambda one: one.version_2() | {"params": {"SignatureVersion": "0"}}, 401),
    "1": ("ec2tokens", lambda one: one.version_2() | {"params": {"SignatureVersion": "1"}}, 401),
    "no version": ("ec2tokens", lambda one: one.version_2() | {"params": {}}, 401),
    "4, too old": ("ec2tokens", lambda one: one.version_4(stamp(-16)), 401),
    "4, another body": ("ec2tokens", lambda one: one.version_4(stamp()) | {"body_hash": "0" * 64}, 401),
    "4, half a header": (
        "ec2tokens",
        lambda one: one.version_4(stamp()) | {"headers": {"Authorization": "AWS4-HMAC-SHA256"}},
        401,
    ),
    "no key": ("ec2tokens", lambda one: {"signature": "x"}, 401),
    "an unknown key": ("ec2tokens", lambda one: one.version_2() | {"access": "x"}, 404),
    "no body": ("ec2tokens", lambda one: {}, 401),
    "a key of another type": ("ec2tokens", lambda one: {"access": 5, "signature": "x"}, 400),
    "parameters of another type": ("ec2tokens", lambda one: one.version_2() | {"params": [1]}, 400),
    "S3, another text": ("s3tokens", lambda one: one.s3("a") | {"token": "Yg=="}, 401),
    "S3, no text": ("s3tokens", lambda one: {"access": one.access, "signature": "x"}, 400),
    "S3, no base 64": ("s3tokens", lambda one: one.s3("a") | {"token": "%%"}, 400),
    "S3's 4 of another service": ("s3tokens", lambda one: one.s3_version_4("ec2"), 401),
    "S3's 4, cut off": ("s3tokens", lambda one: one.s3("AWS4-HMAC-SHA256\n1"), 401),
    "S3, an unknown key": ("s3tokens", lambda one: one.s3("a") | {"access": "x"}, 404),
}


@pytest.mark.parametrize("name", RIGHT)
def test_who_signed_gets_a_token_for_the_project(api: IdentityApi, service: str, signing: Signing, name: str) -> None:
    path, sign = RIGHT[name]
    one = signing
    for place in ("credentials", "credential", "ec2Credentials"):
        answer = api.ask("POST", path, {place: sign(one)}, service)
        assert answer.status_code == 200, answer.text
        shown = answer.get_json()["token"]
        assert (shown["user"]["id"], shown["project"]["id"]) == (one.id, one.project)
        assert shown["methods"] == ["ec2credential"]
        assert "member" in {role["name"] for role in shown["roles"]}
        assert ("X-Subject-Token" in answer.headers) == (path == "ec2tokens")


@pytest.mark.parametrize("name", WRONG)
def test_what_is_signed_wrongly_opens_nothing(api: IdentityApi, service: str, signing: Signing, name: str) -> None:
    path, sign, status = WRONG[name]
    answer = api.ask("POST", path, {"credentials": sign(signing)}, service)
    assert answer.status_code == status, answer.text
    assert answer.get_json()["error"]["code"] == status
    assert "X-Subject-Token" not in answer.headers


def test_a_request_of_awss_documentation(api: IdentityApi, service: str) -> None:
    """Its signature is published; it is right, and long over."""
    one = Signing(api, access="AKIDEXAMPLE", secret="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    said = (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, Signature="
    )
    published = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    given = {
        "access": one.access,
        "signature": published,
        "verb": "GET",
        "host": "iam.amazonaws.com",
        "path": "/",
        "params": {"Action": "ListUsers", "Version": "2010-05-08"},
        "headers": {
            "content-type": "application/x-www-form-urlencoded; charset=utf-8",
            "host": "iam.amazonaws.com",
            "X-Amz-Date": "20150830T123600Z",
            "Authorization": said + published,
        },
        "body_hash": EMPTY,
    }
    for signature, message in ((published, "Credential is expired"), ("0" * 64, "Invalid EC2 signature.")):
        answer = api.ask("POST", "ec2tokens", {"credentials": given | {"signature": signature}}, service)
        assert (answer.status_code, answer.get_json()["error"]["message"]) == (401, message)


@pytest.mark.parametrize("path", ["ec2tokens", "s3tokens"])
def test_only_services_and_administrators_may_ask(api: IdentityApi, service: str, signing: Signing, path: str) -> None:
    one = signing
    body = {"credentials": one.version_2() if path == "ec2tokens" else one.s3("a")}
    asked = {token: api.ask("POST", path, body, token).status_code for token in ("", one.token, service, api.admin)}
    assert list(asked.values()) == [401, 403, 200, 200]
    assert api.ask("GET", path, None, service).status_code == 405
    for given in (None, {}):
        assert api.ask("POST", path, given, service).status_code == 400


def test_what_is_withdrawn_opens_nothing(api: IdentityApi, service: str) -> None:
    ends: dict[str, tuple[str, str, Any]] = {
        "user": ("PATCH", "users/{one.id}", {"user": {"enabled": False}}),
        "project": ("PATCH", "projects/{one.project}", {"project": {"enabled": False}}),
        "grant": ("DELETE", f"projects/{{one.project}}/users/{{one.id}}/roles/{api.roles['member']}", None),
        "credential": ("DELETE", "users/{one.id}/credentials/OS-EC2/{one.access}", None),
    }
    for what, (method, path, body) in ends.items():
        one = Signing(api)
        assert api.ask("POST", "ec2tokens", {"credentials": one.version_2()}, service).status_code == 200
        assert api.ask(method, path.format(one=one), body).status_code in (200, 204)
        answer = api.ask("POST", "ec2tokens", {"credentials": one.version_2()}, service)
        assert answer.status_code == (404 if what == "credential" else 401), what


def test_a_credential_of_an_application_leads_no_further(api: IdentityApi, service: str) -> None:
    one = Signing(api)
    rules = [{"service": "identity", "method": "GET", "path": "/v3/projects"}]
    body = {"application_credential": {"name": "c", "unrestricted": True, "access_rules": rules}}
    made = api.ask("POST", f"users/{one.id}/application_credentials", body, one.token)
    application = made.get_json()["application_credential"]
    blob = {"access": one.access + "b", "secret": "s", "app_cred_id": application["id"]}
    given = {"user_id": one.id, "project_id": one.project, "type": "ec2", "blob": blob}
    assert api.ask("POST", "credentials", {"credential": given}).status_code == 201
    one.access, one.secret = blob["access"], "s"
    answer = api.ask("POST", "ec2tokens", {"credentials": one.version_2()}, service)
    assert answer.status_code == 200, answer.text
    shown = answer.get_json()["token"]["application_credential"]
    assert (shown["id"], [rule["path"] for rule in shown["access_rules"]]) == (application["id"], ["/v3/projects"])
    token = answer.headers["X-Subject-Token"]
    assert api.ask("GET", f"users/{one.id}", None, token).status_code == 401
    gone = f"users/{one.id}/application_credentials/{application['id']}"
    assert api.ask("DELETE", gone).status_code == 204
    assert api.ask("POST", "ec2tokens", {"credentials": one.version_2()}, service).status_code == 401
    assert api.log_in(one.id, password=PASSWORD).status_code == 201
