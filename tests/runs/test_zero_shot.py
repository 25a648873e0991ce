"""The zero-shot try, both ways, with backbones rigged to answer as the test wants."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from miniature import N_SMALL_TOKENS, framed_tokenizer, random_gpt, small_tokenizer

from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.generation import answer_log_probs, generate
from lasttoken.backbone.gpt2.network import GPT2
from lasttoken.backbone.pretrained import Backbone
from lasttoken.core.errors import DataError, SettingsError
from lasttoken.data.files import Examples, read_examples
from lasttoken.runs import zero_shot as asking
from lasttoken.runs.zero_shot import PROMPT, WRITTEN_TOKENS, ask, first_answer, parse_answers

ANSWERS = {"spam": "yes", "ham": "no"}


def backbone_of(gpt: GPT2) -> Backbone:
    return Backbone("rigged", gpt, small_tokenizer(), gpt.config.n_positions, N_SMALL_TOKENS - 1)


def writing(text: str, n_positions: int = 200) -> Backbone:
    """A backbone that writes each token of `text` after the one before it, and its first after every other token.

    One block that adds nothing; each token's embedding is its own direction, and an untied output layer sends the
    direction of a token to the one that follows it.
    """
    ids = small_tokenizer().encode(text)
    gpt = random_gpt(n_embd=N_SMALL_TOKENS + 3, n_layer=1, n_head=1, n_positions=n_positions, tied=False)
    for name, parameter in gpt.named_parameters():
        parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
    gpt.wte.weight[:, :N_SMALL_TOKENS] = torch.eye(N_SMALL_TOKENS)
    assert gpt.lm_head is not None
    following = dict(pairwise(ids))
    for token_id in range(N_SMALL_TOKENS):
        gpt.lm_head.weight[following.get(token_id, ids[0]), token_id] = 1.0
    return backbone_of(gpt)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "asked.csv"
    path.write_text("text,label\nWin now,spam\nsee you,ham\nfree prize,spam\nok,ham\nat six,ham\n", "utf-8")
    return path


@pytest.mark.parametrize(
    ("written", "answers", "n_answered", "n_correct"),
    [
        (" yes", ANSWERS, 5, 2),
        (" no", ANSWERS, 5, 3),
        (" NO", ANSWERS, 5, 3),
        (" knot", ANSWERS, 0, 0),
        (" what", ANSWERS, 0, 0),
        (" no", {"spam": "no", "ham": "yes"}, 5, 2),
    ],
    ids=["yes", "no", "capitals", "part-of-a-word", "nothing", "swapped"],
)
def test_the_written_answer_counts_where_it_is_an_answer_and_its_labels(
    file: Path, written: str, answers: dict[str, str], n_answered: int, n_correct: int
) -> None:
    found = ask(writing(written), read_examples(file), answers)
    assert (found.n_answered, found.n_correct) == (n_answered, n_correct)
    assert type(found.n_correct) is int, "it goes into JSON"
    low, high = found.written_ci95
    assert low <= n_correct / 5 <= high


@pytest.mark.parametrize(("written", "label", "accuracy"), [(" yes", "spam", 0.4), (" no", "ham", 0.6)])
def test_the_log_probabilities_choose_the_answer_that_the_backbone_would_write(
    file: Path, written: str, label: str, accuracy: float
) -> None:
    found = ask(writing(written), read_examples(file), ANSWERS)
    assert found.predicted == [label] * 5
    assert found.scored.accuracy == pytest.approx(accuracy)
    assert found.scored.n == 5


def test_a_backbone_that_reads_the_text_is_scored_by_text(file: Path) -> None:
    """Both ways on random weights: the same as asking text by text, written out."""
    backbone = backbone_of(random_gpt(n_positions=120, seed=10))
    examples = read_examples(file)
    prompt = "Q: {text} A:"
    answer_ids = [backbone.tokenizer.encode(" " + answer) for answer in ("a", "b")]
    expected = []
    for text in examples.texts:
        scores = answer_log_probs(backbone.decoder, backbone.tokenizer.encode(f"Q: {text} A:"), answer_ids)
        expected.append("spam" if scores[0] >= scores[1] else "ham")
    assert set(expected) == {"spam", "ham"}, "one answer to all would show little"
    told: list[int] = []
    found = ask(backbone, examples, {"spam": "a", "ham": "b"}, prompt, told.append)
    assert found.predicted == expected
    assert found.scored.accuracy == sum(a == b for a, b in zip(expected, examples.labels or [], strict=True)) / 5
    assert sum(told) == 5


def test_the_order_of_the_answers_changes_nothing_but_their_order(file: Path) -> None:
    backbone = backbone_of(random_gpt(n_positions=200, seed=5))
    found, turned = (
        ask(backbone, read_examples(file), answers) for answers in (ANSWERS, dict(reversed(ANSWERS.items())))
    )
    assert found.predicted == turned.predicted
    assert (found.n_answered, found.n_correct) == (turned.n_answered, turned.n_correct)


# ---- the question


@pytest.mark.parametrize("text", ["x" * 500, "the " * 300, "😀" * 200, "a 😀 日本 " * 60, " " * 400], ids=len)
def test_a_long_text_is_cut_at_its_end_until_the_question_fits(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbone_of(random_gpt(n_positions=160))
    asked: list[list[int]] = []

    def spied(gpt: GPT2, ids: list[int], answers: list[list[int]]) -> list[float]:
        asked.append(ids)
        return answer_log_probs(gpt, ids, answers)

    monkeypatch.setattr(asking, "answer_log_probs", spied)
    ask(backbone, Examples([text], ["ham"]), ANSWERS)
    question = backbone.tokenizer.decode(asked[0])
    before, after = PROMPT.split("{text}")
    assert question.startswith(before)
    assert question.endswith(after), "the question itself is never cut"
    kept = question.removeprefix(before).removesuffix(after)
    assert text.startswith(kept)
    room = backbone.config.n_positions - WRITTEN_TOKENS
    assert room - 8 <= len(asked[0]) <= room, "no more is cut than has to be"
    generate(backbone.decoder, asked[0], max_new_tokens=WRITTEN_TOKENS)


def test_a_short_text_is_asked_about_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbone_of(random_gpt(n_positions=200))
    asked: list[str] = []

    def spied(gpt: GPT2, ids: list[int], answers: list[list[int]]) -> list[float]:
        asked.extend(backbone.tokenizer.decode(found) for found in (ids, *answers))
        return [0.0, 1.0]

    monkeypatch.setattr(asking, "answer_log_probs", spied)
    ask(backbone, Examples(["Win {text} <|endoftext|>"], ["ham"]), ANSWERS)
    question = "Is the following text 'spam'? Answer with 'yes' or 'no': 'Win {text} <|endoftext|>'"
    assert asked == [question, " yes", " no"]


def test_a_prompt_that_fills_the_context_by_itself_is_rejected() -> None:
    backbone = backbone_of(random_gpt(n_positions=64))
    with pytest.raises(SettingsError, match=r"--prompt takes \d+ tokens.* 64 positions"):
        ask(backbone, Examples(["a text"], ["ham"]), ANSWERS)


def test_a_prompt_without_a_place_for_the_text_is_rejected() -> None:
    with pytest.raises(SettingsError, match=r"--prompt is 'Spam\?'.*\{text\}"):
        ask(writing(" no"), Examples(["a"], ["ham"]), ANSWERS, "Spam?")


@pytest.mark.parametrize(
    ("examples", "sentence"),
    [
        (Examples(["a", "b"], ["ham", "maybe"]), r"--answers .*'maybe'.* row 2 of the examples"),
        (Examples(["a"]), "has no labels|have no labels"),
    ],
    ids=["unknown", "none"],
)
def test_a_label_without_an_answer_is_named(examples: Examples, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        ask(writing(" no"), examples, ANSWERS)


# ---- --answers


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("spam=yes,ham=no", {"spam": "yes", "ham": "no"}),
        (" spam = yes , ham = no ", {"spam": "yes", "ham": "no"}),
        ("b=2,a=1,c=x=y", {"b": "2", "a": "1", "c": "x=y"}),
        ("0=not at all,1=very", {"0": "not at all", "1": "very"}),
    ],
)
def test_answers_are_read_in_their_order(text: str, answers: dict[str, str]) -> None:
    assert list(parse_answers(text).items()) == list(answers.items())


@pytest.mark.parametrize(
    "text", ["", "spam", "spam=yes", "spam=yes,ham", "spam=yes,ham=", "=yes,ham=no", "a=x,b=x", "a=x,a=y", "a=x,,b=y"]
)
def test_answers_of_another_form_are_rejected_with_the_form(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_answers(text)
    assert str(caught.value).startswith(f"--answers is {text!r}; write label=answer pairs")


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (" yes", 0),
        (" No, yes", 1),
        ("'no'", 1),
        (" yes/no", 0),
        (" I know nothing about yesterday", None),
        (" know no", 1),
        ("", None),
        (" yes!no", 0),
        ("\nNO\n", 1),
    ],
)
def test_the_answer_that_stands_first_as_a_word_is_taken(written: str, found: int | None) -> None:
    assert first_answer(written, ["yes", "no"]) == found


def test_signs_in_an_answer_are_signs() -> None:
    assert first_answer(" it is c++ or .*", [".*", "c++"]) == 1


def test_a_question_has_the_start_token_and_no_end_token(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = framed_tokenizer(("<|start|>",), ("<|end|>",))
    gpt = random_gpt(n_positions=120, vocab_size=tokenizer.n_tokens)
    frame = tokenizer.prefix_ids, tokenizer.suffix_ids
    backbone = Backbone("framed", gpt, tokenizer, 120, N_SMALL_TOKENS - 1, *frame)
    asked: list[list[int]] = []

    def answer(decoder: Decoder, ids: list[int], answers: list[list[int]]) -> list[float]:
        asked.append(ids)
        return [0.0, 1.0]

    monkeypatch.setattr(asking, "answer_log_probs", answer)
    ask(backbone, Examples(["word " * 60, "at six"], ["spam", "ham"]), ANSWERS, prompt="Spam? {text}!", write=False)
    for ids in asked:
        assert tuple(ids[:1]) == tokenizer.prefix_ids
        assert tokenizer.decode(ids[1:]).endswith("!")
        assert len(ids) <= 120 - WRITTEN_TOKENS
