"""Make a smaller GGUF of the first blocks and the first tokens of one, without dequantizing or training anything.

    --blocks 16    blocks 0 to 15, their tensors copied byte for byte
    --tokens 20000 special tokens, bytes and the tokens of the first merges: rows of the embedding copied byte for byte

Token ids have to be in the order of the merges, as in SmolLM2 and GPT-2: then the first merges need no later token,
and a text is encoded as byte-pair encoding with those merges encodes it. Equal input gives equal bytes. If blocks are
left out, the key lasttoken.cut_from_blocks says how many there were: such a model cannot write text.

    python scripts/cut_gguf.py SmolLM2-135M-Instruct.Q4_1.gguf small.gguf --blocks 16 --tokens 20000 \\
        --source-url https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct
"""

from __future__ import annotations

import argparse
import hashlib
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from lasttoken.backbone.gguf.reading import CUT_FROM_BLOCKS
from lasttoken.core.storage import new_file

BY_TOKEN = ("token_embd.weight", "output.weight")  # a row for each token
DROPPED = re.compile(r"GGUF\.|general\.architecture$|general\.(name|description|source\.)|tokenizer\.chat_template")
BLOCK = re.compile(r"^blk\.(\d+)\.")
NORMAL = 1  # of tokenizer.ggml.token_type


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--blocks", type=int, required=True, help="blocks that are kept, from the first")
    parser.add_argument("--tokens", type=int, required=True, help="tokens that are kept, from id 0")
    parser.add_argument("--source-url", default="", help="page of the original model, written into the file")
    arguments = parser.parse_args()
    cut(arguments.input, arguments.output, arguments.blocks, arguments.tokens, arguments.source_url)
    print(f"{arguments.output}: {arguments.output.stat().st_size:,} bytes, sha256 {sha256(arguments.output)}")


def cut(source: Path, target: Path, n_blocks: int, n_tokens: int, source_url: str = "") -> None:
    """Write the first blocks and tokens of a GGUF to another file, whole or not at all.

    Raises:
        SystemExit: there are fewer blocks or tokens, or the ids are not in the order of the merges.
    """
    reader = gguf.GGUFReader(source)
    architecture = _contents(reader, "general.architecture")
    n_all = _contents(reader, f"{architecture}.block_count")
    if not 1 <= n_blocks <= n_all:
        raise SystemExit(f"--blocks is {n_blocks}, and {source} has {n_all}")
    n_merges = _kept_merges(reader, n_tokens)
    changed = {f"{architecture}.block_count": n_blocks, f"{architecture}.vocab_size": n_tokens}
    if n_blocks < n_all:
        original = reader.get_field(CUT_FROM_BLOCKS)  # set if the source was cut already
        changed[CUT_FROM_BLOCKS] = n_all if original is None else original.contents()
    lengths = {"tokens": n_tokens, "token_type": n_tokens, "scores": n_tokens, "merges": n_merges}
    with new_file(target) as temporary:
        writer = gguf.GGUFWriter(temporary, architecture)
        _write_origin(writer, reader, source, n_blocks, n_tokens, source_url)
        for key, field in reader.fields.items():
            if key in changed or DROPPED.match(key):
                continue
            length = lengths.get(key.removeprefix("tokenizer.ggml."))
            value = field.contents() if length is None else field.contents()[:length]
            writer.add_key_value(key, value, field.types[0], field.types[-1] if len(field.types) > 1 else None)
        for key, number in changed.items():
            writer.add_uint32(key, number)
        for tensor in reader.tensors:
            match = BLOCK.match(tensor.name)
            if match is None or int(match[1]) < n_blocks:
                rows: NDArray[Any] = tensor.data[:n_tokens] if tensor.name in BY_TOKEN else tensor.data
                writer.add_tensor(tensor.name, np.array(rows), raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _kept_merges(reader: gguf.GGUFReader, n_tokens: int) -> int:
    """The number of merges whose tokens are among the first `n_tokens`, after the order of the ids is checked."""
    tokens, merges = (_contents(reader, f"tokenizer.ggml.{name}") for name in ("tokens", "merges"))
    n_first = len(tokens) - len(merges)  # special tokens and bytes
    if not n_first <= n_tokens <= len(tokens):
        raise SystemExit(f"--tokens is {n_tokens}; it must be from {n_first} to {len(tokens)}")
    if [merge.replace(" ", "", 1) for merge in merges] != tokens[n_first:]:
        raise SystemExit(
            "the ids of the tokens are not in the order of the merges, so the first ones cannot be cut out"
        )
    types = _contents(reader, "tokenizer.ggml.token_type")
    if any(kind != NORMAL for kind in types[n_first:]):
        raise SystemExit("there are special tokens among those of the merges, so the first ones cannot be cut out")
    return n_tokens - n_first


def _write_origin(
    writer: gguf.GGUFWriter, reader: gguf.GGUFReader, source: Path, n_blocks: int, n_tokens: int, source_url: str
) -> None:
    name = _contents(reader, "general.name")
    writer.add_name(f"{name}, {n_blocks} blocks, {n_tokens} tokens")
    writer.add_description(
        f"The first {n_blocks} blocks and {n_tokens} tokens of {source.name} (sha256 {sha256(source)}), cut out by "
        "lasttoken's scripts/cut_gguf.py. The tensors that were kept are unchanged."
    )
    if source_url:
        writer.add_source_url(source_url)


def _contents(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise SystemExit(f"the file has no key {key}")
    return field.contents()


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
