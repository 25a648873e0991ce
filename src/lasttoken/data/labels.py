"""Labels as people write them: their natural order, and several of them in one cell.

    separator None    "spam"                        one label
    separator "|"     "joy|anger" or ["joy", "anger"]  ──► "anger|joy"     any number, in natural order, each once
                      "" or []                      ──► ""              none

Inside the project a cell of several labels is always of this one written form, so that two equal sets are equal
strings, and files of splits hold them as people do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from lasttoken.data.tables import as_string


def natural_order(labels: Iterable[str]) -> list[str]:
    """The distinct labels as a person would order them: numbers by value, digits inside words too.

    >>> natural_order(["10", "2", "-1", "class 10", "class 2", "2"])
    ['-1', '2', '10', 'class 2', 'class 10']
    """
    return sorted(set(labels), key=_natural_key)


def _natural_key(label: str) -> tuple[object, ...]:
    """Numbers first, then words; the label itself last, so that no two labels are equal."""
    if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", label):
        return (0, float(label), label)
    parts = re.split(r"([0-9]+)", label.casefold())  # words at even places, digits at odd ones
    digits = [(len(part.lstrip("0")), part.lstrip("0")) for part in parts[1::2]]
    return (1, [*zip(parts[::2], [*digits, (0, "")], strict=True)], label)


def join_labels(value: Any, separator: str) -> str:
    """A cell of several labels in the written form: names parted by the separator, a JSON list, or a list.

    >>> join_labels("joy| anger|joy", "|"), join_labels('["joy", "anger"]', "|"), join_labels(None, "|")
    ('anger|joy', 'anger|joy', '')

    Raises:
        TypeError: a list of something else than labels, or a label that holds the separator; says what.
        UnicodeError: see `as_string`.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise TypeError(f"{value[:40]!r}, which starts as a JSON list and is none ({error})") from error
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        value = (as_string(value) or "").split(separator)
    found = {(as_string(one) or "").strip() for one in value} - {""}
    if parted := next((label for label in found if separator in label), None):
        raise TypeError(
            f"the label {parted!r}, which holds the separator {separator!r}; choose another --label-separator"
        )
    return separator.join(natural_order(found))


def part_labels(joined: str, separator: str | None) -> tuple[str, ...]:
    """The labels of a cell of the written form.

    >>> part_labels("anger|joy", "|"), part_labels("", "|"), part_labels("anger|joy", None)
    (('anger', 'joy'), (), ('anger|joy',))
    """
    if separator is None:
        return (joined,)
    return tuple(joined.split(separator)) if joined else ()
