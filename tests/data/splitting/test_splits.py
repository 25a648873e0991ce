"""The labels of splits must match, and shared texts are counted."""

from __future__ import annotations

import pytest
from made_examples import made

from lasttoken.core.errors import DataError
from lasttoken.data.files import Examples
from lasttoken.data.splitting.splits import Splits, check_splits, count_shared_texts


def test_check_splits() -> None:
    train, other = made("abab"), Examples(["x", "y"], ["a", "c"], source="test.csv")
    with pytest.raises(
        DataError, match=r"row 2 of test.csv has label 'c', which is not one of 'a', 'b' in a.csv; fix the row"
    ):
        check_splits(Splits(train, None, other))
    with pytest.raises(DataError, match=r"row 1 of the validation split has label '0'"):
        check_splits(Splits(train, Examples(["x"], ["0"]), None))
    with pytest.raises(DataError, match=r"a.csv has only one label, 'a'"):
        check_splits(Splits(made("aa"), None, None))
    check_splits(Splits(train, made("a"), None))


def test_count_shared_texts() -> None:
    assert count_shared_texts(made("ab", ["x", "y"]), made("abc", ["y", "y", "z"])) == 2
