"""What LoRA trains of a classifier: updates of matrices in the last blocks, the final norm and the head.

    blocks  0 … L-n-1     trunk: frozen, computed once per text
    blocks  L-n … L-1     frozen, each chosen matrix with a trained update (backbone/low_rank.py)
    final norm, head      trained whole

The LoRA of the book's script (`like_book`) differs: the final norm is frozen, the head has an update beside its trained
weight, and queries, keys and values have an update each where one matrix holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, MinLen
from torch import nn

from lasttoken.backbone.decoder import Decoder, DecoderConfig
from lasttoken.backbone.families import family_of
from lasttoken.backbone.linear import Linear
from lasttoken.backbone.low_rank import LowRank
from lasttoken.core.config import Settings
from lasttoken.core.documents import STRICT, OneOf
from lasttoken.core.errors import SettingsError, one_of
from lasttoken.core.lora import LORA, SCALES, WORDS, words_of


@dataclass(frozen=True)
class LoraConfig:
    """The LoRA of a classifier. A saved one is for readers, because the updates are merged into the weights."""

    __pydantic_config__ = STRICT

    rank: Annotated[int, Ge(1)]
    alpha: Annotated[float, Gt(0)]
    blocks: Annotated[int, Ge(1)]  # the last ones
    matrices: Annotated[tuple[Annotated[str, OneOf(WORDS)], ...], MinLen(1)]  # words of the family
    scale: Annotated[str, OneOf(SCALES)] = SCALES[0]
    like_book: bool = False

    @property
    def factor(self) -> float:
        """What B·A is multiplied by."""
        return self.alpha / self.rank if self.scale == "alpha/rank" else self.alpha

    @property
    def trains_norm(self) -> bool:
        """Whether the final norm is trained."""
        return not self.like_book

    def in_words(self) -> str:
        """The LoRA, for a sentence."""
        blocks = f"{self.blocks} block{'s' if self.blocks > 1 else ''}"
        return f"LoRA of rank {self.rank} and alpha {self.alpha:g} in {','.join(self.matrices)} of the last {blocks}"

    def parts(self, word: str) -> int:
        """The number of updates of a matrix: one, or one for each of the projections that it holds."""
        return len(word) if word == "qkv" and self.like_book else 1


def lora_config(settings: Settings, config: DecoderConfig) -> LoraConfig | None:
    """The LoRA that completed settings ask for on this backbone; None: they ask for none.

    Raises:
        SettingsError: a matrix, a rank or a number of blocks that the backbone does not have.
    """
    if settings.train_blocks != LORA:
        return None
    assert settings.lora_rank is not None  # Settings.completed has set both
    assert settings.lora_alpha is not None
    family, words = family_of(config), words_of(settings.lora_matrices)
    unknown = [word for word in words if word not in family.matrices]
    if unknown:
        raise SettingsError(
            f"--lora-matrices names {one_of(unknown)}, but a block of {family.title} has the matrices "
            f"{','.join(family.matrices)}; name some of these, or all-linear"
        )
    blocks = config.n_layer if settings.lora_blocks == "all" else int(settings.lora_blocks)
    if blocks > config.n_layer:
        raise SettingsError(
            f"--lora-blocks is {blocks}, but the classifier has {config.n_layer} blocks; use {config.n_layer} or all, "
            "or more blocks of the backbone (--depth)"
        )
    if settings.lora_rank > config.n_embd:
        raise SettingsError(
            f"--lora-rank is {settings.lora_rank}, but the backbone is {config.n_embd} wide; use a smaller rank, such "
            "as 8"
        )
    if settings.keep_adapter and family.classifier_architecture is None:
        raise SettingsError(
            f"--keep-adapter writes a folder for peft and transformers, which have no classifier on {family.title}; "
            "leave it out"
        )
    return LoraConfig(
        rank=settings.lora_rank,
        alpha=settings.lora_alpha,
        blocks=blocks,
        matrices=words or tuple(family.matrices),
        scale=settings.lora_scale,
        like_book=settings.handling.lora_like_book,
    )


def _layers(decoder: Decoder, lora: LoraConfig) -> Iterator[tuple[str, Linear]]:
    """The words and the layers of the chosen matrices, in the order of the network."""
    paths = family_of(decoder.config).matrices
    for block in decoder.blocks[-lora.blocks :]:
        for word, path in paths.items():
            if word in lora.matrices:
                layer = block.get_submodule(path)
                assert isinstance(layer, Linear)
                yield word, layer


def add_updates(decoder: Decoder, lora: LoraConfig) -> None:
    """Give the chosen matrices their updates, which are zero; `draw_updates` draws them."""
    for word, layer in _layers(decoder, lora):
        layer.add_low_rank(lora.rank, lora.factor, lora.parts(word))


def count_updates(decoder: Decoder, lora: LoraConfig) -> int:
    """The numbers in all updates, whether they are merged or not."""
    return sum(
        lora.rank * (lora.parts(word) * layer.in_features + layer.out_features)
        for word, layer in _layers(decoder, lora)
    )


def updated_layers(module: nn.Module) -> dict[str, Linear]:
    """The linear layers that have an update, by their names, in the order of the network."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, Linear) and layer.low_rank is not None
    }


def draw_updates(updates: Sequence[LowRank], lora: LoraConfig) -> None:
    """Draw the updates one after the other from torch's global generator."""
    for update in updates:
        update.draw(lora.like_book)
