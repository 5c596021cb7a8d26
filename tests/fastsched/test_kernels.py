"""The compiled kernel and the plain one give the same answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellcloud import _fastsched as compiled
from cellcloud import _fastsched_py as plain
from cellcloud import fastsched

AMOUNT = st.integers(min_value=-(2**62), max_value=2**62)


@st.composite
def questions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    classes, hosts = draw(st.integers(0, 4)), draw(st.integers(0, 40))
    amounts = st.one_of(st.integers(-2, 4), AMOUNT)
    free = np.array(draw(st.lists(amounts, min_size=classes * hosts, max_size=classes * hosts)), dtype=np.int64)
    need = np.array(draw(st.lists(amounts, min_size=classes, max_size=classes)), dtype=np.int64)
    allowed = np.array(draw(st.lists(st.integers(0, 255), min_size=hosts, max_size=hosts)), dtype=np.uint8)
    return free.reshape(classes, hosts), need, allowed


@given(questions())
def test_they_agree(question: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    found = compiled.fitting(*question)
    assert found.dtype == np.int64
    assert found.tolist() == plain.fitting(*question).tolist()


def test_the_scheduler_runs_the_compiled_one() -> None:
    assert fastsched.KERNEL.startswith("compiled")


@pytest.mark.parametrize("kernel", [plain, compiled])
def test_columns_of_different_lengths_are_refused(kernel: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        kernel.fitting(np.zeros((2, 3), dtype=np.int64), np.zeros(1, dtype=np.int64), np.ones(3, dtype=np.uint8))  # type: ignore[attr-defined]
