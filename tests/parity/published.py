"""Nova's own request and response schemas, read as data from its package: nothing of Nova runs here but what builds
its schemas."""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import subprocess
import sys
import types
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import jsonschema

from cellcloud.server_states import VmState

CACHE = Path(__file__).parents[2] / ".cache" / "parity"
CONTROLLERS = "nova/api/openstack/compute"
SCHEMAS = "nova.api.openstack.compute.schemas"
# What is imported as it is; any other module of Nova's is a stand-in with nothing but its constants.
REAL = ("nova.api.validation.", SCHEMAS + ".")
BARE = ("nova", "nova.api", "nova.api.openstack", "nova.api.openstack.compute", "nova.api.validation", SCHEMAS,
        "nova.objects", "nova.compute", "nova.api.validation.extra_specs")  # fmt: skip
Version = tuple[int, int]
NAMED = {"MAX_PROXY_API_SUPPORT_VERSION": "2.35"}  # microversions that Nova's code has a word for
ALWAYS: tuple[Version, Version] = ((2, 0), (2, 1000))


@dataclass
class Method:
    """A controller's method. Each list: (first microversion, last one, schema)."""

    bodies: list[tuple[Version, Version, Any]] = field(default_factory=list)
    queries: list[tuple[Version, Version, Any]] = field(default_factory=list)
    answers: list[tuple[Version, Version, Any]] = field(default_factory=list)
    served: tuple[Version, Version] = ALWAYS


def fetch() -> Path:
    """The unpacked package, downloaded once."""
    if not any(CACHE.glob("nova-*.whl")):
        CACHE.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(CACHE), "nova"]
        subprocess.run(command, check=True)
    folder = CACHE / "unpacked"
    if not folder.exists():
        with zipfile.ZipFile(next(CACHE.glob("nova-*.whl"))) as package:
            package.extractall(folder)
    return folder


class _Refusal(Exception):
    """What stands for each of Nova's errors: formats raise and catch them."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stand-ins for the modules of Nova's that only its services need."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".", maxsplit=1)[0] != "nova" or (name.startswith(REAL) and name not in BARE):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        module = types.ModuleType(spec.name) if spec.name in BARE else MagicMock(name=spec.name)
        module.__path__ = [str(self._folder / spec.name.replace(".", "/"))]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        file = Path(f"{module.__path__[0]}.py")
        if module.__spec__ is None or module.__spec__.name in BARE or not file.exists():
            return
        if module.__spec__.name == "nova.compute.vm_states":  # which names another module's constants
            for state in VmState:
                setattr(module, state.name, state.value)
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and module.__spec__.name == "nova.exception":
                setattr(module, node.name, type(node.name, (_Refusal,), {}))
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                with suppress(ValueError):
                    setattr(module, node.targets[0].id, ast.literal_eval(node.value))


class Published:
    """Schemas by controller file and method, and Nova's validator for them."""

    def __init__(self) -> None:
        self._folder = fetch()
        sys.meta_path.insert(0, _Finder(self._folder))
        self._validators = importlib.import_module("nova.api.validation.validators")
        self._methods: dict[str, dict[str, list[Method]]] = {}

    def methods(self, file: str, name: str) -> list[Method]:
        """The methods of a controller file with that name, of any class or that before a dot; or that action."""
        if file not in self._methods:
            self._methods[file] = self._read(file)
        return self._methods[file][name]

    def validator(self, schema: Any) -> Any:
        """Draft 4 with Nova's formats and its own minimum and maximum for numbers in texts."""
        return self._validators._SchemaValidator(schema).validator

    def _read(self, file: str) -> dict[str, list[Method]]:
        tree = ast.parse((self._folder / CONTROLLERS / f"{file}.py").read_text())
        modules = {
            (alias.asname or alias.name): f"{node.module}.{alias.name}"
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(SCHEMAS)
            for alias in node.names
        }
        found: dict[str, list[Method]] = {}
        for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
            for function in (node for node in cls.body if isinstance(node, ast.FunctionDef)):
                method, action = self._method(function.decorator_list, modules)
                found.setdefault(action or function.name, []).append(method)
                found.setdefault(f"{cls.name}.{function.name}", []).append(method)
        return found

    def _method(self, decorators: Sequence[ast.expr], modules: dict[str, str]) -> tuple[Method, str]:
        method, action = Method(), ""
        for each in decorators:
            if not isinstance(each, ast.Call) or not isinstance(each.func, ast.Attribute):
                continue
            kind = each.func.attr
            words = [word for word in map(_word, each.args) if word is not None]
            if kind == "action":
                action = str(words[0])
            elif kind == "api_version":
                method.served = _range(words)
            lists = {"schema": method.bodies, "query_schema": method.queries, "response_body_schema": method.answers}
            if kind in lists and isinstance(each.args[0], ast.Attribute):
                named = each.args[0]
                assert isinstance(named.value, ast.Name)
                schema = getattr(importlib.import_module(modules[named.value.id]), named.attr)
                lists[kind].append((*_range(words), schema))
        return method, action


def _word(argument: ast.expr) -> Any:
    """What an argument is, where that can be read; else None."""
    if isinstance(argument, ast.Name):
        return NAMED.get(argument.id)
    return argument.value if isinstance(argument, ast.Constant) else None


def _range(words: Sequence[Any]) -> tuple[Version, Version]:
    versions = [tuple(map(int, str(word).split("."))) for word in words if word is not None]
    first = versions[0] if versions else ALWAYS[0]
    last = versions[1] if len(versions) > 1 else ALWAYS[1]
    return first, last  # type: ignore[return-value]


def at(choices: Sequence[tuple[Version, Version, Any]], version: Version) -> Any:
    """The schema of a microversion; None where there is none."""
    return next((schema for first, last, schema in choices if first <= version <= last), None)


def is_valid(validator: Any, value: Any) -> bool:
    """Nova's verdict. Its formats raise what they like."""
    try:
        validator.validate(value)
    except jsonschema.ValidationError:
        return False
    except Exception:  # noqa: BLE001 -- a format that chokes is a refusal
        return False
    return True
