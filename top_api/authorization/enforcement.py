"""Decide by the rules in force; read the operator's files again when they change."""

from __future__ import annotations

import ast
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from oslo_config import cfg
from oslo_policy import policy as oslo_policy

from cellcloud import clock, errors
from top_api.authorization.all_rules import list_rules

LOG = logging.getLogger(__name__)
LOOK_SECONDS = 1.0  # between two looks at the files
_MOST_DECISIONS = 4096  # remembered ones of a process
_CREDENTIALS = frozenset(  # what a rule may ask of the caller besides roles
    {
        "user_id",
        "project_id",
        "is_admin",
        "system_scope",
        "domain_id",
        "user_domain_id",
        "project_domain_id",
        "token.domain.id",
        "token.project.domain.id",
    }
)
_REMOTE = frozenset({"http", "https"})
_LANGUAGE = frozenset({"rule", "role"}) | _REMOTE

Target = Mapping[str, str | None]
Pairs = tuple[tuple[str, str | None], ...]
Stamps = tuple[tuple[str, int, int, int], ...]


class Subject(Protocol):
    """Whoever asks: a request's context, or what a token says. ``domain_id``, ``system``: what the token is for, where
    it is for no project."""

    @property
    def user_id(self) -> str: ...
    @property
    def project_id(self) -> str: ...
    @property
    def roles(self) -> tuple[str, ...]: ...
    @property
    def user_domain_id(self) -> str: ...
    @property
    def project_domain_id(self) -> str: ...
    @property
    def domain_id(self) -> str: ...
    @property
    def system(self) -> bool: ...


class Enforcer:
    """The rules in force. Safe to use from several threads.

    Files that are changed to something wrong change nothing: the rules that were read last stay in force, and the log
    says so. A file that is gone counts as wrong, for whoever replaces one may take it away for a moment.
    """

    def __init__(self, option_file: Path | None = None) -> None:
        """``option_file``: the one whose ``[oslo_policy]`` names the files. Raises Misconfigured."""
        self._conf = _configuration(option_file)
        self._rules = _Rules(self._conf)
        self._seen = self._read = self._stamps()
        self._next_look = clock.monotonic() + LOOK_SECONDS
        self._looking = threading.Lock()

    def allows(self, subject: Subject, rule: str, target: Target | None = None) -> bool:
        """Return whether the caller may do what the rule is about to ``target``; None: to what is the caller's own."""
        pairs = (
            (("project_id", subject.project_id), ("user_id", subject.user_id))
            if target is None
            else tuple(target.items())
        )
        domains = (subject.user_domain_id, subject.project_domain_id, subject.domain_id)
        return self._in_force().decide(
            rule, subject.user_id, subject.project_id, subject.roles, domains, subject.system, pairs
        )

    def check(self, subject: Subject, rule: str, target: Target | None = None) -> None:
        """Check that the rule lets the caller do it to the target. Raises Forbidden."""
        if not self.allows(subject, rule, target):
            raise errors.Forbidden(f"Policy doesn't allow {rule} to be performed.")

    def _in_force(self) -> _Rules:
        """Return the rules, read again where their files changed and have stayed as they are from one look to the
        next."""
        if clock.monotonic() >= self._next_look and self._looking.acquire(blocking=False):
            try:
                self._next_look = clock.monotonic() + LOOK_SECONDS
                found = self._stamps()
                settled, self._seen = found == self._seen, found
                if settled and found != self._read:
                    self._read_again(found)
            finally:
                self._looking.release()
        return self._rules

    def _read_again(self, found: Stamps) -> None:
        gone = {stamp[0] for stamp in self._read} - {stamp[0] for stamp in found}
        self._read = found
        try:
            if gone:
                raise errors.Misconfigured(f"Files of the policy are gone: {', '.join(sorted(gone))}")
            self._rules = _Rules(self._conf)
        except errors.Misconfigured as error:
            LOG.error("the policy stays as it was last read: its files are wrong now", extra={"reason": error.message})
        else:
            LOG.info("the policy was read again", extra={"files": [stamp[0] for stamp in found]})

    def _stamps(self) -> Stamps:
        stamps = []
        for path in _files(self._conf):
            try:
                found = path.stat()
            except OSError:
                continue
            stamps.append((str(path), found.st_mtime_ns, found.st_size, found.st_ino))
        return tuple(stamps)


class _Rules:
    """One reading of the files, over the defaults. Decisions are remembered, unless another server makes them."""

    def __init__(self, conf: Any) -> None:
        enforcer = oslo_policy.Enforcer(conf)
        enforcer.register_defaults(list_rules())
        try:
            enforcer.load_rules(force_reload=True)
            checks = _checked(enforcer)
        except (ValueError, TypeError, AttributeError, OSError, cfg.Error, oslo_policy.InvalidDefinitionError) as error:
            files = ", ".join(str(path) for path in _files(conf)) or "policy"
            raise errors.Misconfigured(f"The policy is wrong ({files}): {error}") from error
        enforcer.set_rules(enforcer.rules, overwrite=False, use_conf=False)  # looks at no file from now on
        self._enforcer = enforcer
        remote = any(getattr(check, "kind", "") in _REMOTE for check in checks)
        self.decide = self._decide if remote else lru_cache(maxsize=_MOST_DECISIONS)(self._decide)

    def _decide(
        self,
        rule: str,
        user_id: str,
        project_id: str,
        roles: tuple[str, ...],
        domains: tuple[str, str, str],
        system: bool,
        pairs: Pairs,
    ) -> bool:
        """Decide a rule for a caller. Raises PolicyNotRegistered for a rule that nobody declared: a defect."""
        target: dict[str, str | None] = dict(pairs)
        creds: dict[str, Any] = {"user_id": user_id, "project_id": project_id, "roles": list(roles)}
        creds |= _scope_of(*domains, system)
        creds["is_admin"] = bool(self._enforcer.authorize("context_is_admin", target, creds))
        return bool(self._enforcer.authorize(rule, target, creds))


def _scope_of(user_domain: str, project_domain: str, domain: str, system: bool) -> dict[str, Any]:
    """Return what rules may ask about scopes. ``domain_id`` is None, as in Keystone, for a token of no domain."""
    found: dict[str, Any] = {"domain_id": None} | ({"user_domain_id": user_domain} if user_domain else {})
    if system:
        return found | {"system": True, "system_scope": "all"}
    if domain:
        return found | {"domain_id": domain, "token": {"domain": {"id": domain}}}
    if project_domain:
        found |= {"project_domain_id": project_domain, "token": {"project": {"domain": {"id": project_domain}}}}
    return found


def _configuration(option_file: Path | None) -> Any:
    conf = cfg.ConfigOpts()
    try:
        conf([], project="cellcloud", default_config_files=[str(option_file)] if option_file else [])
        oslo_policy.Enforcer(conf)  # registers the options
        named = conf.oslo_policy.policy_file
        location = conf.get_location("policy_file", "oslo_policy")
    except (cfg.Error, ValueError) as error:
        raise errors.Misconfigured(f"The option file is wrong: {error}") from error
    by_default = location is None or location.location is cfg.Locations.opt_default
    if not by_default and conf.find_file(named) is None:
        raise errors.Misconfigured(f"There is no policy file {named}, which the option policy_file names.")
    return conf


def _files(conf: Any) -> Iterator[Path]:
    """Return the policy file and those of the directories, as far as there are such."""
    options = conf.oslo_policy
    file = conf.find_file(options.policy_file)
    if file is not None:
        yield Path(file)
    for named in options.policy_dirs:
        directory = conf.find_file(named)
        if directory is not None and os.path.isdir(directory):
            yield from (path for path in sorted(Path(directory).iterdir()) if not path.name.startswith("."))


def _checked(enforcer: oslo_policy.Enforcer) -> list[Any]:
    """Every single check of every rule. Raises ValueError for what operators wrote that could not mean anything."""
    for name, given in enforcer.file_rules.items():
        if not isinstance(given.check_str, str):
            raise ValueError(f'{name} is no text: write "@" for everybody, "!" for nobody')
        words = given.check_str.replace("(", " ").replace(")", " ").split()
        if sum(str(check) == "!" for check in _leaves(given.check)) != words.count("!"):
            raise ValueError(f"{name} cannot be understood: {given.check_str}")
        for check in _leaves(given.check):
            if not _is_known(getattr(check, "kind", "role")):
                raise ValueError(f"{name} asks for {check}, which no caller has")
    enforcer.check_rules(raise_on_violation=True)
    checks = [check for rule in enforcer.rules.values() for check in _leaves(rule)]
    asked = {check.match for check in checks if getattr(check, "kind", "") == "rule"}
    for name in enforcer.file_rules:
        if name not in enforcer.registered_rules and name not in asked:
            raise ValueError(f"nothing here asks about {name}")
    return checks


def _leaves(check: Any) -> Iterator[Any]:
    if hasattr(check, "rules"):
        for part in check.rules:
            yield from _leaves(part)
    elif hasattr(check, "rule"):
        yield from _leaves(check.rule)
    else:
        yield check


def _is_known(kind: str) -> bool:
    """Return whether the left side of a check is a word of the language, something of the caller, or a literal."""
    if kind in _LANGUAGE | _CREDENTIALS:
        return True
    try:
        ast.literal_eval(kind)
    except (ValueError, SyntaxError):
        return False
    return True
