"""What a token of an application credential with rules of access may ask: nothing but what one of them names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from cellcloud import errors
from cellcloud.safe_regex import Pattern

Rule = tuple[str, str, str]
_LONGEST = 4096
_ALIASES = {"volumev3": "block-storage", "volume": "block-storage"}  # older types of the same service


def check(rules: Sequence[Rule] | None, service: str, method: str, path: str) -> None:
    """Check that a rule names the service, the method and the path of a request. Raises Unauthenticated, as Keystone's
    own middleware does. A token may always be looked at."""
    if rules is None or (service == "identity" and method == "GET" and path == "/v3/auth/tokens"):
        return
    for named, verb, pattern in rules:
        if service and _ALIASES.get(named, named) == service and verb == method and _pattern(pattern).matches(path):
            return
    raise errors.Unauthenticated("The request you have made requires authentication.")


@lru_cache(maxsize=1024)
def _pattern(rule: str) -> Pattern:
    """Read a path of a rule: ``{name}`` is a part of a path, ``*`` any text within one, ``**`` any text."""
    parts, position = [], 0
    while position < len(rule):
        end = rule.find("}", position) if rule[position] == "{" else -1
        if end > 0:
            parts.append("[^/]+")
            position = end + 1
        elif rule.startswith("**", position):
            parts.append("(?s).*")
            position += 2
        elif rule[position] == "*":
            parts.append("[^/]*")
            position += 1
        else:
            parts.append(_literal(rule[position]))
            position += 1
    return Pattern("".join(parts), most=_LONGEST)


def _literal(letter: str) -> str:
    return letter if letter.isalnum() and letter.isascii() else f"\\x{{{ord(letter):x}}}"
