"""The folder for transformers: the same logits, and what it cannot hold refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export.conftest import MakeRun
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import classifier_of, random_gpt, run_cli
from transformers import pipeline

from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import FailedError, SettingsError, StorageError
from lasttoken.evaluation.decision import Decision
from lasttoken.export import hf
from lasttoken.export.folded import fold
from lasttoken.export.verify import _exports, probs_of

TEXTS = ["a", "win a prize now", "the end <|endoftext|> is not the end", "see you at six, " * 40, "ok ok"]


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 10), st.integers(0, 1000), st.floats(0.25, 16, allow_subnormal=False))
def test_bias_and_temperature_are_in_other_weights(n_labels: int, seed: int, temperature: float) -> None:
    classifier = classifier_of(random_gpt(n_embd=32), labels=tuple("abcdefghij"[:n_labels]), seed=seed)
    object.__setattr__(classifier.config, "temperature", temperature)
    with torch.no_grad():
        classifier.head.bias.normal_(generator=torch.Generator().manual_seed(seed))
    folded = fold(classifier)
    normed = torch.randn(7, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ln_f = classifier.decoder.get_parameter("ln_f.bias").double()
    head = classifier.head
    ours = ((normed + ln_f) @ head.weight.double().t() + head.bias.double()) / temperature
    theirs = (normed + folded.final_bias.double()) @ folded.head_weight.double().t()
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


def test_labels_that_depend_on_each_other_are_refused() -> None:
    classifier = classifier_of(random_gpt(), labels=("a", "b"))
    with torch.no_grad():
        classifier.head.weight[1] = classifier.head.weight[0]
        classifier.head.bias.copy_(torch.tensor([0.0, 1.0]))
    with pytest.raises(SettingsError, match=r"cannot be folded .* --to onnx"):
        fold(classifier)


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
        found: Any = classify(TEXTS, truncation=True, top_k=None, batch_size=batch_size)
        for rows, one in zip(found, Predictor.load(run, "cpu").predict(TEXTS), strict=True):
            assert {row["label"]: row["score"] for row in rows} == pytest.approx(one.probs, abs=1e-5)
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'library_name: "transformers"' in card
    assert "truncation=True" in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"read": "mean"}, "reads mean, and transformers only the last token; export --to onnx"),
        ({"read": "first"}, "reads first"),
        ({"read": "padded-last"}, "reads padded-last"),
        ({"causal_mask": False}, "no causal mask"),
        ({"int8_trunk": True}, "trained on a trunk in 8 bits"),
    ],
)
def test_what_transformers_would_compute_otherwise_is_refused(
    changes: dict[str, Any], message: str, make_run: MakeRun, tmp_path: Path
) -> None:
    answer = run_cli("export", make_run(**changes), "--to", "hf", "--out", tmp_path / "out")
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "out").exists()


def test_what_is_lost_is_said(make_run: MakeRun, tmp_path: Path) -> None:
    answer = run_cli("export", make_run(decision=Decision(abstain_below=0.9)), "--to", "hf", "--out", tmp_path / "out")
    assert "the rule of answering is not kept" in answer.err
    assert "differ from ours by" in answer.err
    again = run_cli("export", make_run(), "--to", "hf", "--out", tmp_path / "out")
    assert again.code == 2
    assert "is there already" in again.err


def test_other_logits_leave_nothing(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = hf.logits_of
    monkeypatch.setattr(hf, "logits_of", lambda predictor, texts: real(predictor, texts) + np.float32(0.01))
    with pytest.raises(FailedError, match="transformers computes other logits"):
        hf.export_hf(make_run(), tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_without_transformers_it_says_so(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf, "find_spec", lambda name: None)
    answer = run_cli("export", make_run(), "--to", "hf", "--out", tmp_path / "out")
    assert "transformers is not installed" in answer.err


@pytest.mark.parametrize("changes", [{}, {"separator": "|"}])
def test_an_empty_text_is_said_and_has_a_way(changes: dict[str, Any], make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(**changes)
    (run / "splits" / "test.csv").write_text('text,label\n"",ham\na,ham\n', "utf-8")
    answer = run_cli("export", run, "--to", "hf", "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert hf.ENDING in answer.err
    assert hf.ENDING in (tmp_path / "out" / "README.md").read_text("utf-8")
    classify = pipeline("text-classification", model=str(tmp_path / "out"), device="cpu")
    ours = Predictor.load(run, "cpu").predict(["", "a"])
    for batch_size in (1, 2):
        found: Any = classify(hf.never_empty(["", "a"]), top_k=None, batch_size=batch_size)
        for answers, expected in zip(found, ours, strict=True):
            assert {one["label"]: one["score"] for one in answers} == pytest.approx(expected.probs, abs=1e-5)


def test_verify_says_what_it_gave_in_place_of_empty_texts(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    assert run_cli("export", run, "--to", "hf", "--out", tmp_path / "out").code == 0
    expected = probs_of(Predictor.load(run, "cpu", "float32"), ["", "a"])
    found = dict(_exports(tmp_path / "out", Predictor.load(run, "cpu", "float32"), ["", "a"]))["out"]()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_a_killed_export_left_is_swept_by_the_next(make_run: MakeRun, tmp_path: Path) -> None:
    left = tmp_path / "out.tmp-12-ab12cd34"
    left.mkdir()
    (left / "model.safetensors").write_text("half")
    (tmp_path / "other.tmp-12-ab12cd34").mkdir()
    hf.export_hf(make_run(), tmp_path / "out", check=False)
    assert not left.exists()
    assert (tmp_path / "other.tmp-12-ab12cd34").is_dir()
    assert not (tmp_path / ".out.lock").exists()


def test_an_export_that_somebody_else_puts_there_meanwhile_is_not_called_ours(
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
