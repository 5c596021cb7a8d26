"""API microversions: reading the request's, and the range that is served."""

from __future__ import annotations

from typing import NamedTuple

from microversion_parse import get_version
from werkzeug.datastructures import Headers

from cellcloud import errors
from cellcloud.safe_regex import Pattern


class Microversion(NamedTuple):
    """Compares with plain pairs: ``version >= (2, 26)``."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


FIRST = Microversion(2, 1)
LAST = Microversion(2, 100)
SERVICE = "compute"
HEADER = "OpenStack-API-Version"
OLD_HEADER = "X-OpenStack-Nova-API-Version"
_FORM = Pattern(r"([1-9][0-9]{0,3})\.([1-9][0-9]{0,3}|0)", most=9)


class UnacceptableVersion(errors.FixRequest):
    """A version outside the served range; answered with 406."""


def requested(headers: Headers) -> Microversion:
    """Return the version a request asks for; of several for this service the last one counts.

    Raises Invalid when malformed, UnacceptableVersion when out of range.
    """
    text = get_version(headers, SERVICE, [OLD_HEADER])
    if text is None:
        if any(part.strip().lower() == SERVICE for part in headers.get(HEADER, "").split(",")):
            raise errors.Invalid(f"The header {HEADER} names no version of {SERVICE}.")
        return FIRST
    return parse(text)


def parse(text: str) -> Microversion:
    """Read ``2.26`` or ``latest``. Raises as ``requested`` does."""
    if text == "latest":
        return LAST
    match = _FORM.groups(text)
    if match is None:
        raise errors.Invalid(
            f"API Version String {text[:32]} is of invalid format. Must be of format MajorNum.MinorNum."
        )
    version = Microversion(int(match[0]), int(match[1]))
    if not FIRST <= version <= LAST:
        raise UnacceptableVersion(
            f"Version {version} is not supported by the API. Minimum is {FIRST} and maximum is {LAST}."
        )
    return version


def response_headers(version: Microversion) -> dict[str, str]:
    """Return what every answer echoes."""
    return {HEADER: f"{SERVICE} {version}", OLD_HEADER: str(version), "Vary": f"{HEADER}, {OLD_HEADER}"}
