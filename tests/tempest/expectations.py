"""Tests of Tempest that do not pass, each with its reason. One that passes all the same fails the run."""

from __future__ import annotations

NOT_PASSING: dict[str, str] = {}
"""Class or test, without what stands before the class -> why."""
