"""Errors cross queues as the nearest class of the tree, whatever either side has imported or does not know yet."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import cell
import cellcloud
import top_api
from cellcloud import errors
from cellcloud.model.guest_commands import GuestEvent
from cellcloud.rpc.serializer import Serializer

STARTED = ("__main__", "wsgi")  # modules that are run, not imported


def _classes(root: type[errors.CellcloudError]) -> Iterator[type[errors.CellcloudError]]:
    yield root
    for cls in root.__subclasses__():
        yield from _classes(cls)


def _all_errors() -> list[type[errors.CellcloudError]]:
    """Every class of error in the product."""
    for package in (cellcloud, top_api, cell):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.rsplit(".", 1)[-1] not in STARTED and ".versions." not in module.name:
                importlib.import_module(module.name)
    own = ("cellcloud", "top_api", "cell")
    return sorted(
        {cls for cls in _classes(errors.CellcloudError) if cls.__module__.split(".")[0] in own},
        key=lambda cls: cls.__qualname__,
    )


def _cross(error: errors.CellcloudError, **changed: Any) -> errors.CellcloudError:
    """What arrives of an error. ``changed``: what the sender writes otherwise."""
    sent = Serializer().serialize_entity(None, error)
    sent["error"] |= changed
    with pytest.raises(errors.CellcloudError) as caught:
        Serializer().deserialize_entity(None, sent).answer(None)
    return caught.value


def _made(kind: type[errors.CellcloudError]) -> errors.CellcloudError:
    error = kind.__new__(kind)
    errors.CellcloudError.__init__(error, "what the user reads", detail="what operators read")
    return error


def test_every_error_arrives_as_the_nearest_class_of_the_tree() -> None:
    found = _all_errors()
    assert len(found) > len(errors.TREE)  # modules have some of their own
    for kind in found:
        nearest = next(cls for cls in kind.__mro__ if cls in errors.TREE.values())
        arrived = _cross(_made(kind))
        assert type(arrived) is nearest, kind
        assert (arrived.message, arrived.detail) == ("what the user reads", "what operators read")
        assert arrived.relayed


def test_the_tree_is_what_its_module_declares() -> None:
    assert set(errors.TREE.values()) == {cls for cls in _all_errors() if cls.__module__ == errors.__name__}
    assert errors.__doc__ is not None
    for name in errors.TREE:
        assert name in errors.__doc__


@pytest.mark.parametrize(
    ("kinds", "arrives"),
    [
        (["QuotaOfUserExceeded", "QuotaExceeded", "Forbidden", "FixRequest", "CellcloudError"], errors.QuotaExceeded),
        (["DiskFull", "HostRefused", "TryElsewhere", "CellcloudError"], errors.HostRefused),
        (["Rationed", "Throttled", "TryLater", "CellcloudError"], errors.TryLater),
        (["Novel", "CellcloudError"], errors.CellcloudError),
        (["Novel", "OfAnotherTree"], errors.CellcloudError),
        (["Exception"], errors.CellcloudError),
    ],
)
def test_what_a_newer_sender_knows_arrives_as_what_is_known_here(
    kinds: list[str], arrives: type[errors.CellcloudError]
) -> None:
    assert type(_cross(errors.Invalid("m"), name=kinds[0], kinds=kinds)) is arrives
    event = GuestEvent(
        host="h", server_id="s", generation=1, power_state=1, error=kinds[0], error_kinds=tuple(kinds[1:])
    )
    assert event.known_error == arrives.__name__


@pytest.mark.parametrize("kind", errors.TREE.values())
def test_an_older_sender_tells_a_name_alone(kind: type[errors.CellcloudError]) -> None:
    assert type(_cross(errors.Invalid("m"), name=kind.__name__, kinds=[])) is kind


def test_a_class_that_only_this_process_has_is_not_made_for_others() -> None:
    class Local(errors.Stale):
        def __init__(self, one: int, other: int) -> None:
            super().__init__(f"{one} {other}")

    assert type(_cross(errors.Invalid("m"), name="Local", kinds=["Local", "Stale"])) is errors.Stale
    assert errors.lineage(Local(1, 2))[0] == "Stale"
