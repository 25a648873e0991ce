"""Which spellings are one label, which are not, and what is blank."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lasttoken.core.spelling import is_blank, label_key, match_label, nearly_same, tidy, visible


@pytest.mark.parametrize(
    "spellings",
    [
        ["caf\u00e9", "cafe\u0301"],  # NFC and NFD
        ["kitchen", "kitchen ", "\tkitchen", "kitchen\u00a0", "\u3000kitchen", "kitchen\r"],
        ["my kitchen", "my\u00a0kitchen", "my  kitchen", "my\u2003kitchen"],
        ["spam", "spam\u200b", "\ufeffspam", "sp\u00adam", "sp\u200dam", "\u200espam\u200f", "spam\u2060"],
        ["spam", "\uff53\uff50\uff41\uff4d"],  # full width
        ["0", "0.0", "-0.0", "-0", "0.00"],
        ["1", "1.0", "+1", "1.00", "\uff11"],
        ["-1", "-1.0", "\u22121"],
        ["True", "true", "TRUE", " true"],
        ["False", "false", "FALSE"],
        ["\u2764", "\u2764\ufe0f"],  # a heart as text and as an emoji
    ],
)
def test_spellings_of_one_label(spellings: list[str]) -> None:
    assert len({label_key(label) for label in spellings}) == 1


@pytest.mark.parametrize(
    "labels",
    [
        ["US", "us", "Us"],
        ["1", "01", "001", "1e0", "10", "1.5", "-1"],
        ["3.1", "3.10", "3.100"],
        ["1", "true"],
        ["none", "null", "nan", "NA"],
        ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645"],  # Persian
        ["\u0915\u094d\u0937", "\u0915\u094d\u200d\u0937"],  # Devanagari
        ["\U0001f469\u200d\U0001f467", "\U0001f469\U0001f467"],  # a family, and its members
        ["\U0001f3f4\U000e0067\U000e0062\U000e007f", "\U0001f3f4"],  # a flag, and a black flag
        ["re-sent", "resent", "re sent"],
        ["C", "C++", "C#"],
    ],
)
def test_different_labels(labels: list[str]) -> None:
    assert len({label_key(label) for label in labels}) == len(labels)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
def test_a_key_and_a_tidy_label_are_their_own(label: str) -> None:
    assert label_key(label_key(label)) == label_key(label)
    assert tidy(tidy(label)) == tidy(label)
    assert label_key(tidy(label)) == label_key(label)


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t", "\u200b", "\ufeff \u00ad", "\u00a0\u3000", "\x00", "\u2800", "\u200d"]
)
def test_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", [".", "0", "?", "\u0301", " \u200bx", "\U0001f642", "\u4f60"])
def test_not_blank(text: str) -> None:
    assert not is_blank(text)


def test_match() -> None:
    assert match_label("1.0", ["0", "1"]) == "1"
    assert match_label("1.0", ["1", "1.0"]) == "1.0"  # of an old run, which has both
    assert match_label("1.00", ["1", "1.0"]) is None
    assert match_label("Spam", ["spam"]) is None
    assert nearly_same("Spam", ["ham", "spam"]) == ["spam"]
    assert nearly_same("0.50", ["0.5", "1"]) == ["0.5"]
    assert nearly_same("01", ["1", "0"]) == []


@pytest.mark.parametrize("label", ["cafe\u0301", "spam\u200b", "my\u00a0kitchen", "\u2764\ufe0f", "a\x1b[31m"])
def test_what_cannot_be_seen_is_escaped(label: str) -> None:
    assert "\\" in visible(label)
    assert visible(label).isprintable()
