"""Splitting from Python: files, findings of the audit, and outputs that are rejected."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniature import messages, write_messages

from lasttoken.core.errors import UserError
from lasttoken.core.resolve import resolve
from lasttoken.data.frames import from_lists
from lasttoken.runs.split import split_data


def test_examples_are_split_into_files(tmp_path: Path) -> None:
    splits = split_data(from_lists(*messages(40)), resolve(), tmp_path / "out")
    for name, examples in splits.named().items():
        lines = (tmp_path / "out" / f"{name}.csv").read_text("utf-8").splitlines()
        assert len(lines) == len(examples) + 1


def test_an_output_that_would_be_replaced_or_is_no_folder_is_rejected(tmp_path: Path) -> None:
    data = write_messages(tmp_path / "a.csv", *messages(40))
    split_data(data, resolve(), tmp_path / "out")
    with pytest.raises(UserError, match="--overwrite"):
        split_data(data, resolve(), tmp_path / "out")
    split_data(data, resolve(), tmp_path / "out", overwrite=True)
    with pytest.raises(UserError, match=r"a\.csv"):
        split_data(data, resolve(), data)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere"):
        split_data(data, resolve(), tmp_path / "link")
