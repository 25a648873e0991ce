"""OpenAI's own release of GPT-2: a TensorFlow checkpoint, read by TensorFlow (extra `[openai]`).

model/h0/attn/c_attn/w  [1, in, out]   ─►   h.0.attn.c_attn.weight  [in, out]
model/h0/ln_1/g                        ─►   h.0.ln_1.weight
model/wte                              ─►   wte.weight
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from torch import Tensor

from lasttoken.backbone.gpt2.family import read_sizes
from lasttoken.backbone.gpt2.network import GPT2Config
from lasttoken.core.documents import load_json
from lasttoken.core.errors import BackboneError

HPARAMS = "hparams.json"
LEAVES = {"w": "weight", "g": "weight", "b": "bias"}


def is_openai(folder: Path) -> bool:
    """Whether a folder holds OpenAI's release, and not a Hugging Face one."""
    return (folder / HPARAMS).is_file() and not (folder / "config.json").is_file()


def read_openai_config(folder: Path) -> GPT2Config:
    """The sizes in the folder's `hparams.json`.

    Raises:
        BackboneError: it is not JSON, or see `read_sizes`.
    """
    return read_sizes(load_json(folder / HPARAMS, BackboneError), folder / HPARAMS)


def published_name(name: str) -> str:
    """The Hugging Face name of one of OpenAI's tensors.

    >>> published_name("model/h11/mlp/c_fc/w"), published_name("model/wpe"), published_name("model/ln_f/b")
    ('h.11.mlp.c_fc.weight', 'wpe.weight', 'ln_f.bias')
    """
    parts = re.sub(r"^h(\d+)/", r"h/\1/", name.removeprefix("model/")).split("/")
    if parts[-1] in LEAVES:
        return ".".join([*parts[:-1], LEAVES[parts[-1]]])
    return ".".join([*parts, "weight"])


def read_openai_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder's TensorFlow checkpoint, under Hugging Face's names, linear weights [in, out].

    Raises:
        BackboneError: TensorFlow is not installed, or the checkpoint is missing or corrupt.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # it prints to stderr on import
    try:
        from tensorflow.train import latest_checkpoint, load_checkpoint
    except ImportError as error:
        raise BackboneError(
            f"{folder} is a TensorFlow checkpoint; to read it, pip install '.[openai]' in lasttoken's folder"
        ) from error
    prefix = latest_checkpoint(str(folder)) or str(folder / "model.ckpt")
    try:
        reader = load_checkpoint(prefix)
        names = [name for name in reader.get_variable_to_shape_map() if name.startswith("model/")]
        arrays = {name: reader.get_tensor(name) for name in names}
    except Exception as error:  # TensorFlow's errors have no public base class
        raise BackboneError(f"the TensorFlow checkpoint {prefix} cannot be read: {error}; fetch it again") from error
    if not arrays:
        raise BackboneError(f"the TensorFlow checkpoint {prefix} holds no tensor named model/...; is it GPT-2?")
    squeezed = {name: array[0] if name.endswith("/w") else array for name, array in arrays.items()}
    return {published_name(name): torch.from_numpy(array.copy()) for name, array in squeezed.items()}
