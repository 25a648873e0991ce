"""The facts about settings: ranges in words and in effect, types as TOML and Python give them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import pytest
from annotated_types import Interval

from lasttoken.core.errors import SettingsError
from lasttoken.core.setting import FRACTION, SettingInfo, check_value, in_words, setting, typed


@dataclass(frozen=True)
class Example:
    rate: float = setting(0.5, "A fraction.", allowed=FRACTION)
    blocks: str = setting("2", "A count or a word.", accepts_numbers=True)
    limit: str | None = setting(None, "A size.", unit="bytes", allowed=Interval(ge=1, le=1000))
    columns: tuple[str, ...] = setting((), "Columns.")


FIELDS = {item.name: item for item in fields(Example)}


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        (Interval(ge=1), [1, 5], [0, -1]),
        (Interval(gt=0, lt=1), [0.5], [0, 1, math.nan]),
        (Interval(ge=0, lt=math.inf), [0, 1e9], [math.inf, math.nan, -0.1]),
        (Interval(ge=1, le=3), [1, 3], [0, 4]),
    ],
)
def test_a_range_accepts_what_lies_in_it(interval: Interval, inside: list[float], outside: list[float]) -> None:
    info = SettingInfo(help="", allowed=interval)
    for value in inside:
        check_value("--x", value, info)
    for value in outside:
        with pytest.raises(SettingsError, match=f"--x is {value}.*{in_words(interval)}"):
            check_value("--x", value, info)


def test_a_size_is_compared_in_bytes() -> None:
    info = FIELDS["limit"].metadata["info"]
    check_value("--limit", None, info)
    check_value("--limit", "1KB", info)
    for value in ("2KB", "0", "lots"):
        with pytest.raises(SettingsError, match=f"--limit.*'{value}'"):
            check_value("--limit", value, info)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("rate", 1, 1.0), ("blocks", 2, "2"), ("columns", "a", ("a",)), ("columns", ["a", "b"], ("a", "b"))],
)
def test_values_are_converted_to_the_settings_type(name: str, value: Any, expected: Any) -> None:
    converted = typed("--x", value, FIELDS[name])
    assert (converted, type(converted)) == (expected, type(expected))


@pytest.mark.parametrize(("name", "value"), [("rate", "1"), ("rate", True), ("blocks", True), ("columns", 5)])
def test_a_value_of_another_type_is_rejected(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match="--x is"):
        typed("--x", value, FIELDS[name])
