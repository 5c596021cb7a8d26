"""No route without a rule, no rule that nothing asks about, and a sample of the policy that is true."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from oslo_config import cfg
from oslo_policy import generator

from top_api.authorization import list_rules
from top_api.embedded_api import RESOURCES as EMBEDDED_RESOURCES
from top_api.request_pipeline import Actions
from top_api.routes import RESOURCES

ROOT = Path(__file__).parents[2]
ALL_RESOURCES = (*RESOURCES, *EMBEDDED_RESOURCES)
OPEN = {  # what needs no token
    "/",
    "/v2.1/",
    "/v2/",
    "/identity",
    "/identity/",
    "/identity/v3",
    "/identity/v3/",
    "/identity/v3/auth/tokens",
    "/identity/v3/users/<user_id>/password",
    "/image",
    "/image/",
    "/image/versions",
    "/volume",
    "/volume/",
    "/volume/v3",
    "/volume/v3/",
    "/image/v2",
    "/image/v2/",
    "/network",
    "/network/",
}
DECLARED = {rule.name: rule for rule in list_rules()}


def _rules_of_routes() -> list[tuple[str, str]]:
    """(what is served, its rule) for every route and every action of every service that asks one."""
    found = []
    for resource in ALL_RESOURCES:
        for route in resource.routes:
            if isinstance(route.rule, Actions):
                found += [(f"{route.path}: {name}", action.rule) for name, action in route.rule.by_name.items()]
            elif route.rule is not None:
                found.append((f"{route.method} {resource.api.prefix}{route.path}", route.rule))
    return found


def _asked_in_code() -> str:
    """Every text of the API's code outside the tables of rules, one a line."""
    texts = []
    for path in (ROOT / "top_api").rglob("*.py"):
        if path.parent.name == "authorization" and path.stem != "enforcement":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_every_route_and_action_asks_a_declared_rule() -> None:
    served = _rules_of_routes()
    assert len(served) > 150
    assert [(what, rule) for what, rule in served if rule not in DECLARED] == []


def test_only_logging_in_and_the_documents_of_versions_are_open() -> None:
    found = [
        (route.method, resource.api.prefix + route.path)
        for resource in ALL_RESOURCES
        for route in resource.routes
        if route.rule is None
    ]
    assert len(found) == len(OPEN)
    assert set(found) == {("POST" if path.endswith(("/tokens", "/password")) else "GET", path) for path in OPEN}


def test_no_rule_is_declared_that_nothing_asks_about() -> None:
    lines = set(_asked_in_code().splitlines()) | {rule for _, rule in _rules_of_routes()}
    built = " ".join(rule.check_str for rule in DECLARED.values())
    suffixed = {f"{name}:{line.removeprefix(':')}" for name in DECLARED for line in lines}
    unused = [name for name in DECLARED.keys() - lines - suffixed if f"rule:{name}" not in built]
    assert unused == []


def test_every_rule_is_declared_once_and_says_what_it_is_about() -> None:
    assert [name for name, count in Counter(rule.name for rule in list_rules()).items() if count > 1] == []
    assert [rule.name for rule in DECLARED.values() if not rule.description or not rule.scope_types] == []


def test_the_sample_of_the_policy_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To make it anew: oslopolicy-sample-generator --namespace cellcloud --output-file etc/policy.yaml.sample"""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["oslo.policy.policies"]
    metadata = tmp_path / "sampled-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sampled\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(f"[oslo.policy.policies]\nsampled = {entry['cellcloud']}\n")
    monkeypatch.syspath_prepend(tmp_path)
    sample = tmp_path / "sample"
    generator.generate_sample(["--namespace", "sampled", "--output-file", str(sample)], conf=cfg.ConfigOpts())
    assert sample.read_text() == (ROOT / "etc" / "policy.yaml.sample").read_text()
