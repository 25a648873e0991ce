"""The task of a classifier: one label for each text, or any number of labels. All that differs between the two is here.

                      SingleLabel                          MultiLabel
    truth             label_ids [N]                        whether a text has each label, bool [N, K]
    loss              cross-entropy                        binary cross-entropy of each label
    probabilities     softmax over the K labels            sigmoid of each logit
    prediction        the most probable label              each label from its threshold on
    headline metric   accuracy                             micro-F1

Predictions have the shape of the truth. Code above this package calls the methods of a `Task` and does not test which
of the two it has; `core`, `data` and `audit` do not know tasks, only the separator between labels in a file.
"""

from __future__ import annotations

from collections.abc import Sequence

from lasttoken.evaluation.metrics import LogProbs
from lasttoken.evaluation.tasks.multi_label import MultiLabel
from lasttoken.evaluation.tasks.single_label import SingleLabel, log_softmax
from lasttoken.evaluation.tasks.task import SplitMetrics, Task, Truth

__all__ = [
    "LogProbs",
    "MultiLabel",
    "SingleLabel",
    "SplitMetrics",
    "Task",
    "Truth",
    "log_softmax",
    "task_class",
    "task_of",
]


def task_of(labels: Sequence[str], separator: str | None) -> Task:
    """The task of K labels; `separator` stands between the labels of a text in a file, None: a text has one label."""
    return SingleLabel(tuple(labels)) if separator is None else MultiLabel(tuple(labels), separator)


def task_class(multi_label: bool) -> type[Task]:
    """The class of a task, from `multi_label` as settings and files state it."""
    return MultiLabel if multi_label else SingleLabel
