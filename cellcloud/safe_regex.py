"""Patterns for texts that others send. RE2 answers in time linear in the text, whatever pattern and text are.

A pattern is for the whole text: it needs no anchors, and a line's end behind the text is part of the text. What RE2
does not know, looking ahead and back, no pattern here can have.
"""

from __future__ import annotations

from typing import Any

import re2


class Pattern:
    """``most``: characters beyond which no text is looked at."""

    def __init__(self, pattern: str, *, most: int | None = None) -> None:
        options = re2.Options()
        options.log_errors = False
        self.text = pattern
        self._most = most
        self._compiled = re2.compile(pattern, options)

    def matches(self, text: str) -> bool:
        """Return whether the whole text is of that form."""
        return self._match(text) is not None

    def groups(self, text: str) -> tuple[str, ...] | None:
        """Return what the groups hold, "" for one left out; None when the whole text is not of that form."""
        found = self._match(text)
        return None if found is None else tuple((part or b"").decode() for part in found.groups())

    def _match(self, text: str) -> Any:
        """RE2's match of the whole text; None where there is none."""
        if self._most is not None and len(text) > self._most:
            return None
        try:
            return self._compiled.fullmatch(text.encode())  # bytes spare it the counting of characters
        except UnicodeEncodeError:  # half of a surrogate pair is no character
            return None
