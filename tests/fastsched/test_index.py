"""The index gives the reference's answers: same hosts, same order, same scores to the bit, whatever happened before."""

from __future__ import annotations

import importlib
import itertools
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellcloud import _fastsched as portable
from cellcloud import _fastsched_py as reference
from cellcloud import fastsched
from tests.fastsched.worlds import Life

ROOT = Path(__file__).parents[2]
MILLION = 1_000_000


def runnable() -> list[ModuleType]:
    """The compiled kernels that this processor can run."""
    newer = [module for level, (module, _name) in fastsched.VARIANTS.items() if portable.level() >= level]
    return [portable, *(importlib.import_module(f"cellcloud.{name}") for name in newer)]


KERNELS = [*runnable(), reference]


def named(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


@pytest.fixture(params=KERNELS, ids=named)
def kernel(request: pytest.FixtureRequest) -> Any:
    return request.param


def small(kernel: Any, hosts: int = 4) -> Any:
    """Hosts 0 .. of host class 0 with 10, 11, ... free of one resource, which is also what they are weighed by."""
    index = kernel.Index(1, [True])
    free = np.arange(10, 10 + hosts)
    index.load(np.zeros(hosts, dtype=np.int32), free[None, :], free[None, :].astype(np.float64))
    return index


@pytest.mark.parametrize("module", runnable(), ids=named)
def test_lives_agree(module: ModuleType) -> None:
    for seed in range(12):
        Life(module, seed).live(150)


@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_any_life_agrees(seed: int, steps: int) -> None:
    Life(runnable()[-1], seed).live(steps)


def decisions_of(seeds: range) -> int:
    """Live these lives; how many decisions were compared."""
    lives = [Life(runnable()[-1], seed) for seed in seeds]
    for life in lives:
        life.live(500)
    return sum(life.decisions for life in lives)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_million_decisions_agree(long: bool) -> None:
    """A tenth of them in the short form."""
    chunks = (range(begin, begin + 10) for begin in itertools.count(1000, 10))
    decisions = 0
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as workers:
        while decisions < (MILLION if long else MILLION // 10):
            decisions += sum(workers.map(decisions_of, itertools.islice(chunks, 4)))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_build_with_bounds_checks_agrees(tmp_path: Path, long: bool) -> None:
    """What the debug build finds out of bounds it says on stderr, because the loops cannot raise."""
    build = ["setup.py", "--quiet", "build_ext", "--force", "--parallel", "2", "--build-lib", str(tmp_path)]
    environment = os.environ | {"CELLCLOUD_EXT_DEBUG": "1", "CELLCLOUD_REQUIRE_EXT": "1", "CELLCLOUD_EXT_LEVELS": ""}
    subprocess.run(
        [sys.executable, *build, "--build-temp", str(tmp_path / "objects")],
        env=environment,
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    built = next((tmp_path / "cellcloud").glob("_fastsched.*.so"))
    program = (
        "import importlib.util as u, sys\n"
        "spec = u.spec_from_file_location('cellcloud._fastsched', sys.argv[1])\n"
        "kernel = u.module_from_spec(spec)\n"
        "spec.loader.exec_module(kernel)\n"
        "from tests.fastsched.worlds import Life\n"
        f"for seed in range({60 if long else 12}): Life(kernel, seed).live(300)\n"
    )
    lived = subprocess.run(
        [sys.executable, "-c", program, str(built)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (lived.returncode, lived.stderr) == (0, "")


def numbers(size: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(-3, 6), min_size=size, max_size=size)


@given(data=st.data(), hosts=st.integers(0, 9), floor=st.booleans(), sign=st.sampled_from([-1.0, 0.0, 0.3, 1.0]))
def test_every_small_world_agrees(data: st.DataObject, hosts: int, floor: bool, sign: float) -> None:
    raw = np.array([data.draw(numbers(hosts)), data.draw(numbers(hosts))], dtype=np.float64)
    free = np.array([data.draw(numbers(hosts))])
    kinds = np.array(data.draw(st.lists(st.integers(0, 2), min_size=hosts, max_size=hosts)), dtype=np.int32)
    need, count = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 5))
    exclude = data.draw(st.lists(st.integers(0, hosts - 1), max_size=3)) if hosts else []
    answers = []
    for module in KERNELS:
        index = module.Index(1, [floor, False])
        index.load(kinds, free, raw)
        class_id = index.add_class([need], [1, 0, 1], [sign, 1.0], [-1.0, 1.0])
        answers.append(
            (index.choose_scored(class_id, count, exclude), index.scan(class_id, count), index.place(class_id, 3))
        )
    assert all(answer == answers[-1] for answer in answers)


def test_scores_are_the_same_bits_in_every_variant() -> None:
    rng = np.random.default_rng(3)
    raw = rng.integers(0, 10**6, (6, 5000)).astype(np.float64)
    scores = []
    for module in KERNELS:
        index = module.Index(0, [True, False] * 3)
        index.load(np.zeros(5000, dtype=np.int32), np.zeros((0, 5000), dtype=np.int64), raw)
        class_id = index.add_class([], [1], [1.0, -1 / 3, 0.7, -1e6, 2.0, 1e-9], np.zeros(6))
        scores.append(np.array(index.choose_scored(class_id, 5000)[1] + index.choose_scored(class_id, 5)[1]))
    assert all((score.view(np.int64) == scores[-1].view(np.int64)).all() for score in scores)


def test_ties_go_to_the_lowest_position(kernel: Any) -> None:
    index = kernel.Index(1, [True])
    kinds = np.arange(1000)[::-1] % 7
    index.load(kinds, np.full((1, 1000), 3), np.full((1, 1000), 3.0))
    class_id = index.add_class([1], np.ones(7), [1.0], [-1.0])
    assert index.choose(class_id, 3) == [0, 1, 2]
    assert index.place(class_id, 5) == [[0], [1], [2], [3], [4]]
    assert index.choose(class_id, 2, exclude=[5, 6]) == [7, 8]


def test_a_host_alone_is_not_weighed(kernel: Any) -> None:
    index = small(kernel)
    assert index.choose_scored(index.add_class([13], [1], [1.0], [-13.0]), 1) == ([3], [0.0])


def test_what_is_not_asked_for_is_not_compared(kernel: Any) -> None:
    index = small(kernel, 2)
    index.set_host(0, 0, [-5], [20.0])
    assert index.choose(index.add_class([0], [1], [1.0], [0.0]), 2) == [0, 1]


def test_nothing_fits_until_something_does(kernel: Any) -> None:
    index = small(kernel)
    class_id = index.add_class([50], [1], [1.0], [-50.0])
    assert index.choose(class_id, 1) == index.scan(class_id, 1) == index.place(class_id, 2) == []
    index.set_host(2, 0, [50], [50.0])
    assert index.choose(class_id, 1) == [2]


def test_signatures_that_come_later_pass_when_a_class_says_so(kernel: Any) -> None:
    index = small(kernel)
    class_id = index.add_class([1], [1], [1.0], [-1.0])
    index.set_host(3, 5, [13], [13.0])
    assert index.choose(class_id, 1) == [2]
    index.set_passes(class_id, [1, 0, 0, 0, 0, 1])
    assert index.choose(class_id, 1) == [3]


@pytest.mark.parametrize("value", [0.1, 2.0**40, 1 / 64, 1 / 4096])
def test_values_that_do_not_fit_the_columns_are_answered_too(kernel: Any, value: float) -> None:
    index = small(kernel)
    class_id = index.add_class([1], [1], [1.0], [-1.0])
    index.claim(class_id, 1)
    index.set_host(0, 0, [10], [value])
    assert index.row(0)[2].tolist() == [value]
    assert index.row(1)[1].tolist() == [10]
    best = index.choose(class_id, 4)
    assert best == ([0, 3, 2, 1] if value > 100 else [3, 2, 1, 0])
    index.release(class_id, 1)
    assert index.scan(class_id, 4) == index.choose(class_id, 4)
    assert index.add_class([2], [1], [-1.0], [-2.0]) == class_id + 1
    index.load([0], [[3]], [[3.0]])
    assert index.choose(class_id, 2) == [0]


BAD = [
    ("load", ([0, 0], [[1]], [[1.0, 2.0]])),
    ("load", ([0], [[1]], [[float("nan")]])),
    ("load", ([-1], [[1]], [[1.0]])),
    ("load", ([0], [[2**60]], [[1.0]])),
    ("load", ([0], [[1.5]], [[1.0]])),
    ("set_host", (4, 0, [1], [1.0])),
    ("set_host", (-1, 0, [1], [1.0])),
    ("set_host", (0, 2**40, [1], [1.0])),
    ("set_host", (0, 0, [1, 2], [1.0])),
    ("set_host", (0, 0, [1], [float("inf")])),
    ("set_host", (0, 0, [1], [-float("inf")])),
    ("add_class", ([-1], [1], [1.0], [1.0])),
    ("add_class", ([1], [[1]], [1.0], [1.0])),
    ("add_class", ([1], [1], [float("nan")], [1.0])),
    ("add_class", ([1], [1], [1e40], [1.0])),
    ("add_class", ([1], [1], [[1.0], [2.0]], [1.0])),
    ("add_class", ([1], [1], [1.0], [1.0, 2.0])),
    ("add_class", ([1], [1], [1.0], [float("nan")])),
    ("set_passes", (9, [1])),
    ("choose", (0, -1)),
    ("choose", (1, 1)),
    ("choose", (-1, 1)),
    ("choose", (0, 1, [4])),
    ("choose", (0, 1, [-1])),
    ("scan", (0, -1)),
    ("claim", (0, 4)),
    ("claim", (0, -1)),
    ("claim", (0, 0, 2**30)),
    ("claim", (7, 0)),
    ("release", (0, 99)),
    ("place", (0, -1)),
    ("place", (0, 1, 0)),
    ("drop_class", (3,)),
    ("fitting", (3,)),
    ("row", (4,)),
]


@pytest.mark.parametrize(("method", "given"), BAD)
def test_bad_input_is_refused_and_changes_nothing(kernel: Any, method: str, given: tuple[Any, ...]) -> None:
    index = small(kernel)
    class_id = index.add_class([1], [1], [1.0], [-1.0])
    with pytest.raises(ValueError, match=r"\w"):
        getattr(index, method)(*given)
    assert index.choose(class_id, 4) == [3, 2, 1, 0]
    assert index.hosts == 4


@pytest.mark.parametrize("floors", [[True] * 33, [True]])
def test_too_many_columns_are_refused(kernel: Any, floors: list[bool]) -> None:
    with pytest.raises(ValueError, match="more than"):
        kernel.Index(33 if len(floors) == 1 else 1, floors)


def test_a_claim_beyond_all_numbers_is_refused(kernel: Any) -> None:
    index = small(kernel)
    class_id = index.add_class([2**50], [1], [1.0], [-1.0])
    with pytest.raises(ValueError, match="2\\*\\*53"):
        index.claim(class_id, 0, 2**10)
    assert index.row(0)[1].tolist() == [10]


def test_the_plain_kernel_can_be_forced() -> None:
    environment = os.environ | {"CELLCLOUD_PURE_PYTHON": "1"}
    said = subprocess.run(
        [sys.executable, "-c", "from cellcloud import fastsched; print(fastsched.KERNEL)"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "python"
