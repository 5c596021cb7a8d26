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

from cellcloud.third_party_patches import REACHES, Reach

ROOT = Path(__file__).parents[2]
OWN = ("cellcloud", "top_api", "cell")
PLACE = "cellcloud/third_party_patches.py"
BLOCKED = "oslo_utils.eventletutils:EVENTLET_AVAILABLE"  # what shows that eventlet is kept out
EXTENSION_POINTS = {
    "gunicorn:BaseApplication": {"load", "load_config"},
    "gunicorn:Worker": {"init_process", "load_wsgi"},
    "kombu:Channel": {"_put", "basic_consume", "basic_publish"},
    "kombu:Transport": {"Channel", "drain_events"},
    "oslo_messaging:Serializer": {
        "deserialize_context",
        "deserialize_entity",
        "serialize_context",
        "serialize_entity",
    },
    "sqlalchemy:ColumnElement": {"type"},
    "sqlalchemy:Connection": {"execute"},
    "sqlalchemy:DefaultDialect": {"do_commit"},
    "sqlalchemy:ExternalType": {"cache_ok"},
    "sqlalchemy:HasCacheKey": {"inherit_cache"},
    "sqlalchemy:MySQLDialect_mysqldb": {"supports_statement_cache"},
    "sqlalchemy:TypeDecorator": {"load_dialect_impl", "process_bind_param", "process_result_value"},
    "uvicorn:H11Protocol": {
        "connection_lost",
        "connection_made",
        "data_received",
        "pause_writing",
        "resume_writing",
    },
    "uvicorn_worker:UvicornWorker": {"CONFIG_KWARGS"},
    "websockify:WebSocket": {"accept", "handle_ping", "handle_pong"},
    "websockify:WebSockifyRequestHandler": {
        "SocketClass",
        "do_GET",
        "do_HEAD",
        "handle_upgrade",
        "handle_websocket",
        "log_message",
        "server_version",
    },
}
"""What subclasses override, each in the way that the library describes to those who extend it: kombu's virtual
transports, SQLAlchemy's dialects, types and constructs, websockify's hooks, asyncio's protocols behind uvicorn's."""
MADE_BY_BASES = {"_abc_impl", "_compiler_dispatch"}  # in each class, by the classes that it extends
SETTINGS = {
    "autocommit",  # psycopg's and sqlite3's connections
    "isolation_level",
    "case_sensitive",  # RE2's options
    "log_errors",
    "max_mem",
    "max_content_length",  # Flask's requests and applications
    "url_map",
    "url_map.merge_slashes",
    "wsgi_app",
    "obj",  # click's context
    "should_exit",  # uvicorn's server
    "trust_env",  # requests' session
    "check_hostname",  # contexts of ssl
    "minimum_version",
}
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


@pytest.mark.parametrize("name", [name for reach in REACHES for name in reach.names])
def test_what_is_listed_is_used(name: str) -> None:
    last = re.split("[:.]", name)[-1]
    assert name == BLOCKED or len(re.findall(rf"\b{last}\b", (ROOT / PLACE).read_text())) > 1


def _imported(tree: ast.AST) -> dict[str, str]:
    """By their names in a file, the modules that its names were imported from."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _names_of_our_own() -> set[str]:
    found = set()
    for file, tree in _trees().items():
        if file == PLACE:
            continue
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


def _private_uses(file: str, tree: ast.AST, own: set[str]) -> Iterator[str]:
    """What a file uses that is private and not defined in the project."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.fullmatch("_[^_].*", node.attr) and node.attr not in own:
            yield node.attr
        if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith(OWN):
            private = re.search(r"\._[^_]", node.module)
            yield from (alias.name for alias in node.names if private or re.match("_[^_]", alias.name))


def _changes(tree: ast.AST, own: set[str]) -> Iterator[str]:
    """What a file puts into modules, classes and objects that are not its own."""
    imported = _imported(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls" | "g")) | ast.Attribute(value=ast.Call()):
                continue  # g: Flask's, for the application's own; what a call has made is the caller's
            case ast.Attribute(attr=attr) if re.fullmatch("__.*__", attr):
                continue  # marks on the project's own functions and interfaces
            case ast.Attribute(ctx=ast.Store() | ast.Del()):
                target = ast.unparse(node)
                root = imported.get(target.split(".")[0], "")
                if not root.startswith(OWN) and (target.split(".")[0] in imported or node.attr not in own):
                    yield target
            case ast.Subscript(ctx=ast.Store() | ast.Del()):
                target = ast.unparse(node.value)
                root = imported.get(target.split(".")[0], "")
                if root and not root.startswith(OWN) and target not in ("os.environ", "sys.modules"):
                    yield target
            case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[ast.Name(id=name), *_]) if name != "self":
                yield ast.unparse(node)


def _own_attributes() -> set[str]:
    """Those that the project's own classes give their objects."""
    found = set()
    for tree in _trees().values():
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(value=ast.Name(id="self" | "cls"), ctx=ast.Store()):
                    found.add(node.attr)
                case ast.ClassDef():
                    for part in node.body:
                        targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", None)]
                        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_nothing_private_of_a_library_is_used_elsewhere() -> None:
    own = _names_of_our_own() | {"_exit", "_mapping"}  # documented: os, and SQLAlchemy's rows
    uses = {(file, name) for file, tree in _trees().items() for name in _private_uses(file, tree, own)}
    assert {name for file, name in uses if file == PLACE} >= {"_raw_message", "_connection_pool"}
    modules = {name.split(":")[0].split(".")[-1] for reach in REACHES for name in reach.names}
    inside = {node.name for node in ast.walk(_trees()[PLACE]) if isinstance(node, ast.FunctionDef)}
    kept = {
        node.attr
        for node in ast.walk(_trees()[PLACE])
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }
    unlisted = {(file, name) for file, name in uses if file != PLACE or name not in LISTED | modules | inside | kept}
    assert unlisted == set()


def test_nothing_of_a_library_is_changed_elsewhere() -> None:
    """But for the attributes by which a library is told something, as it documents."""
    own = _own_attributes()
    changes = {(file, name) for file, tree in _trees().items() if file != PLACE for name in _changes(tree, own)}
    assert {(file, name) for file, name in changes if name.split(".", 1)[-1] not in SETTINGS} == set()
    assert {name.split(".", 1)[-1] for _, name in changes} == SETTINGS


def test_a_change_of_a_library_would_be_found() -> None:
    code = """
import kombu, kombu.transport as t
from kombu.transport import TRANSPORT_ALIASES, Transport
t.name = 1
t.aliases["memory"] = 1
TRANSPORT_ALIASES["memory"] = 1
Transport.execute = 1
setattr(Transport, "x", 1)
def f(engine):
    engine.dialect.do_something = 1
    engine.dialect._name
"""
    tree = ast.parse(code)
    assert len(list(_changes(tree, _own_attributes()))) == 6
    assert list(_private_uses("x", tree, set())) == ["_name"]


def _overridden() -> Iterator[tuple[str, str, str]]:
    """(file, class of a library, name) of what our subclasses put in the place of a library's."""
    for file, tree in _trees().items():
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.bases]
        if not classes or file.endswith(("__main__.py", "wsgi.py")) or "/versions/" in file:
            continue
        module = importlib.import_module(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        for node in classes:
            cls = getattr(module, node.name, None)
            if not isinstance(cls, type):
                continue
            for name in {name for name in vars(cls) if not name.startswith("__")} - MADE_BY_BASES:
                for base in cls.__mro__[1:]:
                    library = base.__module__.split(".")[0]
                    if library not in (*OWN, *sys.stdlib_module_names) and name in vars(base):
                        yield file, f"{library}:{base.__name__}", name
                        break


def test_subclasses_elsewhere_override_what_libraries_document_for_that() -> None:
    found: dict[str, set[str]] = {}
    for file, base, name in _overridden():
        if file != PLACE:
            found.setdefault(base, set()).add(name)
    assert found == EXTENSION_POINTS


def test_no_service_loads_eventlet() -> None:
    code = "import sys, cellcloud.rpc.serializer, cellcloud.rpc.transport; print(sys.modules.get('eventlet'))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.stdout.strip() == "None", told.stderr
