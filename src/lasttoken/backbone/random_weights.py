"""A network whose weights are drawn, not loaded: to learn what pretraining is worth, or to train without any.

gpt2    normal with deviation 0.02, biases zero, norms that change nothing    every family, see `Decoder.init_weights`
book    as chapter 6's script draws GPT-2                                     GPT-2 alone, see gpt2/book_weights.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lasttoken.backbone.building import build_decoder, lay_out
from lasttoken.backbone.decoder import Decoder, DecoderConfig
from lasttoken.backbone.families import family_of
from lasttoken.core.config import BOOK_WEIGHTS
from lasttoken.core.errors import SettingsError


@dataclass(frozen=True)
class RandomWeights:
    """Which weights to draw."""

    kind: str  # a value of the setting random_weights
    seed: int


def draw_decoder(config: DecoderConfig, wanted: RandomWeights, source: Path) -> Decoder:
    """A frozen decoder of these sizes with drawn weights in float32; `source` is for messages.

    Raises:
        SettingsError: the family has no weights of this kind.
    """
    family = family_of(config)
    if wanted.kind != BOOK_WEIGHTS:
        decoder = lay_out(config, config.n_layer, source).to_empty(device="cpu")
        return decoder.init_weights(wanted.seed).requires_grad_(False).eval()
    if family.book_weights is None:
        raise SettingsError(
            f"--random-weights {BOOK_WEIGHTS} draws a GPT-2 as chapter 6 does, and the backbone is of the family "
            f"{family.title}; use --random-weights gpt2"
        )
    return build_decoder(config, family.book_weights(config, wanted.seed), source)
