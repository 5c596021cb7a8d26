from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from cell.scheduler.policy.compiled_policy import compile_policy
from cell.scheduler.policy.weighers import weigh
from tests.oracle import check
from tests.oracle.check import OWN_FILE, Checker, Verdict, scenarios_in
from tests.oracle.knowing import CASES
from tests.oracle.scenario import policy_of, request_of, table_of


def test_we_answer_as_nova_does() -> None:
    verdict = check.check(OWN_FILE)
    assert not verdict.disagreements, verdict.report()
    assert verdict.scenarios == 200
    assert verdict.compared > 70_000
    assert set(verdict.known) == {case.name for case in CASES}


def test_weights_are_novas_to_the_last_bit() -> None:
    for scenario in scenarios_in(OWN_FILE):
        here, plan = table_of(scenario), compile_policy(policy_of(scenario, ()))
        for given, answer in zip(scenario["requests"], scenario["answers"], strict=True):
            if "weight" in answer.get("weigh_all", {}):
                weight = weigh(here, np.arange(len(here)), request_of(given), plan.options, plan.weighers)
                assert weight.tolist() == answer["weigh_all"]["weight"]


@pytest.mark.parametrize("name", ["filters", "weighers", "weigh_all", "decisions", "placement_queries", "candidates"])
def test_a_wrong_answer_is_found(name: str) -> None:
    scenario = copy.deepcopy(next(scenarios_in(OWN_FILE)))
    answer = next(one for one in scenario["answers"] if one.get("placement_queries") and one["candidates"])
    wrong = {
        "filters": {"AllHostsFilter": [0]},
        "weighers": {"RAMWeigher": {"raw": [-1.0] * len(scenario["hosts"])}},
        "weigh_all": {"order": [0]} if "error" in answer["weigh_all"] else {"weight": [-1.0] * len(scenario["hosts"])},
        "decisions": {"default": {"passing": [99], "select": [[99]]}},
        "placement_queries": ["resources=VCPU:1"],
        "candidates": [],
    }
    answer[name] = wrong[name]
    verdict = Verdict()
    if name == "weigh_all" and "order" in wrong[name]:
        answer["weigh_all"] = {"error": "SomethingElse"}
    Checker(scenario, verdict).run()
    assert verdict.disagreements


def test_a_file_may_be_packed_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = next(scenarios_in(OWN_FILE))
    plain, packed = tmp_path / "some.jsonl", tmp_path / "some.jsonl.gz"
    plain.write_text(json.dumps(scenario) + "\n")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, packed):
        monkeypatch.setattr("sys.argv", ["check", str(path)])
        assert check.main() == 0
        assert capsys.readouterr().out.endswith("1 scenarios, 0 disagreements\n")
    scenario["answers"][0]["candidates"] = [0]
    plain.write_text(json.dumps(scenario))
    monkeypatch.setattr("sys.argv", ["check", str(plain)])
    assert check.main() == 1
    assert "Nova [0]" in capsys.readouterr().out
