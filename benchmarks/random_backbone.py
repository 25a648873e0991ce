"""A backbone folder of any published shape with random weights: speed does not depend on what the weights are.

    python benchmarks/random_backbone.py --like gpt2 --tokenizer FOLDER --out /tmp/random-gpt2

`--tokenizer` is a folder with tokenizer.json, vocab.json + merges.txt, or encoder.json + vocab.bpe.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lasttoken.backbone.catalog import BACKBONES
from lasttoken.backbone.gpt2.family import to_published, write_config
from lasttoken.backbone.gpt2.network import GPT2, GPT2Config
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.backbone.weights import write_tensor_file


def main() -> None:
    """Write config.json, model.safetensors and tokenizer.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--like", choices=list(BACKBONES), default="gpt2")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    entry = BACKBONES[arguments.like]
    config = GPT2Config(entry.vocab_size, entry.n_positions, entry.n_embd, entry.n_layer, entry.n_head)
    arguments.out.mkdir(parents=True, exist_ok=True)
    tensors = to_published(GPT2(config).init_weights(arguments.seed).state_dict())
    write_tensor_file(arguments.out / "model.safetensors", tensors)
    (arguments.out / "config.json").write_text(json.dumps(write_config(config), indent=1), "utf-8")
    (arguments.out / "tokenizer.json").write_text(Tokenizer.load(arguments.tokenizer).to_json(), "utf-8")
    print(arguments.out)


if __name__ == "__main__":
    main()
