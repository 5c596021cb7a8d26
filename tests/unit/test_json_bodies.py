"""Bodies are read strictly, and nothing that is a body is refused."""

from __future__ import annotations

import json

import pytest

from cellcloud import errors
from top_api.validation import read_json


@pytest.mark.parametrize("backslashes", range(9))
@pytest.mark.parametrize("form", ['{"a": "%su0000"}', '{"%su0000": 1}', '{"a": ["x%su0000y"]}', '{"a": "%su00000"}'])
def test_only_a_nul_is_refused_not_what_looks_like_one(form: str, backslashes: int) -> None:
    text = form % ("\\" * backslashes)
    if backslashes % 2:  # the others escape each other
        with pytest.raises(errors.Invalid):
            read_json(text.encode())
    else:
        assert read_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": "\0"}', "{", '"\\ud800"', "[" * 5000, '{"a": 01}', "\xff"])
def test_what_is_no_body_is_refused(text: str) -> None:
    with pytest.raises(errors.Invalid):
        read_json(text.encode("latin-1"))
