"""What a reader of chapter 6 looks for: minutes, batches and their shape, and accuracy on the first n batches."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from miniature import messages, run_cli, write_messages
from torch.utils.data import DataLoader, TensorDataset


def test_a_training_reports_its_duration(data: Path, backbone: Path, tmp_path: Path) -> None:
    answer = run_cli("train", data, "--backbone", backbone, "--epochs", 1, "--out", tmp_path / "run")
    said = re.search(r"([\d.]+) minutes.*reading [\d.]+, features [\d.]+, training [\d.]+, judging", answer.err)
    assert said, answer.err
    durations = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))["durations_s"]
    *phases, total = durations.items()
    assert [name for name, _ in phases] == ["reading", "features", "training", "judging", "report"]
    assert total[0] == "total"
    assert 0 < sum(seconds for _, seconds in phases) <= total[1] + 0.01
    assert float(said[1]) == pytest.approx(total[1] / 60, abs=0.006)
    assert "total" in (tmp_path / "run" / "report.html").read_text("utf-8").split("Timing")[-1]


def test_the_book_recipe_reports_the_batches_of_each_split_and_their_shape(backbone: Path, tmp_path: Path) -> None:
    data = write_messages(tmp_path / "data.csv", *messages(100))
    out = tmp_path / "run"
    answer = run_cli("train", data, "--recipe", "book", "--backbone", backbone, "--epochs", 1, "--out", out)
    assert answer.code == 0, answer.err
    rows = json.loads((out / "metrics.json").read_text("utf-8"))["examples"]
    longest = json.loads((out / "config.json").read_text("utf-8"))["lasttoken"]["max_length"]
    size = 8
    assert rows["train"] % size, "an incomplete batch, which the chapter drops"
    expected = (
        f"train {rows['train'] // size}, validation {-(-rows['validation'] // size)}, test {-(-rows['test'] // size)}"
    )
    assert expected in answer.err
    assert re.search(rf"{size} .*× {longest}\b", answer.err)


@pytest.mark.parametrize("seed", [None, 123, 7])
def test_evaluate_reads_the_batches_that_a_loader_of_the_chapter_gives(
    seed: int | None, run_dir: Path, tmp_path: Path
) -> None:
    texts, labels = messages(45)
    labels[:20] = reversed(labels[:20])
    data = write_messages(tmp_path / "data.csv", texts, labels)
    if seed is not None:
        torch.manual_seed(seed)
    loader = DataLoader(
        TensorDataset(torch.arange(45)), batch_size=4, shuffle=seed is not None, drop_last=seed is not None
    )
    rows = [row for number, (batch,) in enumerate(loader) if number < 3 for row in batch.tolist()]
    same = write_messages(tmp_path / "rows.csv", [texts[row] for row in rows], [labels[row] for row in rows])
    flags = ["--batches", 3, "--batch-size", 4, *(["--shuffle-seed", seed] if seed is not None else [])]
    found = json.loads(run_cli("evaluate", run_dir, data, *flags, "--json").out)
    wanted = json.loads(run_cli("evaluate", run_dir, same, "--json").out)
    assert found["n"] == 12
    assert (found["accuracy"], found["confusion"]) == (wanted["accuracy"], wanted["confusion"])
    assert found["loss"] == pytest.approx(wanted["loss"])


def test_more_batches_than_there_are_read_all(run_dir: Path, data: Path) -> None:
    answer = run_cli("evaluate", run_dir, data, "--batches", 1000, "--json")
    assert json.loads(answer.out)["n"] == 60


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--batches", 0], "--batches"),
        (["--batches", 1, "--batch-size", 0], "--batch-size"),
        (["--batch-size", 4], "--batches"),
        (["--shuffle-seed", 1], "--batches"),
        (["--batches", 1, "--shuffle-seed", -1], "--shuffle-seed"),
        (["--batches", 1, "--batch-size", 100, "--shuffle-seed", 1], "100"),
    ],
)
def test_invalid_batches_are_rejected(flags: list[object], named: str, run_dir: Path, data: Path) -> None:
    answer = run_cli("evaluate", run_dir, data, *flags)
    assert answer.code == 2
    assert named in answer.err
