"""An export's folder appears whole or not at all, and never in place of something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from export.conftest import MakeRun

from lasttoken.core.errors import SettingsError, StorageError
from lasttoken.export import hf
from lasttoken.export.folder import new_export


def test_the_folder_appears_when_the_block_is_left(tmp_path: Path) -> None:
    with new_export(tmp_path / "out") as folder:
        (folder / "a").write_text("a")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_an_error_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    def export() -> None:
        with new_export(tmp_path / "out") as folder:
            (folder / "a").write_text("a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        export()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_an_existing_path_is_rejected(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
    elif kind == "file":
        out.write_text("")
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match=r"--out .*out already exists"), new_export(out):
        pass


def test_the_next_export_removes_what_a_killed_one_left(make_run: MakeRun, tmp_path: Path) -> None:
    left = tmp_path / "out.tmp-12-ab12cd34"
    left.mkdir()
    (left / "model.safetensors").write_text("half")
    (tmp_path / "other.tmp-12-ab12cd34").mkdir()
    hf.export_hf(make_run(), tmp_path / "out", check=False)
    assert not left.exists()
    assert (tmp_path / "other.tmp-12-ab12cd34").is_dir()
    assert not (tmp_path / ".out.lock").exists()


def test_a_folder_that_appears_meanwhile_is_left_alone(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, write = make_run(), hf._write

    def slowly(*arguments: Any) -> None:
        write(*arguments)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").write_text("")

    monkeypatch.setattr(hf, "_write", slowly)
    with pytest.raises(StorageError, match="out"):
        hf.export_hf(run, tmp_path / "out", check=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["theirs"]
