"""A backbone folder of a published shape with random weights: speed and memory do not depend on what the weights are.

    python benchmarks/random_backbone.py --like gpt2 --tokenizer FOLDER --out /tmp/random-gpt2
    python benchmarks/random_backbone.py --like smollm2-1.7b --dtype bfloat16 --tokenizer FOLDER --out /tmp/random-1.7b

`--tokenizer` is a folder with tokenizer.json, vocab.json + merges.txt, or encoder.json + vocab.bpe; without it the
bundled backbone's is used. A tokenizer with fewer tokens than the shape is padded with tokens that no text has.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lasttoken.backbone.catalog import BACKBONES
from lasttoken.backbone.families import family_of, read_config
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.core.default_backbone import BUNDLED


def llama(width: int, n_layer: int, n_head: int, n_kv_heads: int, inner: int) -> dict[str, Any]:
    """The config.json of a SmolLM2."""
    return {
        "model_type": "llama",
        "vocab_size": 49_152,
        "hidden_size": width,
        "num_hidden_layers": n_layer,
        "num_attention_heads": n_head,
        "num_key_value_heads": n_kv_heads,
        "intermediate_size": inner,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100_000,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "eos_token_id": 0,
    }


SHAPES: dict[str, dict[str, Any]] = {
    **{name: {"model_type": "gpt2", **asdict(entry.shape)} for name, entry in BACKBONES.items() if entry.shape},
    "smollm2-135m": llama(576, 30, 9, 3, 1536),
    "smollm2-360m": llama(960, 32, 15, 5, 2560),
    "smollm2-1.7b": llama(2048, 24, 32, 32, 8192),
}


def write_random_backbone(out: Path, like: str, tokenizer: Tokenizer, dtype: torch.dtype, seed: int = 0) -> Path:
    """Write config.json, model.safetensors and tokenizer.json; the folder."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(SHAPES[like], indent=1), "utf-8")
    config = read_config(out / "config.json")[0]
    family = family_of(config)
    with torch.device("meta"):
        published = family.to_published(family.build(config).state_dict())
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, unset in published.items():
        is_norm = unset.dim() == 1 and name.endswith("weight")
        tensor = torch.empty(unset.shape, dtype=dtype).normal_(0.0, 0.02, generator=generator)
        tensors[name] = tensor.add_(1.0) if is_norm else tensor
    save_file(tensors, out / "model.safetensors")
    (out / "tokenizer.json").write_text(padded(tokenizer, config.vocab_size), "utf-8")
    return out


def padded(tokenizer: Tokenizer, vocab_size: int) -> str:
    """The content of a tokenizer.json with as many tokens as the shape has."""
    content = json.loads(tokenizer.to_json())
    vocabulary = content["model"]["vocab"]
    for index in range(tokenizer.n_tokens, vocab_size):
        vocabulary[f"unused-{index}"] = index
    return json.dumps(content)


def main() -> None:
    """Write a folder of the shape that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--like", choices=list(SHAPES), default="gpt2")
    parser.add_argument("--tokenizer", type=Path, help="default: the bundled backbone's")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype)
    tokenizer = Tokenizer.load(arguments.tokenizer) if arguments.tokenizer else load_backbone(BUNDLED).tokenizer
    print(write_random_backbone(arguments.out, arguments.like, tokenizer, dtype, arguments.seed))


if __name__ == "__main__":
    main()
