"""Which words moved a decision: values that add up, that a planted word tops, in pieces that are the text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import (
    N_SMALL_TOKENS,
    classifier_of,
    framed_tokenizer,
    random_gpt,
    run_cli,
    small_tokenizer,
    write_backbone,
)

from lasttoken import TextClassifier
from lasttoken.classifier.explain import METHODS, WORD, Explanation, Word, _Path, _word_ids, explain, occlusion_passes
from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import SettingsError
from lasttoken.report.words import as_html

TEXT = "the win in 😀 then"
PLANTED = "zq"


def predictor_of(read: str = "last", blocks: str = "1", max_length: int = 48) -> Predictor:
    gpt = random_gpt(n_embd=16, n_positions=max_length, dtype=torch.float64)
    return Predictor(classifier_of(gpt, read=read, train_blocks=blocks, labels=("a", "b", "c")), small_tokenizer())


@pytest.mark.parametrize("read", ["last", "first", "mean", "last+mean", "padded-last", "padded-mean"])
@pytest.mark.parametrize("blocks", ["head", "1", "all"])
def test_integrated_gradients_add_up(read: str, blocks: str) -> None:
    found = explain(predictor_of(read, blocks), TEXT, label="b")
    assert abs(found.total - found.base) > 1e-3
    assert found.gap < 0.05 * max(abs(found.total - found.base), 0.5)
    assert found.gap == pytest.approx(abs(sum(w.value for w in found.words) - (found.total - found.base)))


@pytest.mark.parametrize("read", ["last", "mean", "padded-last"])
def test_more_points_close_the_gap(read: str) -> None:
    predictor = predictor_of(read)
    token_ids = torch.from_numpy(predictor.encode([TEXT]).token_ids)
    path = _Path(predictor, token_ids, len(predictor.tokenizer.encode(TEXT)), 1)
    total, base = path.ends()
    assert abs(path.integrate(128).sum() - (total - base)) < 1e-6


def test_the_gradient_is_that_of_finite_differences() -> None:
    predictor = predictor_of()
    token_ids = torch.from_numpy(predictor.encode([TEXT]).token_ids)
    path = _Path(predictor, token_ids, len(token_ids), 0)
    x = path.text[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(path._log_odds(x).sum(), x)
    way = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        slope = (path._log_odds(x + 1e-6 * way) - path._log_odds(x - 1e-6 * way)) / 2e-6
    torch.testing.assert_close((gradient * way).sum(), slope[0], rtol=1e-6, atol=1e-8)


def test_occlusion_is_the_difference_that_leaving_out_makes() -> None:
    predictor = predictor_of()
    found = explain(predictor, "a bc d", label="c", method="occlusion")

    def log_odds(text: str) -> float:
        p = float(np.exp(predictor.log_probs(predictor.encode([text])))[0, 2])
        return float(np.log(p / (1 - p)))

    expected = [log_odds("a bc d") - log_odds(text) for text in ("bc d", "a d", "a bc ")]
    np.testing.assert_allclose([word.value for word in found.words], expected, atol=1e-5)
    assert found.base == pytest.approx(log_odds(""), abs=1e-5)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_pieces_are_the_text_and_every_token_has_one(text: str) -> None:
    pieces = [found.span() for found in WORD.finditer(text)]
    assert "".join(text[start:end] for start, end in pieces) == text
    predictor = predictor_of(max_length=1000)
    word_ids = _word_ids(predictor, text, pieces)
    assert len(word_ids) == len(predictor.tokenizer.encode(text))
    assert (np.diff(word_ids) >= 0).all()
    assert set(word_ids.tolist()) == set(range(len(pieces)))


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=15, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_can_be_explained(method: str, text: str) -> None:
    found = explain(predictor_of(max_length=32), text, method=method)
    assert "".join(word.text for word in found.words) == text
    assert all(np.isfinite(word.value) for word in found.words)
    assert as_html(found)


@pytest.mark.parametrize("method", METHODS)
def test_what_was_cut_off_has_no_value(method: str) -> None:
    found = explain(predictor_of(max_length=8), "abc def ghi jkl", method=method)
    assert [word.read for word in found.words] == [True, True, False, False]
    assert [word.value for word in found.words[2:]] == [0.0, 0.0]


def test_a_long_text_is_left_out_in_groups() -> None:
    predictor = predictor_of(max_length=700)
    found = explain(predictor, "a b " * 150, method="occlusion")
    assert (len(found.words), found.steps) == (300, 256)


@pytest.mark.parametrize("text", ["", "abc", "abc def ghi", "a b " * 150])
def test_the_passes_of_occlusion_are_known_before(text: str) -> None:
    """The text, the empty text, and one for each word or group of words."""
    assert occlusion_passes(text) == explain(predictor_of(max_length=700), text, method="occlusion").steps + 2


def test_words_are_text_in_html() -> None:
    words = (Word("<script>x</script> ", 0, 19, 0.314, True), Word("& ", 19, 21, -0.1, True))
    found = as_html(Explanation("", "<b>", 0.5, "occlusion", words, 1.0, 0.0, 0.1, 3))
    assert "<script>" not in found
    assert "<b>" not in found
    assert 'title="+0.31"' in found
    assert "underline dotted" in found


def planted(n: int, seed: int) -> tuple[list[str], list[str]]:
    """n texts of five short words; half of them hold the planted word, which alone decides the label."""
    rng = np.random.default_rng(seed)
    texts = []
    for row in range(n):
        words = ["".join(rng.choice(list("abcdef"), 2)) for _ in range(5)]
        if row % 2:
            words[int(rng.integers(5))] = PLANTED
        texts.append(" ".join(words))
    return texts, ["yes" if PLANTED in text else "no" for text in texts]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    gpt = write_backbone(folder / "gpt", random_gpt(n_embd=32, n_layer=2))
    TextClassifier.train(
        *planted(400, 0), backbone=str(gpt), train_blocks="all", epochs=12, learning_rate=3e-3, out=folder / "run"
    )
    return folder / "run"


@pytest.mark.parametrize("method", METHODS)
def test_the_planted_word_moved_the_decision(run: Path, method: str) -> None:
    predictor = Predictor.load(run)
    texts = [text for text in planted(60, 1)[0] if PLANTED in text]
    found = [explain(predictor, text, label="yes", method=method) for text in texts]
    assert np.mean([prediction.label == "yes" for prediction in predictor.predict(texts)]) > 0.9
    tops = [max(item.words, key=lambda word: word.value) for item in found]
    assert np.mean([top.text.strip() == PLANTED for top in tops]) >= 0.9

    rng = np.random.default_rng(2)
    others = [item.words[int(rng.integers(5))] for item in found]
    without = [
        np.mean([p.probs["yes"] for p in predictor.predict([t[: w.start] + t[w.end :] for t, w in pairs])])
        for pairs in (list(zip(texts, tops, strict=True)), list(zip(texts, others, strict=True)))
    ]
    assert without[0] < without[1] - 0.3


def test_the_command_prints_values_and_writes_html(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    plain = run_cli("explain", run, f"ab {PLANTED} <i>", "--html", page)
    assert (plain.code, "(error " in plain.out) == (0, True)
    assert "&lt;i&gt;" in page.read_text("utf-8")
    found = json.loads(run_cli("explain", run, f"ab {PLANTED} cd", "--json", "--label", "no").out)
    assert found["label"] == "no"
    assert [word["text"] for word in found["words"]] == ["ab ", f"{PLANTED} ", "cd"]
    rejected = run_cli("explain", run, "ab", "--label", "maybe")
    assert (rejected.code, "'maybe'" in rejected.err) == (2, True)


def test_eight_bits_have_no_gradient() -> None:
    gpt = random_gpt(n_embd=16)
    predictor = Predictor(classifier_of(gpt), small_tokenizer())
    predictor.classifier.quantize_trunk()
    said: list[str] = []
    assert explain(predictor, TEXT, say=said.append).method == "occlusion"
    assert "8 bits" in said[0]
    with pytest.raises(SettingsError, match="needs gradients"):
        explain(predictor, TEXT, method="integrated-gradients")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("truncate", ["tail", "head"])
def test_the_frame_is_read_and_nothing_is_attributed_to_it(truncate: str, method: str) -> None:
    tokenizer = framed_tokenizer(("<|start|>",), ("<|end|>",))
    gpt = random_gpt(n_embd=16, n_positions=12, vocab_size=tokenizer.n_tokens, dtype=torch.float64)
    classifier = classifier_of(gpt, labels=("a", "b", "c"))
    classifier.config = replace(
        classifier.config,
        truncate=truncate,
        end_of_text_id=N_SMALL_TOKENS - 1,
        prefix_ids=tokenizer.prefix_ids,
        suffix_ids=tokenizer.suffix_ids,
    )
    predictor = Predictor(classifier, tokenizer)
    for text in ("the win in the end of it all", "the", ""):
        found = explain(predictor, text, label="b", method=method)
        assert "".join(word.text for word in found.words) == text
        n_read = min(len(tokenizer.encode(text)), 10)
        assert len(_word_ids(predictor, text, [(word.start, word.end) for word in found.words])) == n_read
        if method == "integrated-gradients":
            assert found.gap < 0.05 * max(abs(found.total - found.base), 0.5)


def test_n_grams_are_explained_by_occlusion_which_sees_all_words(blended_run: Path) -> None:
    predictor, said = Predictor.load(blended_run, "cpu"), list[str]()
    text = "see you then " * 40 + "prize"  # the GPT reads at most 64 tokens
    explanation = explain(predictor, text, label="spam", say=said.append)
    assert explanation.method == "occlusion"
    assert "n-grams" in said[0]
    assert all(word.read for word in explanation.words)
    last = explanation.words[-1]
    assert last.text == "prize"
    assert last.value == max(word.value for word in explanation.words) > 0, "only the n-grams read it"
    assert "".join(word.text for word in explanation.words) == text
    with pytest.raises(SettingsError, match="occlusion"):
        explain(predictor, "prize", method="integrated-gradients")
