"""Undersampling leaves as many rows of each label as the rarest has."""

from __future__ import annotations

import pytest
from made_examples import made

from lasttoken.core.errors import DataError
from lasttoken.data.label_tables import label_counts
from lasttoken.data.splitting.undersampling import undersample


def test_undersample() -> None:
    examples = made("aabbbbbbcccc")
    thin = undersample(examples, seed=4)
    assert label_counts(thin) == {"a": 2, "b": 2, "c": 2}
    assert thin.texts == sorted(thin.texts, key=examples.texts.index)
    assert thin == undersample(examples, seed=4)
    assert len({tuple(undersample(examples, seed).texts) for seed in range(10)}) > 5
    with pytest.raises(DataError, match=r"only one label"):
        undersample(made("aa"), 1)
