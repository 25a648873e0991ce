"""A decoder made of tensors, after their names, shapes and types were checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lasttoken.backbone.decoder import Decoder, DecoderConfig
from lasttoken.backbone.families import family_of
from lasttoken.core.errors import BackboneError, one_of


def build_decoder(config: DecoderConfig, tensors: Mapping[str, Tensor], source: Path) -> Decoder:
    """A frozen decoder whose parameters are `tensors`, named as in its state dict; nothing is copied.

    Raises:
        BackboneError: tensors that are missing, unknown, of another shape or not floating-point; names them.
    """
    decoder = lay_out(config, len(tensors), source)
    expected = {name: tuple(tensor.shape) for name, tensor in decoder.state_dict().items()}
    ours = dict(tensors)
    if config.tied:
        ours.pop("lm_head.weight", None)  # the same numbers as the token embedding
    missing, unknown = expected.keys() - ours.keys(), ours.keys() - expected.keys()
    title = family_of(config).title
    if missing:
        raise BackboneError(
            f"{source} lacks the tensors {one_of(sorted(missing))}; is it a {title} checkpoint of the shape in "
            "config.json?"
        )
    if unknown:
        raise BackboneError(
            f"{source} holds tensors that {title} does not have: {one_of(sorted(unknown))}; only plain "
            f"{title} checkpoints can be loaded"
        )
    for name, shape in expected.items():
        tensor = ours[name]
        if tuple(tensor.shape) != shape:
            raise BackboneError(
                f"{source}: tensor {name} has shape {tuple(tensor.shape)}, but the configuration asks for {shape}"
            )
        if not tensor.is_floating_point():
            raise BackboneError(
                f"{source}: tensor {name} has the type {tensor.dtype}; only floating-point weights can be loaded"
            )
    decoder.load_state_dict(ours, assign=True)
    return decoder.requires_grad_(False).eval()


def lay_out(config: DecoderConfig, n_tensors: int, source: Path) -> Decoder:
    """A network without memory for its weights.

    Raises:
        BackboneError: more blocks than there are tensors, or sizes whose product is beyond 64 bits.
    """
    if config.n_layer > n_tensors:  # laying out millions of blocks would take minutes
        raise BackboneError(
            f"{source} holds {n_tensors:,} tensors, too few for the {config.n_layer:,} blocks in its configuration"
        )
    try:
        with torch.device("meta"):
            return family_of(config).build(config)
    except (RuntimeError, OverflowError) as error:
        raise BackboneError(f"{source}: no network can have the sizes in its configuration, {config}") from error
