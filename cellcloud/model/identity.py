"""Identity: users, projects, roles, and what a token says."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    id: str
    name: str
    domain_id: str = "default"
    description: str = ""
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    id: str
    name: str
    domain_id: str = "default"
    default_project_id: str | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
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
    roles: tuple[Role, ...]
    methods: tuple[str, ...]
    audit_ids: tuple[str, ...]
    issued_at: dt.datetime
    expires_at: dt.datetime
