"""Files are read as splits for an audit, train first."""

from __future__ import annotations

from pathlib import Path

import pytest

from lasttoken.audit.reading import read_for_audit
from lasttoken.core.errors import DataError


def test_files_are_named_by_their_split_train_first(tmp_path: Path) -> None:
    for name in ("test.csv", "train.tsv", "more.csv"):
        separator = "\t" if name.endswith("tsv") else ","
        (tmp_path / name).write_text(f"text{separator}label\nhello{separator}a\n{separator}b\nyou{separator}\n")
    found = read_for_audit([tmp_path / "test.csv", tmp_path / "more.csv", tmp_path / "train.tsv"])
    assert list(found) == ["train", "test", "more.csv"]
    assert found["test"].texts == ["hello", "", "you"]
    assert found["test"].labels == ["a", "b", ""]
    assert list(read_for_audit([tmp_path])) == ["train", "test"]
    with pytest.raises(DataError, match=r"more.csv is named twice"):
        read_for_audit([tmp_path / "more.csv"] * 3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no train.csv, validation.csv or test.csv"):
        read_for_audit([tmp_path / "empty"])
