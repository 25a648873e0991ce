"""Predictions of other precisions and of exports, compared with float32 on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from export.conftest import MakeRun
from miniature import run_cli

from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import SettingsError
from lasttoken.export.verify import _compare, _exports, probs_of


def test_differences_are_counted_by_row() -> None:
    expected = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    other = np.array([[0.8, 0.2], [0.6, 0.4], [0.5, 0.5]])
    way = _compare("x", lambda: other, expected)
    assert (way.n, way.flips, way.trouble) == (3, 1, None)
    assert way.largest == pytest.approx(0.2)
    assert way.mean == pytest.approx(0.1)


def test_a_way_that_cannot_be_computed_says_why() -> None:
    def fail() -> np.ndarray:
        raise SettingsError("there is no such device")

    assert _compare("x", fail, np.zeros((1, 2))).trouble == "there is no such device"


def test_graphs_of_an_export_are_verified_by_name(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(n_embd=64)
    assert run_cli("export", run, "--to", "onnx", "--precision", "int8", "--out", tmp_path / "out").code == 0
    ways = {row["name"]: row for row in json.loads(run_cli("verify", run, "--export", tmp_path / "out", "--json").out)}
    assert {row["n"] for row in ways.values()} == {30}
    assert ways["out/model.onnx"]["flips"] == 0
    assert ways["out/model.onnx"]["largest"] < 1e-5
    for name in ("out/model.int8.onnx", "cpu int8", "cpu bfloat16"):
        assert 0 < ways[name]["mean"] <= ways[name]["largest"] < 0.15, name


def test_an_export_for_transformers_is_verified(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    assert run_cli("export", run, "--to", "hf", "--out", tmp_path / "hf").code == 0
    answer = run_cli("verify", run, "--export", tmp_path / "hf")
    assert answer.code == 0, answer.err
    (line,) = (line for line in answer.out.splitlines() if line.startswith("hf "))
    assert line.split()[1:3] == ["30", "0"]
    (tmp_path / "empty").mkdir()
    assert f"--export {tmp_path / 'empty'}" in run_cli("verify", run, "--export", tmp_path / "empty").err
    assert "has no validation split" in run_cli("verify", run, "--split", "validation").err


def test_an_empty_text_is_replaced_for_transformers(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    assert run_cli("export", run, "--to", "hf", "--out", tmp_path / "out").code == 0
    expected = probs_of(Predictor.load(run, "cpu", "float32"), ["", "a"])
    found = dict(_exports(tmp_path / "out", Predictor.load(run, "cpu", "float32"), ["", "a"]))["out"]()
    np.testing.assert_allclose(found, expected, atol=1e-5)
