"""From a request's token to its context."""

from __future__ import annotations

from dataclasses import replace

from werkzeug.datastructures import Headers

from cellcloud import errors
from cellcloud.clients.identity import IdentityClient
from cellcloud.context import REQUEST_ID, RequestContext
from cellcloud.safe_regex import Pattern
from top_api import access_rules, rates
from top_api.authorization import Enforcer

BUDGET = 30.0  # seconds a request may take in all
TOKEN = Pattern(r"[\x21-\x7e]+", most=8192)


def global_request_id(headers: Headers) -> str | None:
    """Return the caller's own id for a chain of requests, if it is well formed."""
    given = headers.get("X-OpenStack-Request-ID", "")
    return given if REQUEST_ID.matches(given) else None


def authenticate(
    identity: IdentityClient,
    enforcer: Enforcer,
    headers: Headers,
    request_id: str,
    *,
    in_project: bool = True,
    asked: tuple[str, str, str] = ("", "", ""),
) -> RequestContext:
    """Find out who asks; nothing but the token is believed. ``in_project``: the token must give a role in a project,
    and the request counts against that project's rate. ``asked``: service, method and path, for rules of access.

    Raises Unauthenticated, Forbidden for a token without a role in a project, TooManyRequests, Unreachable.
    """
    token = headers.get("X-Auth-Token", "")
    if not TOKEN.matches(token):
        raise errors.Unauthenticated("No valid token.")
    caller = identity.validate_token(token)
    access_rules.check(caller.access_rules, *asked)
    if in_project:
        if not caller.project_id or not caller.roles:
            raise errors.Forbidden("The token gives no role in a project.")
        rates.count(caller.project_id)
    context = RequestContext(
        request_id=request_id,
        global_request_id=global_request_id(headers),
        user_id=caller.user_id,
        project_id=caller.project_id,
        roles=caller.roles,
        user_domain_id=caller.domain_id,
        project_domain_id=caller.project_domain_id,
        domain_id=caller.scope_domain_id,
        system=caller.system,
        budget=BUDGET,
    )
    return replace(context, is_admin=enforcer.allows(context, "context_is_admin"))
