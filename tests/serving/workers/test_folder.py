"""The private folder and the copies of runs in it."""

from __future__ import annotations

import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.errors import RunError
from lasttoken.serving.workers.folder import copy_runs, private_folder


@pytest.fixture(autouse=True)
def own_temporaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporaries"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_folder_is_this_user_s_alone_and_is_removed(own_temporaries: Path) -> None:
    with private_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.parent == own_temporaries
    assert list(own_temporaries.iterdir()) == []


def test_a_copy_has_what_a_worker_reads(run_dir: Path, blended_run: Path, tmp_path: Path) -> None:
    first, second = copy_runs([run_dir, blended_run], ["one", "two"], tmp_path / "runs-0")
    assert (first.name, second.name) == ("one", "two")
    assert (first / "model.safetensors").read_bytes() == (run_dir / "model.safetensors").read_bytes()
    assert not (first / "ngrams.safetensors").exists()
    assert (second / "ngrams.safetensors").is_file()
    assert not (first / "predictions").exists()


@pytest.mark.parametrize("missing", ["metrics.json", "tokenizer.json", "all"])
def test_a_run_that_is_not_finished_is_rejected_and_nothing_is_left(
    run_dir: Path, tmp_path: Path, missing: str
) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "broken"))
    if missing == "all":
        shutil.rmtree(run)
    else:
        (run / missing).unlink()
    with pytest.raises(RunError, match="broken" if missing == "all" else missing):
        copy_runs([run_dir, run], ["one", "two"], tmp_path / "runs-0")
    assert not (tmp_path / "runs-0").exists()


def test_a_run_that_is_replaced_meanwhile_is_rejected(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = iter([{"a": 1}, {"a": 2}])
    monkeypatch.setattr(RunDir, "read_metrics", lambda _: next(metrics))
    with pytest.raises(RunError, match="replaced"):
        copy_runs([run_dir], ["one"], tmp_path / "runs-0")
