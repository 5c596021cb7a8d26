"""What was found to disagree, and at which microversions."""

from __future__ import annotations

from collections import Counter

from tests.parity.published import Method
from tests.parity.routes import ON_PURPOSE
from top_api.microversion import LAST, Microversion

VERSIONS = [Microversion(2, minor) for minor in range(1, LAST.minor + 1)]


class Report:
    """Disagreements, each once, with the microversions that have it."""

    def __init__(self) -> None:
        self.tried = 0
        self.found: dict[str, list[Microversion]] = {}

    def note(self, version: Microversion, text: str) -> None:
        self.found.setdefault(text, []).append(version)

    def show(self) -> int:
        left = 0
        meant: Counter[str] = Counter()
        for text, versions in sorted(self.found.items()):
            reason = next((why for part, why in ON_PURPOSE.items() if part in text), None)
            if reason is not None:
                meant[reason] += 1
                continue
            left += 1
            print(f"{versions[0]}..{versions[-1]}  {text}")
        for reason, count in sorted(meant.items()):
            print(f"on purpose, {count}: {reason}")
        print(f"{self.tried} tried, {left} disagree")
        return left


def served_at(methods: list[Method], version: Microversion) -> Method | None:
    """The one of a controller's methods of one name that serves a microversion."""
    return next((one for one in methods if one.served[0] <= version <= one.served[1]), None)
