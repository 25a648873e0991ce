"""Optional sections: which columns, labels and words the report shows."""

from __future__ import annotations

from typing import Any

import pytest

from lasttoken.evaluation.tasks.multi_label import MultiLabel
from lasttoken.evaluation.tasks.single_label import SingleLabel
from lasttoken.report.sections import MAX_TEXT, example, headline_columns, worst_labels


def metrics(*sizes: int) -> dict[str, Any]:
    labels = {f"l{i}": {"n": n, "f1": 1 - i / 100} for i, n in enumerate(sizes)}
    return {"per_label": labels, "macro_f1": 0.5, "mcc": 0.4}


@pytest.mark.parametrize(("sizes", "names"), [((10, 10), []), ((10, 90), ["macro_f1", "mcc"])])
def test_uneven_labels_get_more_columns(sizes: tuple[int, int], names: list[str]) -> None:
    assert [metric.name for metric in headline_columns(metrics(*sizes), SingleLabel)] == names


def test_multi_label_metrics_stand_beside_micro_f1_whatever_the_sizes() -> None:
    columns = headline_columns({**metrics(5, 5), "subset_accuracy": 0.3, "mAP": 0.6}, MultiLabel)
    assert {"macro_f1", "subset_accuracy", "mAP"} <= {metric.name for metric in columns}


def test_of_many_labels_the_worst_are_shown() -> None:
    assert worst_labels(metrics(3, 4)).rows[0][0] == "l0"
    many = worst_labels(metrics(*range(1, 61)))
    assert (many.rows[0][0], many.n_left_out) == ("l59", 10)


def test_words_are_marked_by_their_effect_and_cut_to_the_room() -> None:
    words = example({"text": "free cash now", "words": [["free ", 1.0], ["cash ", -0.3], ["now", 0.01]]})["words"]
    assert [(word.text, word.side, word.strong) for word in words] == [
        ("free ", "for", True),
        ("cash ", "against", False),
        ("now", "", False),
    ]
    long = example({"text": "x" * 2000, "words": [["x" * 2000, 1.0]]})["words"]
    assert sum(len(word.text) for word in long) == MAX_TEXT + 1
