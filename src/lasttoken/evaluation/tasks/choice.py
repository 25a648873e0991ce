"""Which task: from the labels and the separator of a file, or from `multi_label` as settings state it."""

from __future__ import annotations

from collections.abc import Sequence

from lasttoken.evaluation.tasks.multi_label import MultiLabel
from lasttoken.evaluation.tasks.single_label import SingleLabel
from lasttoken.evaluation.tasks.task import Task


def task_of(labels: Sequence[str], separator: str | None) -> Task:
    """The task of K labels; `separator` stands between the labels of a text in a file, None: a text has one label."""
    return SingleLabel(tuple(labels)) if separator is None else MultiLabel(tuple(labels), separator)


def task_class(multi_label: bool) -> type[Task]:
    """The class of a task, from `multi_label` as settings and files state it."""
    return MultiLabel if multi_label else SingleLabel
