"""Identity: domains, projects, users, groups, roles, and what a token says.

``extra``: attributes that clients keep with a record, and its ``options``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    id: str
    name: str
    description: str = ""
    enabled: bool = True
    tags: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """``parent_id`` None: right below its domain."""

    id: str
    name: str
    domain_id: str = "default"
    parent_id: str | None = None
    description: str = ""
    enabled: bool = True
    tags: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """``password_expires_at`` None: never."""

    id: str
    name: str
    domain_id: str = "default"
    default_project_id: str | None = None
    enabled: bool = True
    password_expires_at: dt.datetime | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    id: str
    name: str
    domain_id: str = "default"
    description: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRole:
    """``domain_id`` empty: of the whole cloud. One of a domain is in no token: it counts by what it implies."""

    id: str
    name: str
    domain_id: str = ""
    description: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


USER, GROUP = "user", "group"
PROJECT, DOMAIN, SYSTEM = "project", "domain", "system"
WHOLE_SYSTEM = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A role that an ``actor`` (user or group) has in a ``scope`` (project, domain or system). ``inherited``: in the
    projects below the scope, and not in itself."""

    actor: str = USER
    actor_id: str
    scope: str = PROJECT
    scope_id: str
    role_id: str
    inherited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """One kind of request that an application credential may make."""

    id: str
    user_id: str
    service: str
    method: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationCredential:
    """``access_rule_ids`` None: every request is allowed."""

    id: str
    name: str
    user_id: str
    project_id: str
    description: str | None = None
    expires_at: dt.datetime | None = None
    unrestricted: bool = False
    role_ids: tuple[str, ...] = ()
    access_rule_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A valid token. Without ``project``, ``domain`` and ``system`` it is unscoped, so without roles. ``domain_names``:
    of the domains of its user and project. ``audit_ids``: its own, then its first parent's."""

    user: User
    project: Project | None = None
    domain: Domain | None = None
    system: bool = False
    domain_names: Mapping[str, str]
    roles: tuple[IdentityRole, ...]
    methods: tuple[str, ...]
    audit_ids: tuple[str, ...]
    issued_at: dt.datetime
    expires_at: dt.datetime
    application_credential: ApplicationCredential | None = None
    access_rules: tuple[AccessRule, ...] | None = None


# ---- catalog -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    id: str
    description: str = ""
    parent_region_id: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogService:
    id: str
    type: str
    name: str = ""
    description: str | None = None
    enabled: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """``url``: below the address that the caller came to, where it begins with a slash."""

    id: str
    service_id: str
    region_id: str | None = None
    interface: str
    url: str
    enabled: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)


# ---- credentials and limits --------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """``blob``: what it proves itself by, as its ``type`` has it."""

    id: str
    user_id: str
    project_id: str | None = None
    type: str
    blob: str = field(repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredLimit:
    """The limit of a resource of a service, where nothing else is said. ``region_id`` empty: in every region."""

    id: str
    service_id: str
    region_id: str = ""
    resource_name: str
    default_limit: int
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLimit:
    """Another limit than the registered one, of one ``owner``: project or domain."""

    id: str
    owner: str
    owner_id: str
    registered_limit_id: str
    resource_limit: int
    description: str | None = None
