"""Labels as people write them: their natural order, and several of them in one cell.

    separator None    "spam"                        one label
    separator "|"     "joy|anger" or ["joy", "anger"]  ──► "anger|joy"     any number, in natural order, each once
                      "" or []                      ──► ""              none

Inside the project a cell of several labels is always of this one written form, so that two equal sets are equal
strings, and files of splits hold them as people do.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Iterable
from typing import Any

from lasttoken.data.tables import as_string, brief

MOST_LIST_CHARACTERS = 10_000  # of a list that Python's own parser reads


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


def single_label(values: list[Any]) -> str:
    """The label in a list of one, as annotation tools write them; "" of an empty list.

    >>> single_label(["spam"]), single_label([])
    ('spam', '')

    Raises:
        TypeError: several labels, or something else than a label.
        UnicodeError: see `as_string`.
    """
    if len(values) > 1:
        raise TypeError(f"{len(values)} labels ({brief(values)}); pass --multi-label if texts may have several")
    return (as_string(values[0]) or "") if values else ""


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
            value = _parsed_list(value)
        except ValueError as error:
            raise TypeError(f"{value[:40]!r}, which starts like a list but is not valid JSON ({error})") from error
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


def _parsed_list(text: str) -> Any:
    """A list as JSON or as Python writes it: ["joy"] or ['joy'], the latter up to a size."""
    try:
        return json.loads(text)
    except ValueError:
        if len(text) > MOST_LIST_CHARACTERS:
            raise
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            if isinstance(value := ast.literal_eval(text.strip()), list):
                return value
        raise


def part_labels(joined: str, separator: str | None) -> tuple[str, ...]:
    """The labels of a cell of the written form.

    >>> part_labels("anger|joy", "|"), part_labels("", "|"), part_labels("anger|joy", None)
    (('anger', 'joy'), (), ('anger|joy',))
    """
    if separator is None:
        return (joined,)
    return tuple(joined.split(separator)) if joined else ()
