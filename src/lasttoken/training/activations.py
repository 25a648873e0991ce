"""Whether a training keeps what its blocks compute for the backward pass, or computes it again.

    kept        forward: every block keeps all that its gradient needs        backward: uses it
    computed    forward: every block keeps its input [n, C]                   backward: computes the block once more

Losses and gradients are the same; a step multiplies about a third more. Source: Chen et al. 2016, *Training Deep
Nets with Sublinear Memory Cost*. With the setting `auto` it is done where free memory would otherwise not do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.encoding import Encoded
from lasttoken.core.config import CHOSEN, Settings
from lasttoken.core.device import Device, free_memory_bytes

KEPT = 1.25  # numbers kept for each number that a linear layer reads or writes: 1.02 with equally long texts, and with
# padding 1.25 (SmolLM2) or 1.39 (GPT-2); `python benchmarks/memory.py kept --backbone FOLDER`
OF_FREE_MEMORY = 0.5  # that activations may take: the gradients of a block, and other programs, need room too
NUMBER_BYTES = 4  # also under autocast, where only some have 16 bits
STATE_BYTES = 12  # of a trained number: its gradient and two moments of AdamW, which are not there yet


def largest_batch(encoded: Encoded, n_in_batch: int) -> int:
    """The tokens of the longest texts that could meet in one batch."""
    return int(np.sort(encoded.lengths)[-n_in_batch:].sum())


def activation_bytes(classifier: Classifier, n_tokens: int) -> int:
    """About how many bytes the trained blocks keep for the backward pass of a batch of so many tokens."""
    blocks = classifier.decoder.blocks[classifier.n_frozen or 0 :]
    layers = (module for block in blocks for module in block.modules() if isinstance(module, nn.Linear))
    per_token = sum(layer.in_features + layer.out_features for layer in layers)
    return int(KEPT * NUMBER_BYTES * per_token * n_tokens)


def choose_checkpointing(
    classifier: Classifier, train: Encoded, settings: Settings, device: Device, say: Callable[[str], None]
) -> bool:
    """Whether to compute activations again: as set, or with `auto` by the free memory, which `say` tells."""
    if settings.checkpoint_activations != CHOSEN or not classifier.keeps_tokens:
        return settings.checkpoint_activations == "on"
    needed = activation_bytes(classifier, largest_batch(train, settings.n_in_batch))
    free = max(free_memory_bytes(device) - STATE_BYTES * classifier.n_trained(), 0)
    if needed <= OF_FREE_MEMORY * free:
        return False
    say(
        f"the blocks would keep about {needed / 1e9:.1f} GB for the gradients of the largest batch, and "
        f"{free / 1e9:.1f} GB are free: they are computed again in the backward pass, with the same result "
        "(--checkpoint-activations)"
    )
    return True
