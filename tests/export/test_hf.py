"""The folder for transformers gives the same logits; a classifier that it cannot hold is rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.conftest import MakeRun
from miniature import run_cli
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, pipeline

from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import FailedError
from lasttoken.evaluation.decision import Decision
from lasttoken.export import hf
from lasttoken.export.checking import logits_of
from lasttoken.export.hf_tokenizer import ENDING, never_empty

TEXTS = ["a", "win a prize now", "the end <|endoftext|> is not the end", "see you at six, " * 40, "ok ok"]


@pytest.mark.parametrize(
    "changes", [{}, {"train_blocks": "head"}, {"truncate": "head"}, {"separator": "|"}, {"temperature": 0.3}]
)
def test_the_pipeline_gives_our_probabilities(changes: dict[str, Any], make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(**changes)
    answer = run_cli("export", run, "--to", "hf", "--out", tmp_path / "out", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["largest_difference"] < 1e-4
    classify = pipeline("text-classification", model=str(tmp_path / "out"), device="cpu")
    for batch_size in (1, 3):
        scores: Any = classify(TEXTS, truncation=True, top_k=None, batch_size=batch_size)
        for rows, prediction in zip(scores, Predictor.load(run, "cpu").predict(TEXTS), strict=True):
            assert {row["label"]: row["score"] for row in rows} == pytest.approx(prediction.probs, abs=1e-5)
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'library_name: "transformers"' in card
    assert "truncation=True" in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"read": "mean"}, "--read mean"),
        ({"read": "last+mean"}, "--read last+mean"),
        ({"read": "first"}, "--read first"),
        ({"read": "padded-last"}, "--read padded-last"),
        ({"read": "padded-mean"}, "--read padded-mean"),
        ({"causal_mask": False}, "no causal mask"),
        ({"int8_trunk": True}, "--precision int8"),
    ],
)
def test_a_classifier_that_transformers_would_compute_differently_is_rejected(
    changes: dict[str, Any], message: str, make_run: MakeRun, tmp_path: Path
) -> None:
    answer = run_cli("export", make_run(**changes), "--to", "hf", "--out", tmp_path / "out")
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "out").exists()


def test_what_the_format_cannot_hold_is_reported(make_run: MakeRun, tmp_path: Path) -> None:
    answer = run_cli("export", make_run(decision=Decision(abstain_below=0.9)), "--to", "hf", "--out", tmp_path / "out")
    assert "decision rule" in answer.err
    assert "0.9" in answer.err
    assert "logits differ" in answer.err


def test_tensors_have_the_names_that_transformers_saves(make_run: MakeRun, tmp_path: Path) -> None:
    hf.export_hf(make_run(), tmp_path / "hf")
    names = set(load_file(tmp_path / "hf" / "model.safetensors"))
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").save_pretrained(tmp_path / "theirs")
    assert names == set(load_file(tmp_path / "theirs" / "model.safetensors"))


def test_other_logits_leave_no_folder(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = logits_of
    monkeypatch.setattr(hf, "logits_of", lambda predictor, texts: real(predictor, texts) + np.float32(0.01))
    with pytest.raises(FailedError, match="transformers computes other logits"):
        hf.export_hf(make_run(), tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_without_transformers_it_says_so(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf, "find_spec", lambda name: None)
    answer = run_cli("export", make_run(), "--to", "hf", "--out", tmp_path / "out")
    assert "transformers is not installed" in answer.err


@pytest.mark.parametrize("changes", [{}, {"separator": "|"}])
def test_an_empty_text_has_a_replacement_that_predicts_the_same(
    changes: dict[str, Any], make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run(**changes)
    (run / "splits" / "test.csv").write_text('text,label\n"",ham\na,ham\n', "utf-8")
    answer = run_cli("export", run, "--to", "hf", "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert ENDING in answer.err
    assert ENDING in (tmp_path / "out" / "README.md").read_text("utf-8")
    classify = pipeline("text-classification", model=str(tmp_path / "out"), device="cpu")
    predictor = Predictor.load(run, "cpu")
    ours, texts = predictor.predict(["", "a"]), never_empty(["", "a"], predictor.classifier.config)
    for batch_size in (1, 2):
        scores: Any = classify(texts, top_k=None, batch_size=batch_size)
        for rows, expected in zip(scores, ours, strict=True):
            assert {row["label"]: row["score"] for row in rows} == pytest.approx(expected.probs, abs=1e-5)
