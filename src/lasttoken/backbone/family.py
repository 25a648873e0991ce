"""What a family of decoders says about its files: config.json, tensor names, special tokens, exports.

    config.json         ◄── read_config, write_config ──►     DecoderConfig ── build ──► Decoder
    model.safetensors   ◄── to_published, from_published ──►  state dict

A new family is one value of `Family`, registered in families.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from lasttoken.backbone.decoder import Decoder, DecoderConfig
from lasttoken.backbone.onnx_graph import Graph

Tensors = dict[str, Tensor]


class OnnxDecoder(Protocol):
    """A decoder as nodes of an ONNX graph. Each method takes and returns names of values; texts are rows, [B, T]."""

    def embed(self, token_ids: str, positions: str) -> str:
        """token_ids [B, T], positions [T] -> [B, T, C]."""

    def blocks(self, x: str, mask: str) -> str:
        """All blocks, [B, T, C] -> [B, T, C]. `mask` [B, 1, T or 1, T] is added to attention scores."""

    def final_norm(self, x: str) -> str:
        """[..., C] -> [..., C]."""


@dataclass(frozen=True)
class Family:
    """One architecture, as `model_type` of config.json names it."""

    model_type: str
    title: str  # for messages
    build: Callable[[Any], Decoder]  # a network of the family's config, with unset weights
    read_config: Callable[[Mapping[str, Any], Path], DecoderConfig]  # content of config.json, and its path for messages
    write_config: Callable[[Any], dict[str, Any]]  # the inverse: what config.json says of the network
    from_published: Callable[[Mapping[str, Tensor]], Tensors]  # names and layout of files -> our state dict
    to_published: Callable[[Mapping[str, Tensor]], Tensors]  # the inverse
    not_weights: re.Pattern[str]  # tensors that published files hold and no network needs
    end_of_text: str | None  # the token that ends a text; it also stands for an empty text, and pads.
    # None: it differs within the family, and `eos_token_id` of config.json gives its id
    classifier_architecture: str | None  # the class of transformers that loads an export; None: it has none
    final_bias: str | None  # the tensor added just before the head; an export folds the head's bias into it.
    # None: transformers' class has no place for the head's bias, so --to hf is rejected
    onnx: Callable[[Graph, Any], OnnxDecoder] | None  # None: --to onnx is rejected
    matrices: Mapping[str, str]  # the linear layers of a block, in the order of their use, by the words of core/lora.py
    block_number: re.Pattern[str] = re.compile(r"(?:^|\.)layers\.(\d+)\.")  # in published names of a block's tensors
    book_weights: Callable[[Any, int], Tensors] | None = None  # config and seed -> a state dict as chapter 6 draws it

    def belongs_to(self, name: str, depth: int) -> bool:
        """Whether a network of `depth` blocks needs the tensor of this published name."""
        match = self.block_number.search(name)
        return match is None or int(match[1]) < depth
