"""The exported tokenizer gives transformers our token ids: special tokens in texts are text, and the frame is there."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from export.conftest import MakeRun
from miniature import N_SMALL_TOKENS, framed_tokenizer, run_cli, small_tokenizer
from transformers import AutoTokenizer

from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.classifier.predict import Predictor

TEXTS = ["a", "win <|endoftext|> now", "<|start|>in the end<|end|>", "see you at six, " * 40, "né 🙂 \x00"]
START, END = N_SMALL_TOKENS, N_SMALL_TOKENS + 1
FRAMED = [((), ()), (("<|start|>",), ()), ((), ("<|end|>",)), (("<|start|>",), ("<|endoftext|>",))]


def export(run: Path, out: Path, kind: str = "hf") -> Path:
    answer = run_cli("export", run, "--to", kind, "--out", out)
    assert answer.code == 0, answer.err
    return out


@pytest.mark.parametrize("truncate", ["tail", "head"])
@pytest.mark.parametrize(("before", "after"), FRAMED, ids=["none", "start", "end", "both"])
def test_transformers_gets_our_token_ids(
    before: Sequence[str], after: Sequence[str], truncate: str, make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run(tokenizer=framed_tokenizer(before, after), truncate=truncate)
    theirs = AutoTokenizer.from_pretrained(export(run, tmp_path / "out"))
    texts = [*TEXTS, ""] if before or after else TEXTS
    encoded = Predictor.load(run, "cpu").encode(texts)
    for row, ids in enumerate(theirs(texts, truncation=True)["input_ids"]):
        assert ids == encoded.ids_of([row]).tolist()
    assert theirs.pad_token_id not in encoded.token_ids


def test_a_recorded_frame_that_the_tokenizer_does_not_have_is_exported(make_run: MakeRun, tmp_path: Path) -> None:
    """And the other way round: runs of earlier versions have no frame, whatever their tokenizer says."""
    for tokenizer, frame in ((framed_tokenizer((), ()), (START,)), (framed_tokenizer(), ())):
        run = make_run(tokenizer=tokenizer, prefix_ids=frame)
        theirs = AutoTokenizer.from_pretrained(export(run, tmp_path / f"out{len(frame)}"))
        assert theirs("the")["input_ids"] == [*frame, *small_tokenizer().encode("the")]


def test_a_prompt_of_many_tokens_that_texts_have_too(make_run: MakeRun, tmp_path: Path) -> None:
    tokenizer = framed_tokenizer((), ("<|end|>",))
    before, behind = tokenizer.encode_with_special(("<|start|>What is in the text? ", "<|end|>\nin the end:"))
    run = make_run(tokenizer=tokenizer, prefix_ids=tuple(before), suffix_ids=(*behind, END), max_length=48)
    theirs = AutoTokenizer.from_pretrained(export(run, tmp_path / "out"))
    encoded = Predictor.load(run, "cpu").encode([*TEXTS, ""])
    assert encoded.n_frame > 16
    for row, ids in enumerate(theirs([*TEXTS, ""], truncation=True)["input_ids"]):
        assert ids == encoded.ids_of([row]).tolist()
    assert theirs.pad_token_id not in encoded.token_ids


def test_padding_needs_a_token_that_does_not_end_texts(make_run: MakeRun, tmp_path: Path) -> None:
    content = json.loads(framed_tokenizer((), ("<|endoftext|>",)).to_json())
    content["added_tokens"] = content["added_tokens"][:1]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    run = make_run(tokenizer=Tokenizer.load(tmp_path))
    answer = run_cli("export", run, "--to", "hf", "--out", tmp_path / "out")
    assert answer.code == 2
    assert "padding" in answer.err


@pytest.mark.parametrize(("before", "after"), FRAMED[1:], ids=["start", "end", "both"])
@pytest.mark.parametrize("read", ["last", "padded-last"])
def test_the_code_beside_an_onnx_file_frames_texts_too(
    before: Sequence[str], after: Sequence[str], read: str, make_run: MakeRun, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = make_run(tokenizer=framed_tokenizer(before, after), read=read)
    monkeypatch.chdir(export(run, tmp_path / "out", "onnx"))
    code = re.search(r"```python\n(.*?)```", Path("README.md").read_text("utf-8"), re.DOTALL)
    assert code
    scope: dict[str, Any] = {}
    exec(code[1], scope)
    texts = [*TEXTS, ""]
    for row, prediction in zip(scope["classify"](texts), Predictor.load(run, "cpu").predict(texts), strict=True):
        assert dict(zip(scope["facts"]["labels"], row.tolist(), strict=True)) == pytest.approx(
            prediction.probs, abs=1e-5
        )
