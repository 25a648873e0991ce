"""An output that cannot be written, or may not be replaced, is rejected before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from miniature import run_cli

from lasttoken.cli.outputs import check_free, check_output
from lasttoken.core.errors import SettingsError

posix = pytest.mark.skipif(os.name != "posix", reason="needs links")


@posix
def test_a_dangling_link_is_rejected_as_output(run_dir: Path, data: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "unmounted" / "disk")
    for words in (
        ["train", data, "--out", link],
        ["split", data, "--out", link],
        ["suspects", data, "--out", link],
        ["export", run_dir, "--to", "hf", "--out", link],
        ["predict", run_dir, "--input", data, "--output", f"{link}"],
    ):
        answer = run_cli(*words)
        assert answer.code == 2, (words, answer.err)
        assert str(link) in answer.err
        assert link.is_symlink(), "it was not replaced"


def test_a_file_in_a_folder_that_exists_can_be_written(tmp_path: Path) -> None:
    check_output("--out", tmp_path / "a.csv")
    (tmp_path / "a.csv").touch()
    check_output("--out", tmp_path / "a.csv")


def test_a_missing_folder_and_a_folder_in_place_of_a_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--out .*missing"):
        check_output("--out", tmp_path / "missing" / "a.csv")
    with pytest.raises(SettingsError, match=f"--out .*{tmp_path.name}"):
        check_output("--out", tmp_path)


def test_an_existing_file_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    check_free("--page", path, overwrite=False)
    path.touch()
    check_free("--page", path, overwrite=True)
    with pytest.raises(SettingsError, match=r"--page .*a\.csv.*--overwrite"):
        check_free("--page", path, overwrite=False)
