"""A classifier whose temperature and bias are in its weights, as formats need that have no place for them.

    logits = (W·h + b) / T        h = ln_f(x), with ln_f's bias β
           = W'·(h + δ)           W' = W / T,  W·δ = b:  β' = β + δ

δ is the shortest of the many: δ = Wᵀ(W·Wᵀ)⁻¹·b, by the pseudo-inverse (Penrose 1955).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lasttoken.classifier.classifier import Classifier
from lasttoken.core.errors import SettingsError

LARGEST_RESIDUAL = 1e-5  # of b, relative; more means that the labels' weights are not independent


@dataclass(frozen=True)
class Folded:
    """What takes the place of ln_f's bias [C] and the head's weight [K, C]."""

    ln_f_bias: Tensor
    head_weight: Tensor


def fold(classifier: Classifier) -> Folded:
    """Put bias and temperature of a classifier's head into other weights; the classifier stays as it is.

    Raises:
        SettingsError: more labels than the backbone is wide, or weights that depend on each other.
    """
    weight, bias = (tensor.detach().double().cpu() for tensor in (classifier.head.weight, classifier.head.bias))
    delta = torch.linalg.pinv(weight) @ bias
    residual = float((weight @ delta - bias).abs().max() / bias.abs().max().clamp(min=1e-12))
    if residual > LARGEST_RESIDUAL:
        raise SettingsError(
            f"the head's bias cannot be folded into the weights ({len(bias)} labels, width {weight.shape[1]}: their "
            "weights are not independent); transformers has no place for it, so export --to onnx"
        )
    ln_f_bias = classifier.decoder.ln_f.bias.detach().cpu()
    return Folded(
        (ln_f_bias.double() + delta).to(ln_f_bias.dtype), (weight / classifier.config.temperature).to(ln_f_bias.dtype)
    )
