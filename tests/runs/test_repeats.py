"""Other seeds, folds and sizes of train: their metrics stand beside the run's own and do not change them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from run_folders import read_metrics, train

from lasttoken.evaluation.intervals import Difference
from lasttoken.runs.repeats import _would_help, nested_parts


def test_seeds_folds_and_the_learning_curve_stand_beside_the_run(data: Path, backbone: Path, tmp_path: Path) -> None:
    train(data, backbone, tmp_path / "plain")
    answer = train(data, backbone, tmp_path / "run", "--seeds", 2, "--folds", 2, "--learning-curve")
    assert "over 2 seeds: accuracy" in answer.out
    assert "over 2 folds: accuracy" in answer.out
    metrics = read_metrics(tmp_path / "run")
    assert metrics["splits"] == read_metrics(tmp_path / "plain")["splits"]  # the run itself is the same
    first, second = metrics["seeds"]["runs"]
    assert first["accuracy"] == metrics["splits"]["test"]["accuracy"]
    assert second["name"] == "seed 124"
    assert metrics["seeds"]["mean"]["loss"] == pytest.approx((first["loss"] + second["loss"]) / 2)
    assert metrics["folds"]["all_rows"]["n"] == sum(metrics["examples"].values())
    points = metrics["learning_curve"]["points"]
    assert [point["n_train"] for point in points] == sorted(point["n_train"] for point in points)
    assert points[-1]["n_train"] == metrics["examples"]["train"]
    assert points[-1]["accuracy"] == metrics["splits"]["test"]["accuracy"]
    assert (tmp_path / "run/curves/learning-curve.svg").is_file()


def test_the_parts_of_train_are_nested_and_keep_the_labels_shares() -> None:
    label_ids = np.repeat([0, 1], [80, 20])
    parts = nested_parts(label_ids, (0.1, 0.5, 1.0), 3)
    assert [np.bincount(label_ids[part]).tolist() for part in parts] == [[8, 2], [40, 10], [80, 20]]
    assert set(parts[0].tolist()) < set(parts[1].tolist()) < set(parts[2].tolist())


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(0.005, 0.03, "would probably help"), (-0.02, 0.06, "inconclusive"), (-0.004, 0.006, "would probably not help")],
)
def test_a_wide_interval_is_inconclusive(low: float, high: float, says: str) -> None:
    difference = Difference((low + high) / 2, (low, high))
    assert says in _would_help([100, 200], difference)
