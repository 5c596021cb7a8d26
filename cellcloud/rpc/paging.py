"""Lists that do not fit into one message are answered in several, without a word of caller or server about it.

A caller that can put pages together says so. An answer that fits goes as it is. One that does not is put in the order
that its verb declares, and cut; the caller asks again for what comes behind the last item it was given. Nothing is
kept between two pages, so that any server of the queue may give the next: an item that is there all the while is given
once, whatever comes or goes beside it.

An implementation makes the whole list for each page, which does for short ones. Where that costs too much it has,
beside the verb, a method of its name and ``_after``: (context, key of the last item or None, what was given) -> an
iterable of what comes behind, in the verb's order.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

from cellcloud.batching import MOST_BYTES
from cellcloud.model import codec

WANTED = "page"  # in what is sent, beside the parameters: {"after": key} or {}
MORE = "more"  # in what is answered: the key of the last item given

Key = list[Any]


def page_of(items: Sequence[Any], pages: Sequence[str], after: Key | None) -> tuple[Any, Key | None]:
    """Return a page as it is sent, and the key to ask on from; None with the last page.

    ``items``: all there are. ``pages``: the attributes (with dots, those of a part) that tell an item from all others,
    in the order of which pages are cut; from the greatest on when the first has a "-" before it.
    """
    if after is None and len(whole := codec.to_wire(items)) <= MOST_BYTES:
        return whole, None
    key_of, descending = _order(pages)
    keyed = sorted(((key_of(item), item) for item in items), key=lambda pair: pair[0], reverse=descending)
    if after is not None:
        keyed = [pair for pair in keyed if (pair[0] < after if descending else pair[0] > after)]
    return first_page((item for _, item in keyed), pages)


def first_page(items: Iterable[Any], pages: Sequence[str]) -> tuple[Any, Key | None]:
    """As ``page_of``, of items that come in that order and begin where the page does: no more are taken than fit."""
    key_of, _ = _order(pages)
    some: list[Any] = []
    size = 0
    for item in items:
        size += codec.wire_size(item)
        if some and size > MOST_BYTES and key_of(item) != key_of(some[-1]):  # those alike are told together
            return codec.to_wire(some), key_of(some[-1])
        some.append(item)
    return codec.to_wire(some), None


def _order(pages: Sequence[str]) -> tuple[Callable[[Any], Key], bool]:
    names = [name.lstrip("-") for name in pages]
    readers = [attrgetter(name) for name in names]
    return lambda item: [_comparable(read(item)) for read in readers], pages[0].startswith("-")


def _comparable(value: Any) -> Any:
    """Return what can be compared and sent: times as text that sorts as they do."""
    if value is None:
        return ""
    return value.astimezone(dt.UTC).isoformat(timespec="microseconds") if isinstance(value, dt.datetime) else value
