"""`lasttoken learning-curve`: whether more labels would help, as a table, JSON and a plot."""

from __future__ import annotations

import json
from pathlib import Path

from miniature import messages, run_cli, write_messages


def test_the_learning_curve_by_itself(data: Path, backbone: Path, tmp_path: Path) -> None:
    flags = ["--backbone", backbone, "--epochs", 1]
    answer = run_cli("learning-curve", data, *flags, "--out", tmp_path / "curve.png")
    assert answer.code == 0, answer.err
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "train rows" in answer.out
    assert answer.out.splitlines()[-1].startswith("From ")
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
    curve = json.loads(run_cli("learning-curve", data, *flags, "--json").out)
    assert [point["n_train"] for point in curve["points"]] == sorted({point["n_train"] for point in curve["points"]})


def test_a_plot_that_cannot_be_written_is_rejected_first(data: Path, backbone: Path, tmp_path: Path) -> None:
    existing = write_messages(tmp_path / "there.svg", *messages(2))
    for out, named in (
        (tmp_path / "curve.jpg", "'.svg', '.pdf', '.png'"),
        (existing, "--overwrite"),
        (tmp_path / "missing" / "curve.svg", str(tmp_path / "missing")),
    ):
        answer = run_cli("learning-curve", data, "--backbone", backbone, "--out", out)
        assert answer.code == 2
        assert named in answer.err
