"""fastText's lines are read as labels and texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from table_files import PLAIN, pairs, read

from lasttoken.data.files import read_examples


@pytest.mark.parametrize("name", ["a.txt", "a", "a.fasttext.txt"])
def test_fasttext(tmp_path: Path, name: str) -> None:
    lines = [f"__label__{label} {text}" for text, label in PLAIN]
    assert pairs(read(tmp_path / name, "\n".join(lines))) == PLAIN
    (tmp_path / name).write_text("__label__a __label__b hi\n__label__b ho\n")
    assert read_examples(tmp_path / name, separator="|").labels == ["a|b", "b"]
