"""Ports that are lent to a server, as the real network service tells of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from cellcloud import errors
from cellcloud.clients.neutron import NeutronClient
from cellcloud.model.network import RequestedNetwork

FREE = {"id": "p", "project_id": "demo", "device_id": "", "fixed_ips": [{"ip_address": "10.0.0.5"}]}


@dataclass(frozen=True)
class Answer:
    """One of the network service's."""

    body: dict[str, Any]
    status_code: int = 200

    def json(self) -> dict[str, Any]:
        return self.body


@dataclass(frozen=True)
class OnePort:
    """A session with a network service that has one port."""

    port: dict[str, Any]

    def request(self, url: str, method: str, **_: Any) -> Answer:
        assert (method, url) == ("GET", "http://network/v2.0/ports/p")
        return Answer({"port": self.port})


def check(port: dict[str, Any]) -> None:
    client = NeutronClient(cast(Any, OnePort(FREE | port)), url="http://network")
    client.check_networks("demo", [RequestedNetwork(port_id="p")], count=1)


@pytest.mark.parametrize("nothing", [{}, {"resource_request": None}])
def test_a_port_without_a_resource_request_is_taken(nothing: dict[str, Any]) -> None:
    check(nothing)


@pytest.mark.parametrize(
    "request_",
    [
        {"required": ["CUSTOM_PHYSNET_A"], "resources": {"NET_BW_EGR_KILOBIT_PER_SEC": 1000}},
        {"request_groups": [{"id": "g", "resources": {"NET_BW_IGR_KILOBIT_PER_SEC": 1}}], "same_subtree": ["g"]},
    ],
)
def test_a_port_whose_bandwidth_nobody_would_reserve_is_refused(request_: dict[str, Any]) -> None:
    with pytest.raises(errors.Invalid, match="resource request"):
        check({"resource_request": request_})
