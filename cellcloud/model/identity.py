"""Identity: users, projects, roles, and what a token says."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """``extra``: attributes that clients keep with it, and its ``options``."""

    id: str
    name: str
    domain_id: str = "default"
    description: str = ""
    enabled: bool = True
    tags: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """``extra``: attributes that clients keep with it, and its ``options``."""

    id: str
    name: str
    domain_id: str = "default"
    default_project_id: str | None = None
    enabled: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRole:
    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A role that a user has in a project."""

    user_id: str
    project_id: str
    role_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A valid token. ``project`` None: unscoped, so without roles. ``audit_ids``: its own, then its first parent's."""

    user: User
    project: Project | None
    roles: tuple[IdentityRole, ...]
    methods: tuple[str, ...]
    audit_ids: tuple[str, ...]
    issued_at: dt.datetime
    expires_at: dt.datetime
