"""Train, validation and test examples together, and the check that their labels match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lasttoken.core.errors import DataError, one_of
from lasttoken.data.files import Examples
from lasttoken.data.label_tables import label_names, label_sets
from lasttoken.data.labels import near_miss

SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Splits:
    """Train, validation and test examples; None for a split that does not exist. `notes` are for the user."""

    train: Examples
    validation: Examples | None
    test: Examples | None
    notes: tuple[str, ...] = ()
    label_counts: dict[str, int] | None = None  # rows of each label in train before undersampling, if any
    facts: Mapping[str, Any] = field(default_factory=dict)  # what was left out or merged, for metrics.json
    validation_is_cut: bool = False  # from the same rows as train; False: the user gave a validation split

    def named(self) -> dict[str, Examples]:
        """The splits by name, without those that are None."""
        named = zip(SPLIT_NAMES, (self.train, self.validation, self.test), strict=True)
        return {name: examples for name, examples in named if examples is not None}

    @property
    def headline(self) -> str:
        """The name of the split whose metrics are reported: test, or validation if there is no test."""
        return "validation" if self.test is None else "test"

    def with_examples(self, named: Mapping[str, Examples]) -> Splits:
        """The same splits with other examples, by name."""
        return replace(self, train=named["train"], validation=named.get("validation"), test=named.get("test"))


def check_splits(splits: Splits) -> None:
    """Check the labels of splits: at least two in train, and no other labels in validation and test.

    Raises:
        DataError: names the label, the split and a row.
    """
    known = label_names(splits.train)
    known_set = set(known)
    for name, examples in splits.named().items():
        for row, labels in enumerate(label_sets(examples)):
            if label := next((label for label in labels if label not in known_set), None):
                raise DataError(
                    f"row {examples.number_of(row)} of {_source(examples, name)} has label {label!r}, which is not"
                    f" one of {one_of(known)} in {_source(splits.train, 'train')}{near_miss(label, known)}; fix the"
                    " row, or add examples of that label to train"
                )


def _source(examples: Examples, name: str) -> str:
    return examples.source or f"the {name} split"


def count_shared_texts(train: Examples, other: Examples) -> int:
    """Rows of `other` whose exact text is also in train."""
    known = set(train.texts)
    return sum(text in known for text in other.texts)
