"""The graph for ONNX Runtime: every reading, ragged batches, 8 bits, and the README that is written beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.conftest import MakeRun
from miniature import run_cli

from lasttoken.classifier.predict import Predictor
from lasttoken.export import onnx
from lasttoken.export.checking import PROBES
from lasttoken.export.onnx import ONNX, QUANTIZED, SHORT_TEXTS, open_session, run_session

TEXTS = ("a", "win a prize now", "", "the end <|endoftext|> is not the end", "see you at six, " * 40)


@pytest.mark.parametrize("causal_mask", [True, False])
@pytest.mark.parametrize("read", ["last", "first", "mean", "last+mean", "padded-last", "padded-mean"])
def test_every_reading_gives_our_logits(read: str, causal_mask: bool, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(read=read, causal_mask=causal_mask, separator="|" if read == "first" else None)
    answer = run_cli("export", run, "--to", "onnx", "--out", tmp_path / "out", "--json")
    assert answer.code == 0, answer.err
    predictor, session = Predictor.load(run, "cpu"), open_session(tmp_path / "out" / ONNX)
    expected = np.exp(predictor.log_probs(predictor.encode(TEXTS)))
    together = run_session(session, predictor, TEXTS)[1]
    np.testing.assert_allclose(together, expected, atol=1e-5)
    for text, row in zip(TEXTS, expected, strict=True):
        np.testing.assert_allclose(run_session(session, predictor, (text,))[1][0], row, atol=1e-5)


@pytest.mark.parametrize("read", ["last", "mean", "last+mean"])
def test_texts_inside_a_frame_give_our_logits(read: str, make_run: MakeRun, tmp_path: Path) -> None:
    """TEXTS has an empty one, of which a mean reads the frame."""
    run = make_run(read=read, prefix_ids=(9, 8, 7), suffix_ids=(6, 5))
    assert run_cli("export", run, "--to", "onnx", "--out", tmp_path / "out").code == 0
    predictor, session = Predictor.load(run, "cpu"), open_session(tmp_path / "out" / ONNX)
    expected = np.exp(predictor.log_probs(predictor.encode(TEXTS)))
    np.testing.assert_allclose(run_session(session, predictor, TEXTS)[1], expected, atol=1e-5)


def test_what_stands_beyond_a_text_is_not_read(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(causal_mask=False, read="mean")
    assert run_cli("export", run, "--to", "onnx", "--out", tmp_path / "out").code == 0
    session = open_session(tmp_path / "out" / ONNX)
    ids, lengths = np.array([[5, 6, 7, 0, 0]]), np.array([3])
    other = np.array([[5, 6, 7, 99, 250]])
    a, b = (session.run(["logits"], {"token_ids": one, "lengths": lengths})[0] for one in (ids, other))
    np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"read": "padded-last"}, {"read": "padded-mean"}, {"truncate": "head"}])
def test_the_readme_s_code_answers_as_we_do(
    changes: dict[str, Any], make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(**changes)
    assert run_cli("export", run, "--to", "onnx", "--out", tmp_path / "out").code == 0
    monkeypatch.chdir(tmp_path / "out")
    code = re.search(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    assert code
    scope: dict[str, Any] = {}
    exec(code[1], scope)
    expected = Predictor.load(run, "cpu").predict(list(TEXTS))
    for row, one in zip(scope["classify"](list(TEXTS)), expected, strict=True):
        assert dict(zip(scope["facts"]["labels"], row.tolist(), strict=True)) == pytest.approx(one.probs, abs=1e-5)


def test_the_int8_variant_and_what_it_changes(make_run: MakeRun, tmp_path: Path) -> None:
    run, out = make_run(n_embd=64), tmp_path / "out"
    answer = run_cli("export", run, "--to", "onnx", "--precision", "int8", "--out", out, "--json")
    assert answer.code == 0, answer.err
    int8 = json.loads(answer.out)["int8"]
    texts = (*PROBES, *SHORT_TEXTS)
    predictor = Predictor.load(run, "cpu", "float32")
    float32, quantized = (
        np.concatenate([run_session(open_session(out / name), predictor, (text,))[1] for text in texts])
        for name in (ONNX, QUANTIZED)
    )
    assert int8["n"] == len(texts)
    assert int8["flips"] == (float32.argmax(1) != quantized.argmax(1)).sum()
    assert int8["largest"] == pytest.approx(np.abs(float32 - quantized).max())
    assert 1e-4 < int8["largest"] < 0.15, "none: the graph is not in 8 bits; much more: something else is wrong"
    readme = (out / "README.md").read_text("utf-8")
    assert f"Of {len(texts)} texts" in readme
    assert f"{int8['largest']:.3f}" in readme
    assert (out / QUANTIZED).stat().st_size < 0.6 * (out / ONNX).stat().st_size


def test_weights_beyond_protobuf_s_limit_go_beside(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "MAX_IN_ONE_FILE", 1000)
    answer = run_cli("export", make_run(), "--to", "onnx", "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert (tmp_path / "out" / f"{ONNX}.data").is_file()


def test_what_is_missing_is_named(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    answer = run_cli("export", make_run(), "--to", "onnx", "--out", tmp_path / "out")
    assert (answer.code, "pip install '.[onnx]'" in answer.err) == (2, True)
