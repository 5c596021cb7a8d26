"""What the import linter cannot see: names, sizes, budgets, and the form of messages."""

from __future__ import annotations

import ast
import configparser
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from oslo_config import generator

from cellcloud import config, errors
from cellcloud.rpc.compute import Compute
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.consoleauth import ConsoleAuth
from cellcloud.rpc.feed_notification import Router
from cellcloud.rpc.interface import queue_of, verbs_of
from cellcloud.rpc.network_store import NetworkStore
from cellcloud.rpc.scheduler import Scheduler
from cellcloud.rpc.scheduling_store import SchedulingStore

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for top in ("cellcloud", "top_api", "cell", "tests", "benchmarks") for path in (ROOT / top).rglob("*.py")
)
PRODUCT = [path for path in SOURCES if path.parts[len(ROOT.parts)] not in ("tests", "benchmarks")]
INTERFACES = (Conductor, SchedulingStore, NetworkStore, Scheduler, Compute, ConsoleAuth, Router)
GOLDEN = Path(__file__).with_name("interfaces.json")


def test_no_file_is_longer_than_800_lines() -> None:
    long = [str(path) for path in SOURCES if len(path.read_text().splitlines()) > 800]
    assert long == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}
    assert [str(path) for path in PRODUCT if path.stem in empty or path.parent.name in empty] == []


def test_no_class_name_stands_for_two_things() -> None:
    names = Counter(
        node.name for path in PRODUCT for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_options_errors_and_verbs_keep_their_budgets() -> None:
    assert sum(len(options) for options in config.GROUPS.values()) <= 120
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(classes) <= 30
    for interface in INTERFACES:
        assert len(verbs_of(interface)) <= 40, interface.__name__


def test_every_option_says_what_it_is() -> None:
    for options in config.GROUPS.values():
        for option in options:
            assert option.help, option.name


def test_secret_options_are_marked() -> None:
    for options in config.GROUPS.values():
        for option in options:
            rule = option.name in ("password_expires_days", "unique_last_password_count", "password_regex")
            if re.search(r"password|secret|connection|transport_url", option.name) and not rule:
                assert option.secret, option.name


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_code_may_not_do(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                assert not (keyword.arg == "shell" and getattr(keyword.value, "value", False)), "a shell"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "marshal", "shelve"} & set(names), "an unsafe format"


def test_one_module_of_a_service_starts_qemu_img() -> None:
    users = [str(path.relative_to(ROOT)) for path in PRODUCT if '"qemu-img"' in path.read_text()]
    services = [path.split("/")[1] for path in users if path.startswith("cell/")]
    assert len(services) == len(set(services)), users


@pytest.mark.parametrize("unit", ["cellcloud.service", "cellcloud-compute.service", "cellcloud-volume.service"])
def test_systemd_leaves_guests_and_what_serves_them_alone(unit: str) -> None:
    """Its default is to kill all that a service has started, and guests among it."""
    settings = configparser.RawConfigParser(strict=False)
    settings.read(ROOT / "etc" / "systemd" / unit)
    assert settings["Service"]["KillMode"] == "process"


def _shape() -> dict[str, dict[str, list[str]]]:
    return {
        queue_of(interface): {
            name: [f"{parameter}: {kind}" for parameter, kind in verb.parameters.items()] + [f"-> {verb.answer}"]
            for name, verb in sorted(verbs_of(interface).items())
        }
        for interface in INTERFACES
    }


def test_interfaces_only_grow() -> None:
    """Verbs and parameters of the golden dump stay. To add one: write the new dump with the failure's text."""
    shape = _shape()
    golden = json.loads(GOLDEN.read_text())
    for interface, verbs in golden.items():
        for verb, parameters in verbs.items():
            assert verb in shape[interface], f"{interface}.{verb} is gone"
            assert set(parameters) <= set(shape[interface][verb]), f"{interface}.{verb} changed"
    assert golden == shape, json.dumps(shape, indent=1)


def test_the_sample_of_the_options_is_true(tmp_path: Path) -> None:
    """To make it anew: oslo-config-generator --namespace cellcloud --output-file etc/cellcloud.conf.sample"""
    sample = tmp_path / "sample"
    settings = generator.cfg.ConfigOpts()
    generator.register_cli_opts(settings)
    settings(["--namespace", "cellcloud", "--output-file", str(sample)], project="cellcloud", default_config_files=[])
    generator.generate(settings)
    assert _settings(sample) == _settings(ROOT / "etc" / "cellcloud.conf.sample")


def _settings(path: Path) -> list[str]:
    """The lines, but for the machine's own name as the default of an option."""
    return [line for line in path.read_text().splitlines() if not line.startswith("#host = ")]


@pytest.mark.parametrize("tree", ["top", "cell"])
def test_migrations_are_one_chain(tree: str) -> None:
    """Each file is the only one of its number and follows the one before it."""
    files = sorted((ROOT / "cellcloud" / "db" / "alembic" / tree / "versions").glob("*.py"))
    chain = [
        (re.search('^revision = "(.*)"$', text, re.M), re.search('^down_revision = "(.*)"$', text, re.M))
        for text in (path.read_text() for path in files)
    ]
    numbers = [f"{number:04}" for number in range(1, len(files) + 1)]
    assert [path.name[:4] for path in files] == numbers
    assert [own and own[1] for own, _ in chain] == numbers
    assert [last and last[1] for _, last in chain] == [None, *numbers[:-1]]
