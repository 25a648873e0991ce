"""The script that cuts a GGUF: what is kept is unchanged, tokens are those of the first merges, bytes are equal."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import gguf
import pytest
from gguf_files import tokenizer_keys, write_gguf
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import MERGES, random_gpt
from tokenizers import pre_tokenizers

from lasttoken.backbone.gguf.file import GGUFFile
from lasttoken.backbone.gguf.tokenizer import read_tokenizer
from lasttoken.backbone.tokenizer import END_OF_TEXT, Tokenizer

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "cut_gguf.py"
N_FIRST = 257  # the end of a text, and the bytes


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cut_gguf", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose special token comes first, so that the tokens of merges are the last ones."""
    tokens = tokenizer_keys()["tokenizer.ggml.tokens"]
    keys = {
        "tokenizer.ggml.tokens": [END_OF_TEXT, *tokens[:-1]],
        "tokenizer.ggml.token_type": [3] + [1] * (len(tokens) - 1),
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.bos_token_id": 0,
        "general.name": "Miniature",
        "general.license": "apache-2.0",
        "tokenizer.chat_template": "{{ messages }}",
    }
    path = tmp_path_factory.mktemp("cut") / "whole.gguf"
    return write_gguf(path, random_gpt(n_inner=64, tied=False), "Q4_0", keys=keys)


@pytest.fixture(scope="module")
def small(script: ModuleType, whole: Path) -> Path:
    path = whole.parent / "small.gguf"
    script.cut(whole, path, 2, N_FIRST + 2, "https://example.org/miniature")
    return path


@pytest.fixture(scope="module")
def tokenizer(small: Path) -> Tokenizer:
    return read_tokenizer(GGUFFile(small), END_OF_TEXT)


def test_tensors_are_copied_byte_for_byte(whole: Path, small: Path) -> None:
    before, after = (GGUFFile(path) for path in (whole, small))
    assert {name for name in before.tensors if not name.startswith("blk.2.")} == set(after.tensors)
    for name, stored in after.tensors.items():
        rows = before.blocks(name).raw[: N_FIRST + 2] if stored.shape[0] == N_FIRST + 2 else before.blocks(name).raw
        assert after.blocks(name).raw.tobytes() == rows.tobytes(), name
        assert stored.type == before.tensors[name].type


def test_keys_say_what_it_is_and_where_it_comes_from(script: ModuleType, whole: Path, small: Path) -> None:
    keys = {key: field.contents() for key, field in gguf.GGUFReader(small).fields.items()}
    assert (keys["gpt2.block_count"], keys["gpt2.vocab_size"]) == (2, N_FIRST + 2)
    assert keys["general.license"] == "apache-2.0"
    assert keys["general.source.url"] == "https://example.org/miniature"
    assert script.sha256(whole) in keys["general.description"]
    assert keys["tokenizer.ggml.merges"] == [" ".join(pair) for pair in MERGES[:2]]
    assert len(keys["tokenizer.ggml.tokens"]) == len(keys["tokenizer.ggml.token_type"]) == N_FIRST + 2
    assert "tokenizer.chat_template" not in keys


def test_equal_input_gives_equal_bytes(script: ModuleType, whole: Path, small: Path, tmp_path: Path) -> None:
    script.cut(whole, tmp_path / "again.gguf", 2, N_FIRST + 2, "https://example.org/miniature")
    assert (tmp_path / "again.gguf").read_bytes() == small.read_bytes()


def greedy(text: str, merges: list[tuple[str, str]]) -> list[str]:
    """Byte-pair encoding by its definition: in each word the neighbours of the earliest merge are joined first."""
    tokens = []
    for word, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text):
        parts = list(word)
        for merge in merges:
            place = 0
            while place < len(parts) - 1:
                if (parts[place], parts[place + 1]) == merge:
                    parts[place : place + 2] = ["".join(merge)]
                place += 1
        tokens += parts
    return tokens


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet="then i\n<|>é🙂"))
def test_texts_are_encoded_with_the_first_merges(tokenizer: Tokenizer, text: str) -> None:
    letters = [tokenizer._encoder.id_to_token(token_id) for token_id in tokenizer.encode(text)]
    assert letters == greedy(text, list(MERGES[:2]))
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(("blocks", "tokens"), [(0, N_FIRST), (4, N_FIRST), (1, N_FIRST - 1), (1, 400)])
def test_more_than_there_is_is_rejected(
    script: ModuleType, whole: Path, tmp_path: Path, blocks: int, tokens: int
) -> None:
    with pytest.raises(SystemExit, match=r"--blocks|--tokens"):
        script.cut(whole, tmp_path / "x.gguf", blocks, tokens)
    assert not list(tmp_path.iterdir())


def test_ids_in_another_order_are_rejected(script: ModuleType, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "whole.gguf", random_gpt(n_inner=64), keys={"general.name": "GPT-2's order"})
    with pytest.raises(SystemExit, match="order of the merges"):
        script.cut(path, tmp_path / "x.gguf", 1, 260)
