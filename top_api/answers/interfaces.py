"""Answers about a server's ports."""

from __future__ import annotations

from top_api.answers.types import ADDRESS, MAC, TEXT, UUID, WORD, only
from top_api.response_schema import Fields, list_of, nullable, since

_ONE = Fields(
    {
        "net_id": UUID,
        "port_id": UUID,
        "mac_addr": MAC,
        "port_state": WORD,
        "fixed_ips": list_of(Fields({"ip_address": ADDRESS, "subnet_id": UUID})),
        "tag": since(70, nullable(TEXT)),
    },
    name="InterfaceAttachment",
)
LIST = only("interfaceAttachments", list_of(_ONE))
ONE = only("interfaceAttachment", _ONE)
