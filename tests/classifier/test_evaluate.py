"""Labels of a file are matched with the classifier's, by spelling or by id, and a row that does not match is named."""

from __future__ import annotations

import pytest

from lasttoken.classifier.evaluate import match_labels
from lasttoken.core.errors import DataError
from lasttoken.data.files import Examples
from lasttoken.evaluation.tasks.multi_label import MultiLabel
from lasttoken.evaluation.tasks.single_label import SingleLabel

TASK = SingleLabel(("ham", "spam"))
MULTI_LABEL = MultiLabel(("cat", "dog", "fish"), "|")


def matched(*labels: str) -> tuple[list[int], list[str]]:
    messages: list[str] = []
    examples = Examples([f"text {row}" for row in range(len(labels))], list(labels), source="a.csv")
    return match_labels(examples, TASK, messages.append).tolist(), messages


@pytest.mark.parametrize(("labels", "label_ids"), [(("0", "1"), [0, 1]), (("1", "1"), [1, 1]), (("1.0", "0"), [1, 0])])
def test_a_column_of_label_ids_is_read_as_labels_and_reported(labels: tuple[str, ...], label_ids: list[int]) -> None:
    found, messages = matched(*labels)
    assert found == label_ids
    assert len(messages) == 1
    assert "0 = ham, 1 = spam" in messages[0]


def test_another_spelling_is_matched_and_reported_once() -> None:
    found, messages = matched("spam ", "ham", "spam ")
    assert found == [1, 0, 1]
    assert len(messages) == 1
    assert "a.csv" in messages[0]
    assert "'spam '" in messages[0]
    assert matched("spam", "ham") == ([1, 0], [])


@pytest.mark.parametrize(("labels", "value"), [(("ham", "1"), "'1'"), (("0", "2"), "'0'"), (("ham", "SPAM"), "'SPAM'")])
def test_a_row_of_another_label_is_named(labels: tuple[str, ...], value: str) -> None:
    row = labels.index(value.strip("'")) + 1
    with pytest.raises(DataError, match=rf"row {row} of a\.csv.*{value}"):
        matched(*labels)


def test_rows_without_labels_name_the_flag() -> None:
    with pytest.raises(DataError, match="--label"):
        match_labels(Examples(["a"], None, source="a.csv"), TASK)


def test_sets_of_labels_are_a_matrix_and_an_unknown_one_names_its_row() -> None:
    def matrix(*cells: str) -> list[list[bool]]:
        examples = Examples(list("abc")[: len(cells)], list(cells), separator="|", source="a.csv")
        rows: list[list[bool]] = match_labels(examples, MULTI_LABEL).tolist()
        return rows

    assert matrix("fish|cat", "", "dog ") == [[True, False, True], [False] * 3, [False, True, False]]
    with pytest.raises(DataError, match=r"row 2 of a\.csv.*'bird'"):
        matrix("cat", "dog|bird")
