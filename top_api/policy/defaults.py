"""The defaults of all services, for the API and for oslopolicy-sample-generator."""

from __future__ import annotations

from oslo_policy.policy import RuleDefault

from top_api.policy import compute


def list_rules() -> list[RuleDefault]:
    """Every rule that this API asks about, each once."""
    return [*compute.list_rules()]
