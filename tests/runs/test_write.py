"""The files of a run: complete, none temporary, none a pickle, and run.toml trains the same run again."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

from miniature import messages, run_cli, write_messages
from run_folders import RUN_FILES, files_below, read_metrics, train


def test_a_run_leaves_exactly_the_documented_files(run_dir: Path) -> None:
    assert files_below(run_dir) == RUN_FILES


def test_a_run_leaves_no_temporary_file_and_no_pickle(run_dir: Path) -> None:
    names = files_below(run_dir)
    assert not [name for name in names if ".tmp-" in name or name.endswith((".bin", ".pt", ".pkl"))]


def test_run_toml_alone_trains_the_same_weights_again(run_dir: Path, tmp_path: Path) -> None:
    answer = run_cli("train", "--config", run_dir / "run.toml", "--out", tmp_path / "again", "--offline")
    assert answer.code == 0, answer.err
    assert (tmp_path / "again/model.safetensors").read_bytes() == (run_dir / "model.safetensors").read_bytes()
    assert read_metrics(tmp_path / "again")["splits"] == read_metrics(run_dir)["splits"]
    recorded = [tomllib.loads((folder / "run.toml").read_text("utf-8")) for folder in (run_dir, tmp_path / "again")]
    for name in ("settings", "machine", "trunk", "versions"):
        assert recorded[0][name] == recorded[1][name]


def test_run_toml_has_the_counts_of_labels_before_undersampling(backbone: Path, tmp_path: Path) -> None:
    texts, labels = messages(90)
    rows = [row for row in range(90) if labels[row] == "ham" or row % 3 == 0]  # 45 ham, 15 spam
    data = write_messages(tmp_path / "rows.csv", [texts[row] for row in rows], [labels[row] for row in rows])
    train(data, backbone, tmp_path / "run", "--balance", "undersample")
    counts = tomllib.loads((tmp_path / "run/run.toml").read_text("utf-8"))["label_counts"]
    assert counts["ham"] > 2 * counts["spam"]
    assert read_metrics(tmp_path / "run")["examples"]["train"] == 2 * counts["spam"]


def test_overwriting_leaves_other_files_alone(run_dir: Path, data: Path, backbone: Path, tmp_path: Path) -> None:
    out = tmp_path / "spam"
    shutil.copytree(run_dir, out)
    (out / "notes.txt").write_text("mine", "utf-8")
    train(data, backbone, out, "--overwrite")
    assert files_below(out) == {*RUN_FILES, "notes.txt"}
