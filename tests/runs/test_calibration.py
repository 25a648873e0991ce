"""A finished training is calibrated on validation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniature import messages, run_cli, write_messages
from numpy.typing import NDArray
from run_folders import read_metrics, rows_of, train
from scipy.special import log_softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from lasttoken.classifier.predict import Predictor
from lasttoken.evaluation import linear_models
from lasttoken.evaluation.tasks.single_label import SingleLabel
from lasttoken.evaluation.tasks.task import Task


def test_the_temperature_is_fitted_on_validation_and_stays_one_without_calibration(
    data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_rows: list[int] = []

    def fitted(self: Task, logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
        n_rows.append(len(truth))
        return 2.0

    monkeypatch.setattr(SingleLabel, "fit_temperature", fitted)
    for name, flags, temperature in (("a", (), 2.0), ("b", ("--no-calibrate",), 1.0)):
        train(data, backbone, tmp_path / name, *flags)
        metrics = read_metrics(tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text("utf-8"))["lasttoken"]
        assert metrics["calibration"]["temperature"] == config["temperature"] == temperature
        assert metrics["calibration"]["split"] == "test"
    assert n_rows == [metrics["examples"]["validation"]]


def config_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "config.json").read_text("utf-8"))["lasttoken"]
    return content


def test_a_blend_is_saved_measured_and_predicts_what_was_measured(blended_run: Path) -> None:
    metrics, config = read_metrics(blended_run), config_of(blended_run)
    ngrams = metrics["ngrams"]
    assert ngrams["kept"]
    assert config["blend"]["kind"] == ngrams["kind"] == "words"
    assert config["blend"]["weight"] == ngrams["weight"]
    assert ngrams["gpt_alone"]["temperature"] == config["blend"]["gpt_temperature"]
    assert ngrams["in_words"] in metrics["verdict"]["sentences"][0]
    assert ngrams["in_words"] in (blended_run / "report.html").read_text("utf-8")
    assert ngrams["in_words"] in (blended_run / "README.md").read_text("utf-8")
    predictor = Predictor.load(blended_run, "cpu")
    for split in ("validation", "test"):
        rows = rows_of(blended_run / "splits" / f"{split}.csv")
        texts, truth = [row["text"] for row in rows], np.array([predictor.labels.index(row["label"]) for row in rows])
        log_probs = predictor.log_probs(predictor.encode(texts))
        loss = -log_probs[np.arange(len(rows)), truth].mean()
        assert loss == pytest.approx(metrics["splits"][split]["loss"], abs=1e-4)
        predictor.classifier.blended = lambda logits, texts: logits  # type: ignore[method-assign]
        alone = ngrams["gpt_alone"]
        gpt = predictor.logits(predictor.encode(texts)) / np.float32(alone["temperature"])
        gpt_loss = -predictor.classifier.config.task.log_probs(gpt)[np.arange(len(rows)), truth].mean()
        assert gpt_loss == pytest.approx(alone["splits"][split]["loss"], abs=1e-4)
        del predictor.classifier.blended


def test_a_blend_adds_log_probabilities_of_scikit_learn_s_pipeline(blended_run: Path) -> None:
    """The whole way, against the sum that its metrics.json states, computed by scikit-learn and the GPT."""
    rows = {name: rows_of(blended_run / "splits" / f"{name}.csv") for name in ("train", "test")}
    texts = {name: [row["text"] for row in split] for name, split in rows.items()}
    predictor = Predictor.load(blended_run, "cpu")
    truth = [predictor.labels.index(row["label"]) for row in rows["train"]]
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", sublinear_tf=True),
        LogisticRegression(C=30.0, max_iter=300),
    ).fit(texts["train"], truth)
    config = predictor.classifier.config
    assert config.blend is not None
    gpt = predictor._logits(predictor.encode(texts["test"]), predictor.device)
    weight = config.blend.weight
    mixed = (1 - weight) * gpt / config.blend.gpt_temperature + weight * pipeline.predict_log_proba(texts["test"])
    expected = log_softmax(mixed / config.temperature, axis=1)
    ours = predictor.log_probs(predictor.encode(texts["test"]))
    np.testing.assert_allclose(np.exp(ours), np.exp(expected), atol=2e-3)


def test_no_model_is_fitted_twice(data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[int] = []
    fitted = linear_models.fitted_features

    def counted(vectorizer: Any, texts: list[str]) -> Any:
        fits.append(len(texts))
        return fitted(vectorizer, texts)

    monkeypatch.setattr("lasttoken.evaluation.baselines.fitted_features", counted)
    texts, labels = messages(240)
    many = write_messages(tmp_path / "many.csv", texts, labels)
    train(many, backbone, tmp_path / "tail", "--ngrams", "auto")
    assert read_metrics(tmp_path / "tail")["ngrams"]["kept"]
    assert len(fits) == 3, "length, words, characters"
    fits.clear()
    answer = run_cli("train", many, "--backbone", backbone, "--out", tmp_path / "linear", "--method", "linear")
    assert answer.code == 0, answer.err
    record = read_metrics(tmp_path / "linear")["ngrams"]
    assert record["held_out"] == "folds of train and validation"
    n_all = max(fits)
    assert fits.count(n_all) == 3, "fitted to all rows once each"
    assert len(fits) == 3 + 2 * 5


def test_a_blend_is_the_same_after_a_kill_and_with_further_trainings(
    blended_run: Path, backbone: Path, tmp_path: Path
) -> None:
    flags = ("--ngrams", "words", "--seeds", 2)
    data = blended_run.parent / "messages.csv"
    run = tmp_path / "run"
    train(data, backbone, run, *flags)
    before = {name: (run / name).read_bytes() for name in ("ngrams.json", "ngrams.safetensors", "config.json")}
    seeds = read_metrics(run)["seeds"]["runs"]
    assert seeds[0]["accuracy"] >= 0.9
    assert seeds[1]["accuracy"] >= 0.9, "the training with another seed contains n-grams too"
    for name in ("metrics.json", *before):
        (run / name).unlink()
    answer = run_cli("train", "--resume", "--out", run)
    assert answer.code == 0, answer.err
    assert {name: (run / name).read_bytes() for name in before} == before


def test_without_n_grams_a_run_has_no_trace_of_them(run_dir: Path) -> None:
    assert "ngrams" not in read_metrics(run_dir)
    assert config_of(run_dir)["blend"] is None
    assert not list(run_dir.glob("ngrams.*"))


def test_another_training_into_the_folder_removes_the_n_grams(
    blended_run: Path, data: Path, backbone: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(blended_run, run)
    train(data, backbone, run, "--overwrite")
    assert not list(run.glob("ngrams.*"))


def test_several_labels_are_blended(backbone: Path, tmp_path: Path) -> None:
    texts, labels = messages(240)
    cells = [f"{label}|even" if at % 4 < 2 else label for at, label in enumerate(labels)]
    data = write_messages(tmp_path / "several.csv", texts, cells)
    train(data, backbone, tmp_path / "run", "--multi-label", "--ngrams", "auto")
    metrics = read_metrics(tmp_path / "run")
    assert metrics["ngrams"]["kept"]
    evaluated = run_cli("evaluate", tmp_path / "run", tmp_path / "run" / "splits" / "test.csv", "--json")
    assert evaluated.code == 0, evaluated.err
    assert json.loads(evaluated.out)["micro_f1"] == pytest.approx(metrics["splits"]["test"]["micro_f1"])


def test_n_grams_that_know_the_rows_of_train_by_heart_are_no_warning(backbone: Path, tmp_path: Path) -> None:
    texts, labels = messages(300)
    noisy = [{"spam": "ham", "ham": "spam"}[label] if at % 7 == 0 else label for at, label in enumerate(labels)]
    data = write_messages(tmp_path / "noisy.csv", texts, noisy)
    train(data, backbone, tmp_path / "run", "--ngrams", "words", "--learning-rate", 1e-9)
    metrics = read_metrics(tmp_path / "run")
    assert metrics["ngrams"]["kept"]
    assert metrics["splits"]["train"]["accuracy"] > metrics["splits"]["validation"]["accuracy"] + 0.05
    assert not [warning for warning in metrics["warnings"] if "memorized" in warning]
