"""What reaches into libraries is listed in one file, with the versions it was tried with, and kept from newer ones."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from cellcloud import rpc
from cellcloud.third_party_patches import REACHES, Reach

ROOT = Path(__file__).parents[2]
OWN = ("cellcloud", "top_api", "cell")
assert rpc.use_threads  # loaded before oslo.messaging
DOCUMENTED = {"_exit", "_mapping"}  # os, and SQLAlchemy's rows
LISTED = {re.split(r"[:.]", name)[-1] for reach in REACHES for name in reach.names}


@cache
def _trees() -> dict[str, ast.Module]:
    """Every file of the product, parsed, by its path."""
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text())
        for top in OWN
        for path in sorted((ROOT / top).rglob("*.py"))
    }


def _bounds() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {requirement.name: requirement for requirement in map(Requirement, project["dependencies"])}


@pytest.mark.parametrize("reach", REACHES, ids=lambda reach: reach.package)
def test_the_installed_version_was_tried(reach: Reach) -> None:
    """Another one: look at what changed, run the suite, then add the version and move the bound."""
    assert importlib.metadata.version(reach.package) in reach.tried


@pytest.mark.parametrize("reach", REACHES, ids=lambda reach: reach.package)
def test_newer_versions_are_kept_out(reach: Reach) -> None:
    requirement = _bounds()[reach.package]
    assert any(bound.operator in ("<", "<=") for bound in requirement.specifier)
    assert all(requirement.specifier.contains(version) for version in reach.tried)
    newest = [int(part) for part in reach.tried[-1].split(".")[:2]]
    assert not requirement.specifier.contains(f"{newest[0]}.{newest[1] + 1}.0")


@pytest.mark.parametrize("name", [name for reach in REACHES for name in reach.names])
def test_what_is_relied_on_is_there(name: str) -> None:
    module, path = name.split(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        if isinstance(found, type) and not hasattr(found, part):
            sources = [inspect.getsource(cls) for cls in found.__mro__ if cls.__module__ != "builtins"]
            assert any(re.search(rf"self\.{part}\b.* = |{part}:", source) for source in sources), part
            return
        found = getattr(found, part)


@pytest.mark.parametrize("reach", REACHES, ids=lambda reach: reach.package)
def test_the_files_are_those_that_use_it(reach: Reach) -> None:
    for file in reach.files:
        assert file in _trees()
    texts = [(ROOT / file).read_text() for file in reach.files] + [inspect.getsource(sys.modules[Reach.__module__])]
    for name in reach.names:
        assert any(re.search(rf"\b{re.split('[:.]', name)[-1]}\b", text) for text in texts), name


def _names_of_our_own() -> set[str]:
    found = set()
    for tree in _trees().values():
        for node in ast.walk(tree):
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    found.add(node.name)
                case ast.Attribute(value=ast.Name(id="self" | "cls"), ctx=ast.Store()):
                    found.add(node.attr)
                case ast.AnnAssign(target=ast.Name() as target):
                    found.add(target.id)
                case ast.Assign():
                    found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def _private_uses() -> Iterator[tuple[str, str]]:
    """(file, name) of what is private and not defined in the project."""
    own = _names_of_our_own()
    for file, tree in _trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and re.fullmatch("_[^_].*", node.attr) and node.attr not in own:
                yield file, node.attr
            if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith(OWN):
                private = "._" in node.module
                yield from ((file, alias.name) for alias in node.names if private or re.match("_[^_]", alias.name))


def test_nothing_private_of_a_library_is_used_that_is_not_listed() -> None:
    files = {file for reach in REACHES for file in reach.files}
    modules = {name.split(":")[0].split(".")[-1] for reach in REACHES for name in reach.names}
    unlisted = [
        (file, name)
        for file, name in _private_uses()
        if name not in DOCUMENTED
        and not (file in files | {"cellcloud/third_party_patches.py"} and name in LISTED | modules)
    ]
    assert unlisted == []


def test_no_private_method_of_a_library_is_replaced_that_is_not_listed() -> None:
    replaced = []
    for file, tree in _trees().items():
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.bases]
        if not classes or file.endswith(("__main__.py", "wsgi.py")) or "/versions/" in file:
            continue
        module = importlib.import_module(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        for node in classes:
            cls = getattr(module, node.name, None)
            if not isinstance(cls, type):
                continue
            foreign = [
                base
                for base in cls.__mro__[1:]
                if base.__module__.split(".")[0] not in (*OWN, *sys.stdlib_module_names)
            ]
            methods = [part.name for part in node.body if isinstance(part, ast.FunctionDef)]
            replaced += [
                (file, name)
                for name in methods
                if re.match("_[^_]", name) and any(name in vars(base) for base in foreign)
            ]
    assert replaced
    assert [(file, name) for file, name in replaced if name not in LISTED] == []


def test_no_service_loads_eventlet() -> None:
    code = "import sys, cellcloud.rpc.serializer, cellcloud.rpc.transport; print(sys.modules.get('eventlet'))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.stdout.strip() == "None", told.stderr
