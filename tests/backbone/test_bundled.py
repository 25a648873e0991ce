"""The backbone in the package, with its real weights: loads, trains, is exported, and is not asked to write."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from miniature import POCKET, messages, run_cli

from lasttoken.backbone.pretrained import check_writes, load_backbone, load_tokenizer, locate_backbone
from lasttoken.classifier.predict import Predictor
from lasttoken.core.default_backbone import BUNDLED, VARIABLE, default_backbone
from lasttoken.core.errors import BackboneError
from lasttoken.core.resolve import resolve
from lasttoken.estimator import TextClassifier
from lasttoken.export.onnx import ONNX, open_session, run_session


def test_it_is_the_default_and_needs_no_network(bundled_default: str) -> None:
    assert resolve().backbone == default_backbone() == bundled_default
    backbone = load_backbone(bundled_default, offline=True, depth=2)
    assert (backbone.config.n_layer, backbone.max_length, backbone.tokenizer.n_tokens) == (2, 8192, 18_432)
    assert backbone.prompt is not None
    text = "Call 0800 now: you've won £2,000 – naïve 🙂"
    assert backbone.tokenizer.decode(backbone.tokenizer.encode(text)) == text


def test_its_tokenizer_splits_digits_one_by_one(bundled_default: str) -> None:
    tokenizer, _ = load_tokenizer(bundled_default)
    token_ids = tokenizer.encode("Call 0800")
    assert [tokenizer.decode([token_id]) for token_id in token_ids] == ["Call", " ", "0", "8", "0", "0"]


def test_a_truncated_file_is_one_sentence(
    bundled_default: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = locate_backbone(bundled_default)
    (tmp_path / "bundled").mkdir()
    target = tmp_path / "bundled" / source.name
    monkeypatch.setattr("lasttoken.backbone.pretrained.resources.files", lambda package: tmp_path)
    with pytest.raises(BackboneError, match=r"has 0 bytes and not 47,396,384; install lasttoken again"):
        load_backbone(bundled_default)
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(BackboneError, match=r"has 1,000 bytes"):
        load_backbone(bundled_default)


@pytest.mark.parametrize(
    "command", [("generate", BUNDLED, "Every effort"), ("ask", BUNDLED, "D", "--answers", "spam=yes,ham=no")]
)
def test_it_is_not_asked_to_write(command: tuple[str, ...], bundled_default: str, data: Path) -> None:
    answer = run_cli(*[str(data) if part == "D" else part for part in command])
    assert answer.code == 2
    for fact in (BUNDLED, "first 16 of 30 blocks", "smollm2-135m-q4"):
        assert fact in answer.err
    assert len(answer.err.splitlines()) == 1


def test_it_is_not_asked_for_a_baseline(bundled_default: str, data: Path, tmp_path: Path) -> None:
    answer = run_cli("train", data, "--out", tmp_path / "run", "--answers", "spam=yes,ham=no")
    assert answer.code == 2
    assert "cannot write text" in answer.err
    assert not (tmp_path / "run").exists()


def test_a_whole_model_may_write() -> None:
    check_writes(POCKET)


@pytest.mark.slow
def test_it_trains_on_the_demo_predicts_and_is_exported(bundled_default: str, tmp_path: Path) -> None:
    run, data = tmp_path / "run", tmp_path / "messages.csv"
    header, *rows = (files("lasttoken") / "demo" / "messages.csv").read_text("utf-8").splitlines()
    data.write_text("\n".join([header, *rows[::4]]), "utf-8")
    flags = ("--method", "linear", "--depth", 6, "--read", "last+mean", "--max-length", 64, "--offline")
    answer = run_cli("train", data, *flags, "--out", run)
    assert answer.code == 0, answer.err
    assert json.loads((run / "metrics.json").read_text("utf-8"))["splits"]["train"]["accuracy"] > 0.7
    assert (run / "model.safetensors").stat().st_size < 30_000_000, "the trunk stays quantized"
    texts = messages(8)[0]
    answers = TextClassifier.load(run).predict(texts)
    exported = run_cli("export", run, "--to", "onnx", "--out", tmp_path / "onnx")
    assert exported.code == 0, exported.err
    probs = run_session(open_session(tmp_path / "onnx" / ONNX), Predictor.load(run, "cpu", "float32"), tuple(texts))[1]
    np.testing.assert_allclose(probs.max(1), [answer.score for answer in answers], atol=1e-4)


# ---- the default from the environment


def test_the_environment_names_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "gpt2")
    assert resolve().backbone == "gpt2"
    assert resolve("book").backbone == "gpt2"
    assert resolve("default", {"backbone": "gpt2-xl"}).backbone == "gpt2-xl", "a flag wins"
    monkeypatch.setenv(VARIABLE, "")
    assert resolve().backbone == BUNDLED


def test_a_wrong_name_in_the_environment_is_traced_to_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "gtp2")
    for command in (["train", data, "--out", "x"], ["audit", data]):
        answer = run_cli(*command)
        assert answer.code == 2
        assert "'gtp2'" in answer.err
        assert VARIABLE in answer.err
    with pytest.raises(BackboneError) as caught:
        locate_backbone("gpt3")
    assert VARIABLE not in str(caught.value)
