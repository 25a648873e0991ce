"""What is read from JSON is checked field by field; what is written is JSON that every parser reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Gt
from hypothesis import given, settings
from hypothesis import strategies as st

from lasttoken.core.documents import checked, load_json, to_json
from lasttoken.core.errors import BackboneError, RunError


def nested(floats: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    plain = st.none() | st.booleans() | st.integers() | st.text() | floats
    return st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@settings(max_examples=50)
@given(nested(st.floats(allow_subnormal=False)))
def test_json_never_holds_nan_or_infinity(value: Any) -> None:
    def reject(name: str) -> None:
        raise AssertionError(name)

    json.loads(to_json(value), parse_constant=reject)


@settings(max_examples=50)
@given(nested(st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)))
def test_what_json_can_say_comes_back(value: Any) -> None:
    assert json.loads(to_json(value)) == value


def test_what_is_not_finite_becomes_null_and_the_rest_stays() -> None:
    value = {"a": float("nan"), "b": [float("inf"), {"c": (-float("inf"), 1.5)}], "é": Path("x")}
    assert json.loads(to_json(value, default=str)) == {"a": None, "b": [None, {"c": [None, 1.5]}], "é": "x"}


@dataclass(frozen=True)
class Thing:
    """Something to check."""

    size: Annotated[int, Gt(0)]
    names: tuple[str, ...]
    read: Literal["last", "first"] = "last"


def test_a_right_value_becomes_an_object() -> None:
    assert checked(Thing, {"size": 1, "names": ["a"]}, "here") == Thing(1, ("a",))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"size": 0, "names": []}, "size is 0"),
        ({"size": "1", "names": []}, "size is '1'"),
        ({"size": True, "names": []}, "size is True"),
        ({"size": 1.5, "names": []}, "size is 1.5"),
        ({"size": 1, "names": ["a", 2]}, "names.1 is 2"),
        ({"size": 1, "names": "ab"}, "names is 'ab'"),
        ({"size": 1, "names": [], "read": "lst"}, "read is 'lst'"),
        ({"names": []}, "size is missing"),
        ({"size": 1, "names": ["\ud83d"]}, "here"),
        ([], "here"),
        (None, "here"),
    ],
)
def test_a_wrong_value_is_named(content: Any, named: str) -> None:
    with pytest.raises(BackboneError, match=r"^here: ") as caught:
        checked(Thing, content, "here", BackboneError)
    assert named in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_huge_value_is_shown_in_part() -> None:
    with pytest.raises(RunError) as caught:
        checked(Thing, {"size": "9" * 100_000, "names": []}, "here")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"3", b"null", b"\xff{}", b"[" * 100_000, b'{"a": ' * 50_000, b"9" * 5000, b"{}" + b" " * 300],
)
def test_a_file_that_is_not_a_json_object_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"config\.json"):
        load_json(path, max_bytes=300_000 if len(content) > 1000 else 256)


def test_a_file_of_too_many_values_is_rejected_before_they_are_made(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"[" + b"[]," * 3_000_000 + b"1]")
    with pytest.raises(RunError, match=r"config\.json is too large"):
        load_json(path)
