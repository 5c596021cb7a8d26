"""Work of many threads in few calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from cellcloud import errors
from cellcloud.batching import Batcher


def test_what_comes_while_a_batch_is_at_work_goes_together() -> None:
    batches: list[list[int]] = []
    first, rest = threading.Event(), threading.Event()

    def work(items: Sequence[int]) -> Sequence[int]:
        batches.append(list(items))
        first.set()
        rest.wait(10)
        return [item * 2 for item in items]

    gathered = Batcher(work)
    with ThreadPoolExecutor(8) as pool:
        leader = pool.submit(gathered, 0)
        assert first.wait(10)
        others = [pool.submit(gathered, number) for number in range(1, 6)]
        while len(gathered._waiting) < 5:
            time.sleep(0.01)
        rest.set()
        assert leader.result(10) == 0
        assert [other.result(10) for other in others] == [2, 4, 6, 8, 10]
    assert batches[0] == [0]
    assert sorted(batches[1]) == [1, 2, 3, 4, 5]
    assert len(batches) == 2


def together(gathered: Batcher[int, int], items: Sequence[int]) -> list[int | str]:
    """What each of several threads gets: its result, or the name of its error."""

    def one(item: int) -> int | str:
        try:
            return gathered(item)
        except errors.CellcloudError as error:
            return type(error).__name__

    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(one, items))


def test_what_is_wrong_with_one_does_not_fail_the_others() -> None:
    def work(items: Sequence[int]) -> Sequence[int]:
        if 3 in items:
            raise errors.Invalid("three")
        return items

    assert together(Batcher(work), range(6)) == [0, 1, 2, "Invalid", 4, 5]


def test_all_are_told_to_try_later_without_being_tried_alone() -> None:
    batches: list[int] = []

    def work(items: Sequence[int]) -> Sequence[int]:
        batches.append(len(items))
        raise errors.Unreachable("away")

    assert together(Batcher(work), range(6)) == ["Unreachable"] * 6
    assert sum(batches) == 6


def test_an_error_of_no_tree_reaches_who_asked() -> None:
    def work(items: Sequence[int]) -> Sequence[int]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Batcher(work)(1)
