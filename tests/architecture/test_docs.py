"""What the documents name is there: files, commands, targets, figures."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

from cell.admin.__main__ import main as cellctl
from cellcloud import metrics
from cellcloud.launcher.cli import main as cellcloud

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
FOLDERS = "cellcloud|top_api|cell|tests|benchmarks|etc|docs"
COMMANDS: dict[str, click.Group] = {"cellctl": cellctl, "cellcloud": cellcloud}


def _files(page: Path) -> set[str]:
    """Paths from the project's root, links from the page's folder, and tests by name alone."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    named = set(re.findall(rf"(?<![\w./-])((?:{FOLDERS})/[\w./-]*[\w/])", text))
    linked = {str((page.parent / link).relative_to(ROOT)) for link in re.findall(r"\]\(([\w./-]+)\)", text)}
    return named | linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    assert sorted(name for name in _files(page) if not (ROOT / name).exists()) == []
    tests = {path.name for path in (ROOT / "tests").rglob("*.py")}
    assert sorted(set(re.findall(r"(?<!/)\btest_\w+\.py\b", page.read_text())) - tests) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_shown_are_there(page: Path) -> None:
    text = page.read_text()
    code = re.findall(r"```\w*\n(.*?)```", text, flags=re.S) + re.findall(r"^    (.*)$", text, flags=re.M)
    code += re.findall(r"`([^`\n]+)`", text)
    found = [
        match for part in code for match in re.findall(r"(?:^|; )(cellctl|cellcloud) ([a-z][\w -]*)", part, flags=re.M)
    ]
    for program, words in found:
        command: click.Command = COMMANDS[program]
        for word in words.split():
            if not isinstance(command, click.Group):
                break
            assert word in command.commands, f"{program} {words}"
            command = command.commands[word]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_that_are_shown_are_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    shown = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), flags=re.M))
    assert shown - targets == set()


def test_every_figure_is_explained_and_none_that_is_not_there() -> None:
    known = set()
    for figure in vars(metrics).values():
        if isinstance(figure, MetricWrapperBase):
            total = "" if isinstance(figure, Histogram) or figure._type == "gauge" else "_total"
            known.add(figure._name + total)
    assert set(re.findall(r"`(cellcloud_\w+)`", (ROOT / "docs" / "operating.md").read_text())) == known
