"""The facts about one setting besides its name and default: help text, choices, range, unit, and what it affects.

epochs: int = setting(6, "Passes over the train split.", allowed=AT_LEAST_1)
                                   │
SettingInfo(help=…, allowed=…) ────┴──► its flag, its help, its check, whether a resumed run may change it
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field
from typing import Any, Literal

from annotated_types import Interval

from lasttoken.core.columns import column_names
from lasttoken.core.errors import SettingsError, nearest, one_of
from lasttoken.core.storage import parse_bytes

KINDS: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "tuple[str, ...]": tuple}

AT_LEAST_1 = Interval(ge=1)
AT_LEAST_0 = Interval(ge=0, lt=math.inf)
ABOVE_0 = Interval(gt=0, lt=math.inf)
FRACTION = Interval(gt=0, lt=1)


@dataclass(frozen=True, kw_only=True)
class SettingInfo:
    """The facts about a setting; `setting` keeps them in the metadata of its field."""

    help: str
    help_of: Mapping[str, str] = field(default_factory=dict)  # other help texts, by the command with another meaning
    choices: tuple[str, ...] | Callable[[], tuple[str, ...]] | None = None  # a function: looked up when needed
    allowed: Interval | None = None  # the range of a number, or of a size in bytes
    unit: Literal["bytes"] | None = None  # "bytes": a string such as 16MB
    example: str | None = None  # of a valid value, for error messages
    accepts_numbers: bool = False  # a string that TOML and Python may give as a number, such as train_blocks = 2
    flag: str | None = None  # where it is not --name-with-dashes; "--on/--off" for a pair
    alias: str | None = None  # a second name of the flag
    commands: tuple[str, ...] = ()  # the commands besides train that take the setting
    changes_training: bool = True  # False: a resumed run may have another value than the run it continues
    single_label_only: bool = False  # cannot be combined with --multi-label

    def valid_choices(self) -> tuple[str, ...] | None:
        """The choices; None: the setting has none."""
        return self.choices() if callable(self.choices) else self.choices


def setting(default: Any, help: str, **facts: Any) -> Any:
    """A field of `Settings` with its default and the facts about it, see `SettingInfo`."""
    return field(default=default, metadata={"info": SettingInfo(help=help, **facts)})


def info_of(item: Field[Any]) -> SettingInfo:
    """The facts about a setting, from its field."""
    info: SettingInfo = item.metadata["info"]
    return info


def kind_of(item: Field[Any]) -> type:
    """The type of a setting's value when it is set."""
    return KINDS[str(item.type).removesuffix(" | None")]


def in_words(interval: Interval, unit: str | None = None) -> str:
    """A range for an error message.

    >>> in_words(Interval(ge=1)), in_words(FRACTION), in_words(Interval(gt=0, lt=math.inf))
    ('at least 1', 'above 0 and below 1', 'above 0 and finite')
    """
    bounds = [("at least", interval.ge), ("above", interval.gt), ("at most", interval.le), ("below", interval.lt)]
    parts = ["finite" if bound == math.inf else f"{word} {bound:,}" for word, bound in bounds if bound is not None]
    return " and ".join(parts) + (f" {unit}" if unit else "")


def _is_within(value: Any, interval: Interval) -> bool:
    """Whether a number is in a range; NaN is in none."""
    return (
        (interval.ge is None or value >= interval.ge)
        and (interval.gt is None or value > interval.gt)
        and (interval.le is None or value <= interval.le)
        and (interval.lt is None or value < interval.lt)
    )


def check_value(flag: str, value: Any, info: SettingInfo) -> None:
    """Reject a value that is not one of the choices or is out of range; None means that the setting is not set.

    Raises:
        SettingsError: names the flag, the value and what is allowed.
    """
    if value is None:
        return
    choices = info.valid_choices()
    if choices and value not in choices:
        raise SettingsError(f"{flag} is {value!r}; use one of {one_of(choices)}{nearest(str(value), choices)}")
    number = value
    if info.unit == "bytes":
        try:
            number = parse_bytes(value)
        except ValueError as error:
            raise SettingsError(f"{flag}: {error}") from error
    if info.allowed is not None and not _is_within(number, info.allowed):
        example = f", such as {info.example}" if info.example else ""
        raise SettingsError(f"{flag} is {value!r}; it must be {in_words(info.allowed, info.unit)}{example}")


def typed(flag: str, value: Any, item: Field[Any]) -> Any:
    """`value` in the type of the setting; TOML, flags and Python code may give an int for a float.

    Raises:
        SettingsError: a value of another type.
    """
    kind, info = kind_of(item), info_of(item)
    if kind is tuple:
        try:
            return column_names(value)
        except TypeError as error:
            raise SettingsError(f"{flag} is {value!r}; it must be the name of a column, or a list of names") from error
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and info.accepts_numbers:
        value = str(value)
    elif is_number and kind is float:
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise SettingsError(f"{flag} is {value!r}; it must be of type {kind.__name__}")
    return value
