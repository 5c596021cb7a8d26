"""What the routes of one service have in common: where they are, who may ask, what they take, how errors are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonschema import ValidationError

from top_api.faults import Form, compute_form
from top_api.microversion import OF_COMPUTE, VersionRange
from top_api.validation import ANY_QUERY, NO_QUERY, Queries, compute_words, path_words


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WebApi:
    """One service's API.

    ``in_project``: its tokens must give a role in a project. ``body_types``: content types of bodies, none: any.
    ``query``: what its routes take behind the question mark unless they say so themselves. ``form``: of its errors.
    ``words``: of what is wrong with a body. ``headers``: of every answer. ``versions``: that it has, with
    ``microversions``. ``strict_slashes``: a path with one more at its end is another path. ``service``: its type in the
    catalog, by which rules of access name it, and ``root``: what stands before the paths that they name.
    ``canonical``: brings values of a body into the form that schemas take, where clients may send another.
    """

    prefix: str
    form: Form = compute_form
    words: Callable[[ValidationError], str] = path_words
    query: Queries = ANY_QUERY
    in_project: bool = True
    microversions: bool = False
    versions: VersionRange = OF_COMPUTE
    strict_slashes: bool = False
    body_types: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    service: str = ""
    root: str = ""
    canonical: Callable[[Any], Any] | None = None

    def serves(self, path: str) -> bool:
        """Return whether a path is below this API's prefix."""
        return path == self.prefix or path.startswith(f"{self.prefix}/")


_TYPES = ("application/json", "application/vnd.openstack.compute+json")
COMPUTE = WebApi(
    prefix="/v2.1",
    words=compute_words,
    query=NO_QUERY,
    microversions=True,
    strict_slashes=True,
    body_types=_TYPES,
    service="compute",
)
OPERATOR = WebApi(prefix="/operator/v1", words=compute_words, query=NO_QUERY, microversions=True, body_types=_TYPES)
DISCOVERY = WebApi(prefix="", query=NO_QUERY)  # documents of the API's versions, for everybody
