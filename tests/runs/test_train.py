"""A training from data to a finished run: its history, and what happens to an earlier run in its folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from miniature import plain_settings, run_cli
from run_folders import read_metrics

from lasttoken.core.errors import SettingsError, StorageError
from lasttoken.data.files import Examples
from lasttoken.runs.train import TrainingRequest, train_run


def test_history_has_a_line_for_each_evaluation_and_marks_the_kept_step(run_dir: Path) -> None:
    lines = [json.loads(line) for line in (run_dir / "history.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert lines[0]["step"] == 0
    assert lines[-1]["epoch"] == 3
    assert [line["step"] for line in lines if line["best"]] == [read_metrics(run_dir)["kept_step"]]


def test_a_finished_run_survives_a_training_that_cannot_begin(
    run_dir: Path, data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run_dir, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def failing(*_: object, **__: object) -> None:
        raise StorageError("no room for features")

    monkeypatch.setattr("lasttoken.runs.session.features_of", failing)
    answer = run_cli("train", data, "--backbone", backbone, "--out", out, "--overwrite", "--offline")
    assert answer.code == 1
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_resume_without_a_saved_state_starts_over_if_the_settings_are_the_same(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    shutil.copytree(run_dir, out)
    for name in ("metrics.json", "model.safetensors"):
        (out / name).unlink()
    other = run_cli("train", "--resume", "--out", out, "--train-blocks", "head")
    assert other.code == 2
    assert "settings" in other.err
    assert not (out / "model.safetensors").exists()
    again = run_cli("train", "--resume", "--out", out)
    assert again.code == 0, again.err
    assert "--checkpoint-every" in again.err
    assert (out / "model.safetensors").read_bytes() == (run_dir / "model.safetensors").read_bytes()


def test_a_run_without_a_folder_has_the_same_metrics_and_writes_nothing(
    data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = plain_settings(backbone=str(backbone), epochs=1, no_cache=True)
    memory = train_run(TrainingRequest(data=data, settings=settings, offline=True))
    assert list(tmp_path.iterdir()) == []
    folder = train_run(TrainingRequest(data=data, settings=settings, out=tmp_path / "run", offline=True))
    assert memory.out is None
    assert memory.metrics["splits"] == folder.metrics["splits"] == read_metrics(tmp_path / "run")["splits"]


def test_a_file_of_train_cannot_be_mixed_with_examples_of_validation(data: Path, backbone: Path) -> None:
    request = TrainingRequest(
        data=data, settings=plain_settings(backbone=str(backbone)), validation=Examples(["a", "b"], ["ham", "spam"])
    )
    with pytest.raises(SettingsError, match="validation"):
        train_run(request)
    with pytest.raises(SettingsError, match="nothing to resume"):
        train_run(TrainingRequest(data=None, settings=plain_settings(backbone=str(backbone))))
