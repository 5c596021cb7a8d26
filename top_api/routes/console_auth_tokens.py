"""/os-console-auth-tokens: where a console's token leads, for administrators' own proxies."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.model.console import ConsoleAddress
from top_api.answers import console_auth_tokens as answers
from top_api.operations.consoles import find_console
from top_api.request_pipeline import Call, Resource
from top_api.schemas import console_auth_tokens as schemas

console_auth_tokens = Resource("os-console-auth-tokens")


@console_auth_tokens.route(
    "GET",
    "/os-console-auth-tokens/<token>",
    "os_compute_api:os-console-auth-tokens",
    query=schemas.SHOW,
    answer=answers.SHOW,
)
def show(call: Call, token: str) -> dict[str, Any]:
    if call.version < (2, 31):
        raise errors.Invalid("Below 2.31 there were tokens of RDP consoles alone.")
    found: ConsoleAddress = find_console(call.services, call.context, token)
    return {
        "console": {
            "instance_uuid": found.server_id,
            "host": found.host,
            "port": found.port,
            "internal_access_path": None,
        }
    }
