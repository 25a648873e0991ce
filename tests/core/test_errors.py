"""The tree of errors: exit codes, and how values are shown in messages."""

from __future__ import annotations

import pytest

from lasttoken.core import errors
from lasttoken.core.errors import FailedError, LastTokenError, UserError, nearest, one_of, short_repr

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, LastTokenError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_users_errors_exit_with_2_and_failures_with_1(kind: type[LastTokenError]) -> None:
    assert kind.exit_code == (2 if issubclass(kind, UserError) else 1)
    assert issubclass(kind, ValueError) == issubclass(kind, UserError), "as scikit-learn's tools expect"


def test_every_class_is_drawn_in_the_tree() -> None:
    assert errors.__doc__
    assert all(kind.__name__ in errors.__doc__ for kind in CLASSES)
    assert len([kind for kind in CLASSES if issubclass(kind, FailedError)]) > 1


def test_long_values_and_long_lists_are_cut() -> None:
    assert short_repr("x" * 81) == "'" + "x" * 79 + "…"
    assert short_repr(list(range(1000))).startswith("[0, 1, 2")
    assert one_of(map(str, range(14))).endswith("'11' and 2 more")
    assert one_of([]) == ""


def test_the_nearest_words_are_suggested() -> None:
    assert "'label'" in nearest("lable", ["text", "label"])
    assert nearest("xyz", ["text", "label"]) == ""
