"""Exports hold the GPT of a classifier with n-grams, with its own temperature, decision rule and metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from miniature import run_cli
from run_folders import read_metrics

from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import SettingsError
from lasttoken.export.gpt_part import card_of_gpt, load_gpt_part, metrics_of_gpt
from lasttoken.export.hf import export_hf
from lasttoken.export.onnx import ONNX, open_session, run_session
from lasttoken.export.verify import verify

TEXTS = ("Win prize number 3 now", "see you at six", "")


@pytest.mark.parametrize("to", ["hf", "onnx"])
def test_an_export_has_to_be_asked_for_the_gpt_alone(to: str, blended_run: Path, tmp_path: Path) -> None:
    answer = run_cli("export", blended_run, "--to", to, "--out", tmp_path / "out")
    assert answer.code == 2
    assert "--without-ngrams" in answer.err
    assert not (tmp_path / "out").exists()


def test_the_gpt_alone_has_its_own_temperature_and_rule(blended_run: Path) -> None:
    whole, part = Predictor.load(blended_run, "cpu", "float32"), load_gpt_part(blended_run, without_ngrams=True)
    blend = whole.classifier.config.blend
    assert blend is not None
    assert part.classifier.config.temperature == blend.gpt_temperature
    assert part.classifier.config.decision == blend.gpt_decision
    encoded = part.encode(TEXTS)
    np.testing.assert_array_equal(part.logits(encoded), whole._logits(encoded, whole.device))


def test_a_run_without_n_grams_is_loaded_as_it_is(run_dir: Path) -> None:
    part, whole = load_gpt_part(run_dir, without_ngrams=False), Predictor.load(run_dir, "cpu", "float32")
    assert part.classifier.config == whole.classifier.config
    assert metrics_of_gpt(run_dir) is None


def test_an_onnx_graph_computes_the_gpt_and_verify_compares_it_with_the_gpt(blended_run: Path, tmp_path: Path) -> None:
    answer = run_cli("export", blended_run, "--to", "onnx", "--out", tmp_path / "out", "--without-ngrams")
    assert answer.code == 0, answer.err
    part = load_gpt_part(blended_run, without_ngrams=True)
    probs = run_session(open_session(tmp_path / "out" / ONNX), part, TEXTS)[1]
    np.testing.assert_allclose(probs, np.exp(part.log_probs(part.encode(TEXTS))), atol=1e-5)
    ways = {way.name: way for way in verify(blended_run, "test", [tmp_path / "out"])}
    assert ways[f"out/{ONNX}"].largest < 1e-4


def test_the_card_of_an_export_has_the_metrics_of_the_gpt(blended_run: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--without-ngrams"):
        export_hf(blended_run, tmp_path / "hf")
    export_hf(blended_run, tmp_path / "hf", without_ngrams=True)
    card = (tmp_path / "hf" / "README.md").read_text("utf-8")
    line = re.search(r"(?m)^model-index: (.*)$", card)
    assert line
    (result,) = json.loads(line[1])[0]["results"]
    recorded = read_metrics(blended_run)["ngrams"]["gpt_alone"]["splits"]["test"]
    for metric in result["metrics"]:
        assert metric["value"] == recorded[metric["type"]]
    assert "## n-grams" not in card
    assert "the classifier's GPT alone" in card
    assert "of this part alone" in card


def test_other_sections_of_a_card_stay() -> None:
    card = "# A\n\n## Data\n\nrows\n\n## Metrics\n\nold\n\n## Decision rule\n\nthe most probable label.\n"
    changed = card_of_gpt(card, {"test": {"n": 3, "accuracy": 0.5}})
    assert "old" not in changed
    assert changed.startswith("# A\n\n## Data\n\nrows\n\n## Metrics\n")
    assert changed.endswith("## Decision rule\n\nthe most probable label.\n")
