"""The unmerged updates of LoRA as a folder in peft's format: adapter_model.safetensors and adapter_config.json.

    base_model.model.model.layers.8.self_attn.q_proj.lora_A.weight [r, in]   … lora_B.weight [out, r]
    base_model.model.model.norm.weight, base_model.model.score.weight        what is trained beside them, whole

The names between `base_model.model.` and `.lora_A` are those of transformers' classifier of the family.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lasttoken.backbone.families import family_of
from lasttoken.backbone.weights import write_tensor_file
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.lora import updated_layers
from lasttoken.core.documents import to_json
from lasttoken.core.storage import make_dir, write_text

PREFIX = "base_model.model."
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
IN_BLOCK = re.compile(r"^.*?\.\d+\.")  # what precedes a module's name within its block


def save_adapter(folder: Path, classifier: Classifier) -> None:
    """Write the updates of a classifier that is not merged, and what is trained beside them.

    Raises:
        StorageError: no permission, or a full disk.
    """
    make_dir(folder)
    write_tensor_file(folder / WEIGHTS, adapter_tensors(classifier))
    write_text(folder / CONFIG, to_json(adapter_config(classifier), indent=1) + "\n")


def adapter_tensors(classifier: Classifier) -> dict[str, Tensor]:
    """The tensors under peft's names, on the CPU."""
    decoder, lora = classifier.decoder, classifier.config.lora
    assert lora is not None
    tensors: dict[str, Tensor] = {}
    for name, layer in updated_layers(decoder).items():
        assert layer.low_rank is not None
        a, b = layer.low_rank.factors()
        module = published_name(classifier, name)
        tensors |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    if lora.trains_norm:
        norm = {f"{decoder.FINAL_NORM}.{name}": tensor for name, tensor in decoder.final_norm.named_parameters()}
        tensors |= family_of(decoder.config).to_published(norm)
    tensors["score.weight"] = classifier.head_weight
    if classifier.config.head_bias:
        tensors["score.bias"] = classifier.head.bias
    return {PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def adapter_config(classifier: Classifier) -> dict[str, Any]:
    """The content of adapter_config.json."""
    decoder, lora = classifier.decoder, classifier.config.lora
    assert lora is not None
    ranks = {
        IN_BLOCK.sub("", published_name(classifier, name)): layer.low_rank.factors()[0].shape[0]
        for name, layer in updated_layers(decoder).items()
        if layer.low_rank is not None
    }
    others = {name: rank for name, rank in ranks.items() if rank != lora.rank}  # of matrices with several parts
    n_layer = decoder.config.n_layer
    norm = published_name(
        classifier, decoder.FINAL_NORM
    )  # the whole name: peft takes the end of one for any such module
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": classifier.config.backbone,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": lora.factor * lora.rank,  # peft's scale is alpha / rank
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": _is_transposed(classifier),
        "target_modules": sorted(ranks),
        "rank_pattern": others,
        "alpha_pattern": {name: lora.factor * rank for name, rank in others.items()},
        "layers_to_transform": list(range(n_layer - lora.blocks, n_layer)),
        "modules_to_save": [*([norm] if lora.trains_norm else []), "score"],
    }


def _is_transposed(classifier: Classifier) -> bool:
    """Whether the published matrices are [in, out], as those of transformers' Conv1D."""
    name = next(iter(updated_layers(classifier.decoder)))
    (weight,) = family_of(classifier.decoder.config).to_published({f"{name}.weight": torch.zeros(1, 2)}).values()
    return tuple(weight.shape) == (2, 1)


def published_name(classifier: Classifier, module: str) -> str:
    """The published name of a module of the decoder that has a weight."""
    weight = classifier.decoder.get_parameter(f"{module}.weight")
    (name,) = family_of(classifier.decoder.config).to_published({f"{module}.weight": weight})
    return name.removesuffix(".weight")
