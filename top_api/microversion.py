"""API microversions: reading the request's, and the range that is served."""

from __future__ import annotations

from dataclasses import dataclass
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
LAST = Microversion(2, 101)
SERVICE = "compute"
HEADER = "OpenStack-API-Version"
OLD_HEADER = "X-OpenStack-Nova-API-Version"
_FORM = Pattern(r"([1-9][0-9]{0,3})\.([1-9][0-9]{0,3}|0)", most=9)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRange:
    """The microversions that a service's API has. ``old_header``: of before there was one header for all services."""

    service: str
    first: Microversion
    last: Microversion
    old_header: str = ""


OF_COMPUTE = VersionRange(service=SERVICE, first=FIRST, last=LAST, old_header=OLD_HEADER)
OF_VOLUMES = VersionRange(service="volume", first=Microversion(3, 0), last=Microversion(3, 70))


class UnacceptableVersion(errors.FixRequest):
    """A version outside the served range; answered with 406."""


def requested(headers: Headers, served: VersionRange = OF_COMPUTE) -> Microversion:
    """Return the version a request asks for; of several for this service the last one counts.

    Raises Invalid when malformed, UnacceptableVersion when out of range.
    """
    text = get_version(headers, served.service, [served.old_header] if served.old_header else [])
    if text is None:
        if any(part.strip().lower() == served.service for part in headers.get(HEADER, "").split(",")):
            raise errors.Invalid(f"The header {HEADER} names no version of {served.service}.")
        return served.first
    return parse(text, served)


def parse(text: str, served: VersionRange = OF_COMPUTE) -> Microversion:
    """Read ``2.26`` or ``latest``. Raises as ``requested`` does."""
    if text == "latest":
        return served.last
    match = _FORM.groups(text)
    if match is None:
        raise errors.Invalid(
            f"API Version String {text[:32]} is of invalid format. Must be of format MajorNum.MinorNum."
        )
    version = Microversion(int(match[0]), int(match[1]))
    if not served.first <= version <= served.last:
        raise UnacceptableVersion(
            f"Version {version} is not supported by the API. Minimum is {served.first} and maximum is {served.last}."
        )
    return version


def response_headers(version: Microversion, served: VersionRange = OF_COMPUTE) -> dict[str, str]:
    """Return what every answer echoes."""
    echoed = {HEADER: f"{served.service} {version}", "Vary": HEADER}
    if served.old_header:
        echoed |= {served.old_header: str(version), "Vary": f"{HEADER}, {served.old_header}"}
    return echoed
