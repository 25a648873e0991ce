"""Tokens of each family's kind of tokenizer against transformers', on fuzzed texts.

    python benchmarks/tokens.py [--texts 10000] [--corpus FOLDER]

A tokenizer with the published components is trained for each family (tests/tokenizer_families.py), on the first
characters of each `.txt.gz` in the corpus if there is one, and written as tokenizer.json. `PreTrainedTokenizerFast`
loads the file as it is; the last column is the class of transformers that AutoTokenizer takes for the repositories of
this family, which may build another pipeline than the file asks for: GPT2Tokenizer leaves out SmolLM2's splitting of
digits, and LlamaTokenizer puts no space before a text that starts with one. "not back" are texts that decoding does not
give back, because NFC composes characters (Qwen, Ettin), or a space at the start or a "▁" is lost (Mistral, Gemma).
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from lasttoken.backbone.tokenizer import Tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from parity.test_tokenizers_transformers import as_in_file, texts_for
from tokenizer_families import FAMILIES, TEXTS, Published, write_tokenizer

N_CHARACTERS = 20_000  # of each file of the corpus
N_MERGES = 3_000
CLASSES = {  # tokenizer_class in the published tokenizer_config.json
    **dict.fromkeys(("gpt2", "smollm2", "olmo2", "granite"), "GPT2Tokenizer"),
    **dict.fromkeys(("llama2", "mistral"), "LlamaTokenizer"),
    **dict.fromkeys(("qwen2", "qwen3-embedding"), "Qwen2Tokenizer"),
    "gemma3": "GemmaTokenizer",
}


def corpus_texts(folder: Path) -> list[str]:
    """Lines of the corpus, or the texts of the tests without one."""
    lines = list(TEXTS)
    for path in sorted(folder.glob("*.txt.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines += file.read(N_CHARACTERS).splitlines()
    return lines


def compare(name: str, published: Published, corpus: list[str], n_texts: int, folder: Path) -> list[Any]:
    """A row of the table: differences without and with special tokens, texts not given back, and by the class."""
    write_tokenizer(folder, published, corpus, N_MERGES)
    ours = Tokenizer.load(folder, json.loads((folder / "config.json").read_text("utf-8"))["eos_token_id"])
    theirs: Any = as_in_file(folder)
    texts = texts_for(published, n_texts)
    own = ours.encode_many(texts)
    framed = [[*ours.prefix_ids, *ids, *ours.suffix_ids] for ids in own]
    plain, whole = theirs(texts, add_special_tokens=False)["input_ids"], theirs(texts)["input_ids"]
    not_back = sum(ours.decode(ids) != text for ids, text in zip(own, texts, strict=True))
    return [name, len(texts), ours.n_tokens, n_different(own, plain), n_different(framed, whole), not_back,
            by_class(name, folder, texts, own)]  # fmt: skip


def by_class(name: str, folder: Path, texts: list[str], own: list[list[int]]) -> str:
    """The differences to the class that AutoTokenizer takes, and its name."""
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text("utf-8")) | {"tokenizer_class": CLASSES.get(name, "PreTrainedTokenizerFast")}
    file.write_text(json.dumps(settings), "utf-8")
    theirs = AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    n = n_different(own, theirs(texts, add_special_tokens=False)["input_ids"])
    return f"{n} ({type(theirs).__name__})"


def n_different(first: list[list[int]], second: list[list[int]]) -> int:
    """How many texts have other tokens."""
    return sum(a != b for a, b in zip(first, second, strict=True))


def main() -> None:
    """Print one row for each family."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    corpus = corpus_texts(arguments.corpus)
    row = "{:<16} {:>7} {:>7} {:>8} {:>8} {:>9}  {}"
    print(row.format("family", "texts", "tokens", "without", "with", "not back", "by AutoTokenizer's class"))
    started = time.perf_counter()
    for name, published in FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            print(row.format(*compare(name, published, corpus, arguments.texts, Path(folder))), flush=True)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
