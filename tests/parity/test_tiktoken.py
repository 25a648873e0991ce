"""Our tokens against tiktoken's: GPT-2's own files where they are at hand, and the bundled vocabulary always."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from functools import cache
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import POCKET

from lasttoken.backbone.tokenizer import END_OF_TEXT, Tokenizer

N_FUZZED = 10_000
# GPT-2's split into words, Radford et al. 2019: contractions, letters, digits, other signs, white space.
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PIECES = (
    *("the", " of", "Win", " £1000", "don't", "WE'LL", "'S", "''", "I'm", "naïve", "Straße", "İstanbul", "ﬁn", "ǅ"),
    *("😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️", "©", "™", "…", "—", "“quoted”"),
    *("中文", "日本語テキスト", "한국어", "ไทย", "हिन्दी", "\U00020000", "ｆｕｌｌ　ｗｉｄｔｈ"),
    *("עברית", "العربية", "\u200f", "\u202e", "\u200b", "\u200d", "\ufeff", "e\u0301", "a\u0308\u0323"),
    *("\0", "\x01", "\x07", "\x08", "\x1b[31m", "\x1c", "\x1d", "\x1e", "\x1f", "\x7f", "\x80", "\x85", "\x9f"),
    *(" ", "  ", "\t", "\n", "\r", "\r\n", "\x0b", "\x0c", "\xa0", "\u1680", "\u180e", "\u2003", "\u2028", "\u3000"),
    *(END_OF_TEXT, f" {END_OF_TEXT}", "<|endoftext", "|>", "<|", "½", "²", "Ⅷ", "٣", "१२", "007", "3.14", "1,000"),
    *(
        "!!!",
        "?!",
        "#hashtag",
        "@you",
        "http://a.b/c?d=e&f",
        "_",
        "$",
        "€",
        "\\",
        "%20",
        "\ufffd",
        "\uffff",
        "\U0010ffff",
    ),
)


def fuzzed_texts(n: int = N_FUZZED, seed: int = 6) -> list[str]:
    """Texts of pieces, of characters drawn from all planes, of bytes read as Latin-1, and of long runs."""
    draw = random.Random(seed)

    def character() -> str:
        code = draw.randrange(draw.choice((0x80, 0x250, 0x3000, 0x10000, 0x110000)))
        return chr(code) if not 0xD800 <= code <= 0xDFFF else "\ufffd"

    kinds = (
        lambda: "".join(draw.choices(PIECES, k=draw.randrange(1, 12))),
        lambda: "".join(draw.choice(PIECES) + " " * draw.randrange(3) for _ in range(draw.randrange(1, 8))),
        lambda: "".join(character() for _ in range(draw.randrange(30))),
        lambda: draw.randbytes(draw.randrange(30)).decode("latin-1"),
        lambda: draw.choice(PIECES) + draw.choice(" \n\t\r\xa0\u3000.a0") * draw.randrange(400) + draw.choice(PIECES),
    )
    return [draw.choice(kinds)() for _ in range(n)]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    found = fuzzed_texts()
    together = "".join(found)
    assert len(found) == N_FUZZED
    assert all(piece in together for piece in PIECES)
    return found


def assert_same_tokens(ours: Tokenizer, oracle: tiktoken.Encoding, texts: list[str]) -> None:
    found = ours.encode_many(texts)
    expected = [oracle.encode_ordinary(text) for text in texts]
    wrong = [(text, a, b) for text, a, b in zip(texts, found, expected, strict=True) if a != b]
    assert not wrong, f"{len(wrong)} of {len(texts)} differ, the first is {wrong[0]!r}"
    lost = [text for text, ids in zip(texts, found, strict=True) if ours.decode(ids) != text]
    assert not lost, f"{len(lost)} texts do not come back, the first is {lost[0]!r}"


@pytest.fixture(scope="module")
def official(shared_dir: Path) -> Path:
    """GPT-2's published tokenizer in all three forms."""
    return shared_dir / "gpt2-tokenizer"


@pytest.fixture
def official_oracle(official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tiktoken.Encoding:
    """tiktoken's gpt2, which takes its files from its cache, where they are named by the sha1 of their addresses."""
    for name in ("vocab.bpe", "encoder.json"):
        address = f"https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/{name}"
        shutil.copy(official / name, tmp_path / hashlib.sha1(address.encode()).hexdigest())
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    return tiktoken.get_encoding("gpt2")


def in_form(official: Path, folder: Path, vocab: str, merges: str) -> Tokenizer:
    """The official pair of files under other names."""
    folder.mkdir()
    shutil.copy(official / "encoder.json", folder / vocab)
    shutil.copy(official / "vocab.bpe", folder / merges)
    return Tokenizer.load(folder)


def test_gpt2s_tokens_are_tiktokens_in_each_of_the_three_forms_of_its_files(
    official: Path, official_oracle: tiktoken.Encoding, texts: list[str], tmp_path: Path
) -> None:
    forms = {
        "tokenizer.json": Tokenizer.load(official),
        "vocab.json + merges.txt": in_form(official, tmp_path / "pair", "vocab.json", "merges.txt"),
        "encoder.json + vocab.bpe": in_form(official, tmp_path / "openai", "encoder.json", "vocab.bpe"),
    }
    for tokenizer in forms.values():
        assert_same_tokens(tokenizer, official_oracle, texts)
        assert tokenizer.encode("Do you have time") == [5211, 345, 423, 640]
        assert (tokenizer.n_tokens, tokenizer.end_of_text_id) == (50257, 50256)


def test_every_message_of_the_sms_collection_has_tiktokens_tokens(
    official: Path, official_oracle: tiktoken.Encoding, sms_file: Path
) -> None:
    messages = [line.partition("\t")[2] for line in sms_file.read_text("utf-8").split("\n")]
    assert_same_tokens(Tokenizer.load(official), official_oracle, messages)


def bytes_of(token: str) -> bytes:
    """A token's bytes: the visible Latin-1 characters stand for themselves, the others for 256, 257, and so on."""
    visible = [byte for byte in range(256) if chr(byte).isprintable() and byte != ord(" ")]
    order = visible + [byte for byte in range(256) if byte not in visible]
    signs = [chr(byte) for byte in visible] + [chr(256 + n) for n in range(256 - len(visible))]
    byte_of = dict(zip(signs, order, strict=True))
    return bytes(byte_of[sign] for sign in token)


def test_a_trained_vocabularys_tokens_are_those_tiktoken_makes_of_it(texts: list[str]) -> None:
    folder = Path(POCKET)
    vocab: dict[str, int] = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    ranks = {bytes_of(token): token_id for token, token_id in vocab.items() if token != END_OF_TEXT}
    assert {bytes([byte]) for byte in range(256)} <= ranks.keys()
    special = {END_OF_TEXT: vocab[END_OF_TEXT]}
    oracle = tiktoken.Encoding("pocket", pat_str=WORDS, mergeable_ranks=ranks, special_tokens=special)
    assert_same_tokens(Tokenizer.load(folder), oracle, texts)


@cache
def bundled() -> Tokenizer:
    return Tokenizer.load(Path(POCKET))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.text(), st.sampled_from(PIECES))).map("".join))
def test_decoding_what_was_encoded_gives_the_text(text: str) -> None:
    assert bundled().decode(bundled().encode(text)) == text
