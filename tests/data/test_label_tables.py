"""Labels of examples are counted in natural order."""

from __future__ import annotations

import pytest

from lasttoken.core.errors import DataError
from lasttoken.data.files import Examples
from lasttoken.data.label_tables import label_counts


def test_label_counts() -> None:
    assert list(label_counts(Examples(["a"] * 4, ["10", "2", "2", "x"])).items()) == [("2", 2), ("10", 1), ("x", 1)]
    with pytest.raises(DataError, match=r"a.csv have no labels; name their column with --label"):
        label_counts(Examples(["a"], source="a.csv"))
