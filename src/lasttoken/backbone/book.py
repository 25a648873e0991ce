"""The book's own weights: the state dict of chapter 6's GPTModel with its class head, read as a GPT-2.

    torch.save(model.state_dict(), "review_classifier.pth")  ──►  BookWeights: a GPT-2's tensors, the head beside them

This is the one place where a pickle container is opened, and only for its tensors (torch.load, weights_only=True): no
code in the file is run.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lasttoken.backbone.building import build_decoder
from lasttoken.backbone.catalog import BACKBONES
from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.gpt2.network import GPT2Config
from lasttoken.backbone.weights import check_finite
from lasttoken.core.errors import BackboneError, SettingsError, one_of

HEADS = {
    entry.shape.n_embd: entry.shape.n_head for entry in BACKBONES.values() if entry.shape and entry.hub_id
}  # by published width
OTHER_NAMES = {  # as the chapter's summary calls them
    "token_emb.": "tok_emb.",
    "position_emb.": "pos_emb.",
    "transformer_blocks.": "trf_blocks.",
    "output_head.": "out_head.",
}
BLOCK = re.compile(r"trf_blocks\.([0-9]{1,4})\.")
MASKS = re.compile(r"\.att\.mask$")
PLAIN = {
    "tok_emb.weight": "wte.weight",
    "pos_emb.weight": "wpe.weight",
    "final_norm.scale": "ln_f.weight",
    "final_norm.shift": "ln_f.bias",
}
IN_BLOCK = {
    "att.out_proj.weight": "attn.c_proj.weight",
    "att.out_proj.bias": "attn.c_proj.bias",
    "ff.layers.0.weight": "mlp.c_fc.weight",
    "ff.layers.0.bias": "mlp.c_fc.bias",
    "ff.layers.2.weight": "mlp.c_proj.weight",
    "ff.layers.2.bias": "mlp.c_proj.bias",
    "norm1.scale": "ln_1.weight",
    "norm1.shift": "ln_1.bias",
    "norm2.scale": "ln_2.weight",
    "norm2.shift": "ln_2.bias",
}
QKV = tuple(f"att.W_{name}" for name in ("query", "key", "value"))
NOT_THE_BOOKS = "is not a state dict of the book's GPTModel with a class head"


@dataclass(frozen=True)
class BookWeights:
    """A decoder and the head that was trained on it: weight [K, C], bias [K]."""

    decoder: Decoder
    head_weight: Tensor
    head_bias: Tensor


def read_book_weights(file: Path, n_head: int | None = None) -> BookWeights:
    """Read what `torch.save(model.state_dict(), …)` wrote.

    Args:
        file: the .pth file.
        n_head: attention heads; needed where the width is not one of the four published ones.

    Raises:
        BackboneError: the file is missing, corrupt, holds more than tensors, or tensors of another model.
        SettingsError: `n_head` is missing, or does not divide the width.
    """
    state = _read_state(file)
    check_finite(state, file, MASKS)
    tensors = _renamed(state, file)
    decoder = build_decoder(_config(tensors, n_head, file), tensors, file)
    weight = state["out_head.weight"].float()
    if weight.shape[1] != decoder.config.n_embd:
        raise BackboneError(
            f"{file} {NOT_THE_BOOKS}: its head has {weight.shape[1]} inputs, its GPT is {decoder.config.n_embd} wide"
        )
    bias = state.get("out_head.bias", torch.zeros(len(weight))).float()
    if bias.shape != weight.shape[:1]:
        raise BackboneError(f"{file} {NOT_THE_BOOKS}: its head has {len(weight)} outputs, and a bias of {len(bias)}")
    return BookWeights(decoder, weight, bias)


def _read_state(file: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, on the CPU, without running anything that the file may hold.

    Raises:
        BackboneError: the file is missing, corrupt, or holds more than tensors.
    """
    if not file.is_file():
        raise BackboneError(f"there is no file {file}; give what torch.save(model.state_dict(), …) wrote")
    is_zip = zipfile.is_zipfile(file)  # before version 1.6, torch wrote plain pickles, which cannot be mapped
    if not is_zip and not _starts_as_pickle(file):
        raise BackboneError(f"{file} was not written by torch.save; give what torch.save(model.state_dict(), …) wrote")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the age of the file
            state: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise BackboneError(
            f"{file} holds more than tensors; it is not opened, because it could run code. Save model.state_dict() "
            "where it was trained, and give that file"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise BackboneError(f"{file} cannot be read as saved tensors: {str(error).splitlines()[0][:200]}") from error
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise BackboneError(f"{file} {NOT_THE_BOOKS}; save model.state_dict()")
    return {_usual_name(str(name)): tensor for name, tensor in state.items()}


def _usual_name(name: str) -> str:
    """A tensor's name as the chapter's code has it.

    >>> _usual_name("transformer_blocks.0.norm1.scale"), _usual_name("tok_emb.weight")
    ('trf_blocks.0.norm1.scale', 'tok_emb.weight')
    """
    other = next((other for other in OTHER_NAMES if name.startswith(other)), "")
    return OTHER_NAMES.get(other, "") + name.removeprefix(other)


def _starts_as_pickle(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(1) == b"\x80"


def _renamed(state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The book's tensors under GPT-2's names, in float32; query, key and value become one.

    Raises:
        BackboneError: tensors are missing, unknown, or do not fit each other.
    """
    n_layer = 1 + max((int(match[1]) for name in state if (match := BLOCK.match(name))), default=-1)
    known = {*PLAIN, "out_head.weight", "out_head.bias"}
    try:
        tensors = {ours: state[theirs] for theirs, ours in PLAIN.items()}
        flat = [name for name in ("wte.weight", "wpe.weight") if tensors[name].dim() != 2]
        if flat or state["out_head.weight"].dim() != 2:
            raise BackboneError(f"{file} {NOT_THE_BOOKS}: its embeddings and its head must have two dimensions")
        for layer in range(n_layer):
            tensors |= _block(state, f"trf_blocks.{layer}.", f"h.{layer}.")
            known |= {f"trf_blocks.{layer}.{name}" for name in IN_BLOCK}
            known |= {f"trf_blocks.{layer}.{name}.{part}" for name in QKV for part in ("weight", "bias")}
    except KeyError as error:
        raise BackboneError(f"{file} {NOT_THE_BOOKS}: it has no tensor {error.args[0]}") from error
    except (RuntimeError, IndexError, TypeError) as error:
        why = str(error).splitlines()[0][:200]
        raise BackboneError(f"{file} {NOT_THE_BOOKS}: its shapes do not fit each other ({why})") from error
    if unknown := sorted(name for name in state if name not in known and not MASKS.search(name)):
        raise BackboneError(f"{file} {NOT_THE_BOOKS}: it holds tensors of another model: {one_of(unknown)[:500]}")
    if not n_layer:
        raise BackboneError(f"{file} {NOT_THE_BOOKS}: it has no trf_blocks")
    return {name: tensor.float() for name, tensor in tensors.items()}


def _block(state: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """One block's tensors, with the prefixes `theirs` in the file and `ours` in GPT-2."""
    tensors = {f"{ours}{name}": state[f"{theirs}{book_name}"] for book_name, name in IN_BLOCK.items()}
    weight = torch.cat([state[f"{theirs}{name}.weight"] for name in QKV])
    biases = [state.get(f"{theirs}{name}.bias", torch.zeros(len(weight) // 3)) for name in QKV]
    return tensors | {f"{ours}attn.c_attn.weight": weight, f"{ours}attn.c_attn.bias": torch.cat(biases)}


def _config(tensors: Mapping[str, Tensor], n_head: int | None, file: Path) -> GPT2Config:
    (vocab_size, n_embd), n_positions = tensors["wte.weight"].shape, tensors["wpe.weight"].shape[0]
    heads = HEADS.get(n_embd) if n_head is None else n_head
    if heads is None:
        raise SettingsError(
            f"{file} is {n_embd} channels wide, which is not one of GPT-2's widths ({', '.join(map(str, HEADS))}), "
            "and weights do not show the number of attention heads; pass --heads, the n_heads of its configuration"
        )
    if heads < 1 or n_embd % heads:
        raise SettingsError(f"--heads is {heads}, which does not divide the {n_embd} channels of {file}")
    return GPT2Config(
        vocab_size=vocab_size,
        n_positions=n_positions,
        n_embd=n_embd,
        n_layer=sum(name.endswith("ln_1.weight") for name in tensors),
        n_head=heads,
        n_inner=tensors["h.0.mlp.c_fc.weight"].shape[0],
    )
