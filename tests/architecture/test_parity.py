"""The comparison with Nova leaves no route out."""

from __future__ import annotations

from tests.parity.routes import ACTIONS, NOT_COMPARED, ROUTES
from top_api.request_pipeline import Actions
from top_api.routes import RESOURCES


def test_every_route_is_compared_with_nova_or_excepted_by_name() -> None:
    compared = [resource for resource in RESOURCES if resource.name not in NOT_COMPARED]
    served = {(route.method, route.path) for resource in compared for route in resource.routes}
    assert served == ROUTES.keys() | {("POST", path) for path in ACTIONS}
    actions = {
        route.path: route.rule.by_name.keys()
        for resource in compared
        for route in resource.routes
        if isinstance(route.rule, Actions)
    }
    assert actions == {path: named.keys() for path, named in ACTIONS.items()}


def test_exceptions_are_of_resources_that_there_are() -> None:
    assert NOT_COMPARED.keys() <= {resource.name for resource in RESOURCES}
