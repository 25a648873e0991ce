"""Fields are quoted as pandas quotes them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lasttoken.data.files import Examples
from lasttoken.data.folders import write_splits
from lasttoken.data.splitting.splits import Splits


def test_quoting_is_that_of_pandas(tmp_path: Path) -> None:
    texts = ["plain", 'a "quote"', "a, comma", "two\nlines", " space ", "it's"]
    write_splits(Splits(Examples(texts, ["x"] * 6), None, None), tmp_path)
    pd.DataFrame({"text": texts, "label": "x"}).to_csv(tmp_path / "pandas.csv", index=False, lineterminator="\n")
    assert (tmp_path / "train.csv").read_bytes() == (tmp_path / "pandas.csv").read_bytes()
