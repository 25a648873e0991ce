"""A head's temperature and bias moved into other weights, for formats that have no place for them.

    logits = (W·h + b) / T        h = norm(x), where the final norm ends by adding its bias β
           = W'·(h + δ)           W' = W / T,  W·δ = b:  β' = β + δ

δ is the shortest of many solutions: δ = Wᵀ(W·Wᵀ)⁻¹·b, by the pseudo-inverse (Penrose 1955). Without b, β stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lasttoken.backbone.families import family_of
from lasttoken.classifier.classifier import Classifier
from lasttoken.core.errors import SettingsError

MAX_RESIDUAL = 1e-5  # of b, relative; more means that the labels' weights are linearly dependent


@dataclass(frozen=True)
class Folded:
    """What replaces the head's weight [K, C], and tensors of the decoder by name: the final norm's bias [C] or none."""

    decoder: dict[str, Tensor]
    head_weight: Tensor


def fold(classifier: Classifier) -> Folded:
    """Move bias and temperature of a classifier's head into other weights; the classifier itself does not change.

    Raises:
        SettingsError: there are more labels than the backbone is wide, or the labels' weights are linearly dependent.
    """
    weight = classifier.head.weight.detach().double().cpu()
    head_weight = (weight / classifier.config.temperature).to(classifier.head.weight.dtype)
    if not classifier.config.head_bias:
        return Folded({}, head_weight)
    name = family_of(classifier.decoder.config).final_bias
    assert name is not None  # `check_exportable` rejects the others
    bias = classifier.head.bias.detach().double().cpu()
    delta = torch.linalg.pinv(weight) @ bias
    residual = float((weight @ delta - bias).abs().max() / bias.abs().max().clamp(min=1e-12))
    if residual > MAX_RESIDUAL:
        raise SettingsError(
            f"the head's bias cannot be folded into the weights: with {len(bias)} labels and width {weight.shape[1]} "
            "they are linearly dependent, and transformers has no place for a bias; export --to onnx"
        )
    final_bias = classifier.decoder.get_parameter(name).detach().cpu()
    return Folded({name: (final_bias.double() + delta).to(final_bias.dtype)}, head_weight)
