"""The defaults of all services, for the API and for oslopolicy-sample-generator."""

from __future__ import annotations

from oslo_policy.policy import RuleDefault

from top_api.authorization import compute, identity, image, network, volume


def list_rules() -> list[RuleDefault]:
    """Every rule that this API asks about, each once."""
    return [rule for service in (compute, identity, image, network, volume) for rule in service.list_rules()]
