"""The tensors of a GGUF, by the names and in the layout of our networks.

    blk.0.attn_q.weight  Q4_1 [out, in], rows permuted   ──►   blocks [out, in]   ──►   float32 [out, in]

The names come from the `gguf` package, which maps every published name to GGUF's. Only the tensors of the blocks that
are needed are dequantized.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from lasttoken.backbone.building import build_decoder, lay_out
from lasttoken.backbone.decoder import Decoder, DecoderConfig
from lasttoken.backbone.families import family_of
from lasttoken.backbone.gguf.architectures import ROPE_FACTORS, Architecture
from lasttoken.backbone.gguf.file import GGUFFile
from lasttoken.backbone.quantized import QuantizedTensor
from lasttoken.backbone.weights import check_finite
from lasttoken.core.errors import BackboneError, one_of

QUERY_OR_KEY = re.compile(r"\.attn_([qk])\.(weight|bias)$")
BLOCK = re.compile(r"^blk\.(\d+)\.")
NOT_WEIGHTS = {ROPE_FACTORS, "rope_factors_long.weight", "rope_factors_short.weight"}


def read_decoder(file: GGUFFile, architecture: Architecture, content: dict[str, Any], config: DecoderConfig) -> Decoder:
    """The network of a GGUF, or of its first blocks if `config` has fewer; `Decoder.quantized` holds its blocks.

    Raises:
        BackboneError: tensors that are missing, unknown, of another shape, not finite or of a type that cannot be
            dequantized; names them.
    """
    family = family_of(config)
    published, quantized, used = {}, {}, set()
    for ours, name, source in _names(file, config):
        blocks = file.blocks(source)
        if (match := QUERY_OR_KEY.search(source)) and architecture.permuted:
            n_heads = content["num_attention_heads" if match[1] == "q" else "num_key_value_heads"]
            blocks = _undo_permutation(blocks, n_heads, f"{file.path}: tensor {source}")
        tensor = blocks.as_stored()
        if architecture.norm_plus_one and source.endswith("_norm.weight"):
            tensor = tensor - 1  # not in place: it may lie in the mapped file
        if blocks.in_blocks and len(blocks.shape) == 2:
            quantized[ours] = blocks
        is_linear = BLOCK.match(source) and tensor.dim() == 2
        published[name] = tensor.t() if architecture.transposed and is_linear else tensor
        used.add(source)
    check_finite(published, file.path)
    _check_all_used(file, used, config)
    decoder = build_decoder(config, family.from_published(published), file.path)
    decoder.quantized = quantized
    return decoder


def _names(file: GGUFFile, config: DecoderConfig) -> Iterator[tuple[str, str, str]]:
    """Each parameter of the network by its name in ours, in published files and in GGUF files."""
    import gguf

    by_name = {name: architecture for architecture, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(by_name[file.get("general.architecture", str)], config.n_layer)
    family = family_of(config)
    for ours, tensor in lay_out(config, len(file.tensors), file.path).state_dict().items():
        (published,) = family.to_published({ours: tensor})
        source = names.get_name(published, try_suffixes=(".weight", ".bias"))
        if source is None:
            raise BackboneError(
                f"{file.path}: gguf has no name for the tensor {published}, which {family.title} needs; give "
                "the model as "
                "a folder of safetensors"
            )
        yield ours, published, source


def _undo_permutation(blocks: QuantizedTensor, n_heads: int, where: str) -> QuantizedTensor:
    """The rows of q or k in the order of published files: of each head the first halves of all pairs, then the second.

    The file has pairs, as the original Llama rotates: 0, 32, 1, 33, … for a head of 64 rows.
    """
    n_rows = blocks.shape[0]
    if n_rows % (2 * n_heads):
        raise BackboneError(f"{where} has {n_rows} rows, which {n_heads} heads do not divide; fetch it again")
    order = np.arange(n_rows).reshape(n_heads, n_rows // n_heads // 2, 2).swapaxes(1, 2).reshape(-1)
    if len(blocks.shape) == 1:  # a bias, stored as floats in one row
        vector = blocks.dequantize().numpy()[order]
        return QuantizedTensor(vector.view(np.uint8).reshape(1, -1), "F32", blocks.shape)
    return blocks.rows(order)


def _check_all_used(file: GGUFFile, used: set[str], config: DecoderConfig) -> None:
    """Reject a file with tensors that the network has no place for: it would compute something else without them."""
    rest = [
        name
        for name in file.tensors.keys() - used - NOT_WEIGHTS
        if (match := BLOCK.match(name)) is None or int(match[1]) < config.n_layer
    ]
    if rest:
        raise BackboneError(
            f"{file.path} holds tensors that {family_of(config).title} does not have: {one_of(sorted(rest))}; "
            "only plain "
            "checkpoints can be loaded"
        )
