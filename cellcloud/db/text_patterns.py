"""Texts that have another one in them, without regard to case: alike on every database for ASCII."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class has_text(FunctionElement[bool]):
    """Whether a text is as a pattern of lower case, without regard to the case of ASCII letters."""

    type = sa.Boolean()
    inherit_cache = True
    name = "has_text"


@compiles(has_text)
def _lower_like(element: Any, compiler: Any, **kw: Any) -> str:
    text, pattern = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(LOWER({text}) LIKE {pattern} ESCAPE '/')"


@compiles(has_text, "sqlite")
def _like(element: Any, compiler: Any, **kw: Any) -> str:
    text, pattern = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({text} LIKE {pattern} ESCAPE '/')"


def escaped(text: str) -> str:
    """Return a text as a pattern of itself."""
    return "".join(f"/{each}" if each in "/%_" else each for each in text)
