"""How a tail is trained where the user sets nothing: by the kind of backbone, its width, and how much text train has.

    backbone with rotary positions    blocks   rate · width/576   batch   epochs        head starts     pooling
      very much text                  2        8e-4               32      2             drawn           last+mean
      much text                       2        8e-4               32      4             drawn           last+mean
      few rows of long texts          2        4e-4               16      4 to 8        linear          last+mean
      little text                     4        2e-4               16      4             linear          last+mean
      very little text                6        2e-4               16      4 to 8        linear          last+mean
      LoRA, with any text             half     8e-4               as above              as above        as above
    backbone with learned positions   2        5e-5 · (768/n)²    16      6             drawn           last

docs/decisions/tail.md says how the first five lines were chosen, docs/decisions/default-recipe.md the last. "linear":
the head starts as the logistic regression on what the pretrained blocks give.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, Self

from lasttoken.core.lora import ALPHA_PER_RANK, DEFAULT_RANK, LORA

Positions = Literal["learned", "rotary"]

LITTLE_TEXT = 100_000  # characters of train up to which four blocks are trained
VERY_LITTLE_TEXT = 25_000  # up to which six are
VERY_MUCH_TEXT = 2_500_000  # characters of train, above which two epochs are enough for a laptop
FEW_ROWS = 2_000  # of train, below which a head of a tail of two blocks starts from the linear one
CHARACTERS = 120_000  # that a training with little text reads in all its epochs
STEPS = 400  # of a training with few rows of long texts
FEWEST_EPOCHS, MOST_EPOCHS = 4, 8
WIDTH = 576  # at which the rates for rotary positions were measured
LORA_RATE = 8e-4  # of LoRA, at that width


@dataclass(frozen=True)
class TrainSize:
    """How much text the train split has."""

    n_rows: int
    n_characters: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """The size of these texts."""
        lengths = [len(text) for text in texts]
        return cls(len(lengths), sum(lengths))


@dataclass(frozen=True)
class TailRecipe:
    """The values of the settings that were not given."""

    train_blocks: str
    learning_rate: float
    batch_size: int
    epochs: int
    keep: str
    start_head: str
    read: str
    lora_rank: int | None = None  # of the three: None and auto without LoRA
    lora_alpha: float | None = None
    lora_blocks: str = "auto"


def tail_recipe(
    positions: Positions,
    n_embd: int,
    n_layer: int,
    size: TrainSize,
    train_blocks: str = "auto",
    lora_rank: int | None = None,
) -> TailRecipe:
    """The recipe for a backbone of this kind, width and number of used blocks, and a train split of this size.

    `train_blocks` is what the user set, or auto; more than two trained blocks have a quarter of the rate of two.
    `lora_rank` is the rank of LoRA if the user set one.

    >>> few = TrainSize(n_rows=96, n_characters=4_800)
    >>> tail_recipe("rotary", 576, 16, few).train_blocks, tail_recipe("rotary", 576, 16, few).epochs
    ('6', 8)
    >>> tail_recipe("rotary", 1152, 16, TrainSize(5_000, 250_000)).learning_rate
    0.0004
    """
    if train_blocks == LORA:
        rank = lora_rank or DEFAULT_RANK
        return replace(
            tail_recipe(positions, n_embd, n_layer, size),
            train_blocks=LORA,
            learning_rate=LORA_RATE * WIDTH / n_embd,
            lora_rank=rank,
            lora_alpha=float(ALPHA_PER_RANK * rank),
            lora_blocks=str((n_layer + 1) // 2),
        )
    if positions == "learned":
        return TailRecipe(_blocks("auto", 2, n_layer), 5e-5 * (768 / n_embd) ** 2, 16, 6, "best", "drawn", "last")
    has_little = size.n_characters <= LITTLE_TEXT
    wanted = 6 if size.n_characters <= VERY_LITTLE_TEXT else 4 if has_little else 2
    blocks = _blocks(train_blocks, wanted, n_layer)
    is_small = blocks in ("head", "1", "2")
    scale = WIDTH / n_embd
    if not has_little and size.n_rows >= FEW_ROWS:
        epochs = 2 if size.n_characters > VERY_MUCH_TEXT else 4
        return TailRecipe(blocks, (8e-4 if is_small else 2e-4) * scale, 32, epochs, "last", "drawn", "last+mean")
    affordable = CHARACTERS // max(size.n_characters, 1) if has_little else STEPS * 16 // size.n_rows
    epochs = min(max(affordable, FEWEST_EPOCHS), MOST_EPOCHS)
    return TailRecipe(blocks, (4e-4 if is_small else 2e-4) * scale, 16, epochs, "last", "linear", "last+mean")


def _blocks(asked: str, wanted: int, n_layer: int) -> str:
    return str(min(wanted, n_layer)) if asked == "auto" else asked
