"""Labels: their natural order, several of them in one cell, and their spellings.

    separator None    "spam"                        one label
    separator "|"     "joy|anger" or ["joy", "anger"]  ──► "anger|joy"     any number, in natural order, each once
                      "" or []                      ──► ""              none

Inside the project several labels of a text are always joined in this form, so that equal sets of labels are equal
strings, and the files of splits are readable.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lasttoken.core.spelling import label_key, near_spellings, nearly_same, tidy, visible
from lasttoken.data.tables.table import as_string, brief

NAME = r"""(?:'[^'\\]*'|"[^"\\]*")"""  # in quotes
QUOTED = re.compile(NAME)
ARRAY = re.compile(rf"\s*\[\s*{NAME}(?:\s+{NAME})+\s*\]\s*")  # without commas, as NumPy prints arrays
GROUP = re.compile(rf"\s*(?:[({{]\s*{NAME}(?:\s*,\s*{NAME})*\s*,?\s*[)}}]|\(\)|set\(\))\s*")  # of strings, or empty
CHOICES = re.compile(r'\s*\{\s*"choices"')
MOST_LIST_CHARACTERS = 10_000  # in a list that Python's parser reads


def natural_order(labels: Iterable[str]) -> list[str]:
    """The distinct labels in natural order: numbers by value, also inside words.

    >>> natural_order(["10", "2", "-1", "class 10", "class 2", "2"])
    ['-1', '2', '10', 'class 2', 'class 10']
    """
    return sorted(set(labels), key=_natural_key)


def _natural_key(label: str) -> tuple[object, ...]:
    """Numbers first, then words; the label itself comes last in the key, so that no two keys are equal."""
    if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", label):
        return (0, float(label), label)
    parts = re.split(r"([0-9]+)", label.casefold())  # words at even places, digits at odd ones
    digits = [(len(part.lstrip("0")), part.lstrip("0")) for part in parts[1::2]]
    return (1, [*zip(parts[::2], [*digits, (0, "")], strict=True)], label)


def listed_choices(value: Any) -> Any:
    """The labels of {"choices": ["joy", "anger"]}, as in Label Studio's JSON-MIN; any other value unchanged.

    >>> listed_choices({"choices": ["joy", "anger"]}), listed_choices('{"choices": ["joy"]}'), listed_choices("joy")
    (['joy', 'anger'], ['joy'], 'joy')
    """
    parsed = value
    if isinstance(value, str) and CHOICES.match(value):
        with contextlib.suppress(ValueError):
            parsed = json.loads(value)
    is_choices = isinstance(parsed, dict) and parsed.keys() == {"choices"} and isinstance(parsed["choices"], list)
    return parsed["choices"] if is_choices else value


def single_label(values: list[Any]) -> str:
    """The only label in a list, as annotation tools write it; "" for an empty list.

    >>> single_label(["spam"]), single_label([])
    ('spam', '')

    Raises:
        TypeError: several labels, or a value that is not a label.
        UnicodeError: see `as_string`.
    """
    if len(values) > 1:
        raise TypeError(f"{len(values)} labels ({brief(values)}); pass --multi-label if texts may have several")
    return (as_string(values[0]) or "") if values else ""


def join_labels(value: Any, separator: str) -> str:
    """Join the labels of a cell: names with the separator between them, a JSON list, or a list.

    >>> join_labels("joy| anger|joy", "|"), join_labels('["joy", "anger"]', "|"), join_labels(None, "|")
    ('anger|joy', 'anger|joy', '')

    Raises:
        TypeError: a list of values that are not labels, or a label that contains the separator; the message names it.
        UnicodeError: see `as_string`.
    """
    value = listed_choices(value)
    if isinstance(value, str) and (several := _written_by_python(value)) is not None:
        value = several
    elif isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = _parsed_list(value)
        except ValueError as error:
            raise TypeError(f"{value[:40]!r}, which starts like a list but is not valid JSON ({error})") from error
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        value = (as_string(value) or "").split(separator)
    labels = {tidy(as_string(label) or "") for label in value} - {""}
    if containing := next((label for label in labels if separator in label), None):
        raise TypeError(
            f"the label {containing!r}, which contains the separator {separator!r}; choose another --label-separator"
        )
    return separator.join(natural_order(labels))


def _written_by_python(text: str) -> list[Any] | None:
    """The labels of a tuple, a set or an array of strings as Python or NumPy prints it; None for anything else.

    >>> _written_by_python("('joy', 'anger')"), _written_by_python("['joy' 'anger']"), _written_by_python("(joy)")
    (['joy', 'anger'], ['joy', 'anger'], None)
    """
    if ARRAY.fullmatch(text):
        return [ast.literal_eval(name) for name in QUOTED.findall(text)]
    if not GROUP.fullmatch(text) or len(text) > MOST_LIST_CHARACTERS:
        return None
    with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        if isinstance(value := ast.literal_eval(text.strip()), tuple | set):
            return list(value)
    return None


def _parsed_list(text: str) -> Any:
    """A list as JSON or Python writes it: ["joy"] or ['joy'], the latter up to a size limit."""
    try:
        return json.loads(text)
    except ValueError:
        if len(text) > MOST_LIST_CHARACTERS:
            raise
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            if isinstance(value := ast.literal_eval(text.strip()), list):
                return value
        raise


def split_labels(joined: str, separator: str | None) -> tuple[str, ...]:
    """The labels that `join_labels` has joined.

    >>> split_labels("anger|joy", "|"), split_labels("", "|"), split_labels("anger|joy", None)
    (('anger', 'joy'), (), ('anger|joy',))
    """
    if separator is None:
        return (joined,)
    return tuple(joined.split(separator)) if joined else ()


@dataclass(frozen=True)
class Merge:
    """Spellings of one label, with their numbers of rows, and the label that replaces them."""

    label: str
    spellings: Mapping[str, int]

    def sentence(self) -> str:
        """A message about the merge.

        >>> Merge("spam", {"spam": 812, "spam ": 1}).sentence()
        "'spam' (812 rows) and 'spam ' (1 row) are spellings of one label and are read as 'spam'"
        """
        several = len(self.spellings) > 1
        verb = "are spellings of one label and are read as" if several else "is read as"
        return f"{with_row_counts(self.spellings)} {verb} {visible(self.label)}"

    def to_json(self) -> dict[str, Any]:
        """The label, and the rows of each spelling."""
        return {"label": self.label, "spellings": dict(self.spellings)}


def with_row_counts(counts: Mapping[str, int]) -> str:
    """Labels with their numbers of rows, for a sentence.

    >>> with_row_counts({"a": 1, "b": 2000, "c": 3})
    "'a' (1 row), 'b' (2,000 rows) and 'c' (3 rows)"
    """
    parts = [f"{visible(label)} ({n:,} {'row' if n == 1 else 'rows'})" for label, n in counts.items()]
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def merges_of(train: Mapping[str, int], others: Mapping[str, int] | None = None) -> list[Merge]:
    """The merges that leave one spelling of each label: the commonest in train, without spaces at its ends.

    `train` and `others` are the numbers of rows of each spelling in train and in the other splits.

    >>> merges_of({"True": 30, "no": 5}, {"true": 40})
    [Merge(label='True', spellings={'True': 30, 'true': 40})]
    """
    others = others or {}
    by_key: dict[str, list[str]] = {}
    for label in sorted({*train, *others}, key=lambda label: _commonest_first(label, train, others)):
        by_key.setdefault(label_key(label), []).append(label)
    merges = [
        Merge(tidy(spellings[0]), {label: train.get(label, 0) + others.get(label, 0) for label in spellings})
        for spellings in by_key.values()
    ]
    return [merge for merge in merges if list(merge.spellings) != [merge.label]]


def _commonest_first(label: str, train: Mapping[str, int], others: Mapping[str, int]) -> tuple[object, ...]:
    return (-train.get(label, 0), -others.get(label, 0), label != label_key(label), label)


def warn_about_labels(counts: Mapping[str, int]) -> list[str]:
    """Sentences about labels that differ only in case or are equal as numbers, and are different labels all the same.

    >>> warn_about_labels({"spam": 2, "Spam": 1, "ham": 5})
    ["'spam' (2 rows) and 'Spam' (1 row) differ only in case and are read as different labels"]
    """
    return [
        f"{with_row_counts(group)} {'differ only in case' if _differ_by_case(group) else 'are equal as numbers'}"
        " and are read as different labels"
        for group in near_spellings(counts)
    ]


def _differ_by_case(labels: Iterable[str]) -> bool:
    return len({label_key(label).casefold() for label in labels}) == 1


def near_miss(label: str, labels: Iterable[str]) -> str:
    """A hint for messages about an unknown label: a label that differs from it only in case, or is equal as a number.

    >>> near_miss("Spam", ["ham", "spam"])
    " ('spam' differs only in case)"
    """
    similar = nearly_same(label, labels)
    how = "differs only in case" if _differ_by_case([label, *similar]) else "is equal as a number"
    return f" ({visible(similar[0])} {how})" if similar else ""
