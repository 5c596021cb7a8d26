"""Work of many threads in few calls."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

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

    batcher = Batcher(work)
    with ThreadPoolExecutor(8) as pool:
        leader = pool.submit(batcher, 0)
        assert first.wait(60)
        others = [pool.submit(batcher, number) for number in range(1, 6)]
        while len(batcher._waiting) < 5:
            time.sleep(0.01)
        rest.set()
        assert leader.result(60) == 0
        assert [other.result(60) for other in others] == [2, 4, 6, 8, 10]
    assert batches[0] == [0]
    assert sorted(batches[1]) == [1, 2, 3, 4, 5]
    assert len(batches) == 2


def together(batcher: Batcher[int, int], items: Sequence[int]) -> list[int | str]:
    """What each of several threads gets: its result, or the name of its error."""

    def one(item: int) -> int | str:
        try:
            return batcher(item)
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


class Held:
    """Work that is let go batch by batch. ``led``: the thread and the items of each."""

    def __init__(self) -> None:
        self.led: list[tuple[str, list[int]]] = []
        self._changed = threading.Condition()
        self._free = 0

    def __call__(self, items: Sequence[int]) -> Sequence[int]:
        with self._changed:
            mine = len(self.led)
            self.led.append((threading.current_thread().name, list(items)))
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._free > mine, 10)
        return items

    def wait_for(self, count: int) -> None:
        """Until so many batches have begun."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.led) >= count, 10)

    def let_go(self, count: int) -> None:
        """The first so many batches may end."""
        with self._changed:
            self._free = max(self._free, count)
            self._changed.notify_all()


def ask(pool: ThreadPoolExecutor, batcher: Batcher[int, int], item: int) -> Future[int]:
    """In a thread called after the item; returns once it waits or leads."""
    called = threading.Event()

    def call() -> int:
        threading.current_thread().name = str(item)
        called.set()
        return batcher(item)

    future = pool.submit(call)
    assert called.wait(60)
    return future


def until_waiting(batcher: Batcher[int, int], count: int) -> None:
    for _ in range(1000):
        if len(batcher._waiting) == count:
            return
        time.sleep(0.005)
    raise AssertionError(f"{len(batcher._waiting)} wait, not {count}")


@pytest.mark.parametrize("leaders", [1, 2])
def test_who_has_led_a_batch_is_let_go_while_the_next_is_at_work(leaders: int) -> None:
    """However fast others come: every one of forty leads at most once, and only a batch with his own item in it."""
    work = Held()
    batcher = Batcher(work, leaders=leaders, linger=0.0)
    with ThreadPoolExecutor(40) as pool:
        answers: list[Future[int]] = []
        for turn in range(10):
            for item in range(4 * turn, 4 * turn + 4):
                answers.append(ask(pool, batcher, item))
                if len(work.led) < leaders:
                    work.wait_for(len(answers))
            until_waiting(batcher, len(answers) - sum(len(items) for _, items in work.led))
            ended = len(work.led) - leaders
            if turn:
                work.let_go(ended + 1)
                work.wait_for(ended + 1 + leaders)
                for item in work.led[ended][1]:
                    assert answers[item].result(60) == item  # while later batches are held
        work.let_go(99)
        assert [answer.result(60) for answer in answers] == list(range(40))
    names = [name for name, _ in work.led]
    assert len(names) == len(set(names))
    assert all(int(name) in items for name, items in work.led)


def test_a_batch_weighs_no_more_than_it_may_and_a_crowd_gets_one_more_leader() -> None:
    work = Held()
    batcher = Batcher(work, weigh=lambda item: item, most=10, leaders=1, crowd=20, linger=0.0)
    with ThreadPoolExecutor(8) as pool:
        answers = [ask(pool, batcher, 1)]
        work.wait_for(1)
        for count, item in enumerate((5, 4, 30), start=1):
            if item == 30:  # too heavy for any batch, and a crowd by itself
                until_waiting(batcher, 2)
            answers.append(ask(pool, batcher, item))
            if item != 30:
                until_waiting(batcher, count)
        work.wait_for(2)
        assert work.led[1][1] == [5, 4]
        work.let_go(2)
        work.wait_for(3)
        assert work.led[2][1] == [30]
        work.let_go(3)
        assert [answer.result(60) for answer in answers] == [1, 5, 4, 30]


class Interrupted(BaseException):
    """What a signal raises in the main thread."""


@contextmanager
def interrupted_once(seen: Callable[[], bool]) -> Iterator[None]:
    """The main thread is interrupted as soon as that is seen."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    def watch() -> None:
        while not seen():
            time.sleep(0.005)
        signal.pthread_kill(main.ident or 0, signal.SIGUSR1)

    main = threading.main_thread()
    assert threading.current_thread() is main
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(watch)
            yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_who_is_interrupted_while_waiting_is_not_chosen_to_lead() -> None:
    work = Held()
    batcher = Batcher(work, linger=0.0)
    with ThreadPoolExecutor(2) as pool:
        first = ask(pool, batcher, 1)
        work.wait_for(1)
        with pytest.raises(Interrupted), interrupted_once(lambda: len(batcher._waiting) == 1):
            batcher(2)
        until_waiting(batcher, 0)
        after = ask(pool, batcher, 3)
        work.let_go(9)
        assert (first.result(60), after.result(60)) == (1, 3)
    assert [items for _, items in work.led] == [[1], [3]]


def test_who_is_interrupted_while_others_gather_hands_the_lead_on() -> None:
    """He sleeps while another waits behind him, and leads after him."""
    batcher = Batcher[int, int](lambda items: items, linger=60.0)
    with ThreadPoolExecutor(1) as pool:
        behind: list[Future[int]] = []

        def another_waits() -> bool:
            if batcher._leaders == 1 and not behind:
                time.sleep(0.05)
                batcher._linger = 0.0
                behind.append(ask(pool, batcher, 2))
            return len(batcher._waiting) == 2

        with pytest.raises(Interrupted), interrupted_once(another_waits):
            batcher(1)
        assert behind[0].result(60) == 2
    assert (batcher._leaders, batcher._weight, batcher._waiting) == (0, 0, {})


def test_what_an_interrupted_leader_took_along_is_told_to_try_later() -> None:
    held, batches = threading.Event(), list[list[int]]()

    def work(items: Sequence[int]) -> Sequence[int]:
        batches.append(sorted(items))
        assert held.wait(60)
        if len(items) > 1:
            raise Interrupted
        return items

    batcher = Batcher(work, linger=0.0)

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(batcher, 0)]
        while not batches:
            time.sleep(0.005)
        answers += [pool.submit(batcher, item) for item in (1, 2, 3)]
        until_waiting(batcher, 3)
        held.set()
        assert answers[0].result(60) == 0
        told = sorted(type(each.exception(10)).__name__ for each in answers[1:])
    assert told == ["Interrupted", "Unreachable", "Unreachable"]
    assert batches == [[0], [1, 2, 3]]
    assert batcher(4) == 4


@pytest.mark.parametrize("count", [1, 3])
def test_work_with_a_wrong_number_of_results_is_not_done_again(count: int) -> None:
    done: list[int] = []

    def work(items: Sequence[int]) -> Sequence[int]:
        done.extend(items)
        return [*items, 0]

    batcher = Batcher(work, linger=0.1)
    with ThreadPoolExecutor(count) as pool:
        answers = [pool.submit(batcher, item) for item in range(count)]
        for each in answers:
            with pytest.raises(ValueError, match="results of"):
                each.result(60)
    assert sorted(done) == list(range(count))


def test_work_that_waits_for_its_own_batcher_is_an_error_at_once() -> None:
    batcher: Batcher[int, int] = Batcher(lambda items: [batcher(item - 1) if item else 0 for item in items])
    with pytest.raises(RuntimeError, match="of its own"):
        batcher(1)
    assert batcher(0) == 0
