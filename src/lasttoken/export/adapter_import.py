"""A run made of a folder that peft has saved: a LoRA for sequence classification, merged into its base model.

    adapter_config.json ─► alpha / r ─────────────────────────────┐
    adapter_model.safetensors ─► A, B ─► W + alpha/r · B·A of the base ─► a run with merged weights
                              └─► score, final norm: as they were trained

What such a folder may say and is not computed here is rejected by name. transformers pools the last token under the
causal mask, so the run does too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lasttoken.backbone.catalog import BACKBONES
from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.families import blocks_named, family_of
from lasttoken.backbone.half import to_float32
from lasttoken.backbone.pretrained import Backbone, load_backbone
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.backbone.weights import read_tensor_file
from lasttoken.classifier.adapter import CONFIG, PREFIX, WEIGHTS
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.documents import load_json
from lasttoken.core.errors import BackboneError, SettingsError, one_of, short_repr
from lasttoken.core.locks import exclusive
from lasttoken.core.lora import LARGEST_ALPHA
from lasttoken.core.progress import Reporter
from lasttoken.evaluation.tasks.multi_label import MultiLabel
from lasttoken.export.book import write_imported

FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")
MULTI_LABEL = MultiLabel.problem_type
PLAIN_NAME = re.compile(r"[\w.]+")
COMPUTED: dict[str, tuple[Any, ...]] = {  # fields of adapter_config.json with the values that are computed here
    "peft_type": ("LORA",),
    "task_type": ("SEQ_CLS",),
    "bias": ("none", "all", "lora_only"),
    "use_rslora": (False, True),
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),  # others change the base before the training
}
WITHOUT_EFFECT = {  # fields that do not change what a trained adapter computes, or that its tensors tell
    *("auto_mapping", "base_model_name_or_path", "peft_version", "revision", "inference_mode", "lora_dropout"),
    *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "fan_in_fan_out"),
    *("target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern"),
    *("megatron_core", "qalora_group_size", "loftq_config", "eva_config", "runtime_config"),
}


@dataclass(frozen=True)
class Adapter:
    """The tensors of a folder: the factors A [r, in], B [out, r] of each module, and what replaces whole tensors."""

    factors: dict[str, dict[str, Tensor]]
    whole: dict[str, Tensor]
    head: dict[str, Tensor]  # weight [K, C], and perhaps bias [K]


def import_adapter(
    folder: Path,
    out: Path,
    base: str,
    labels: Sequence[str] | None = None,
    *,
    max_length: int | None = None,
    offline: bool = False,
    reporter: Reporter | None = None,
) -> ClassifierConfig:
    """Make a run of a LoRA and its base. It has no metrics; `evaluate` measures them.

    Args:
        folder, out: what `PeftModel.save_pretrained` wrote, and the run directory to make.
        base: the backbone that the adapter was trained on.
        labels: the names of the head's outputs, in their order; None: those in a config.json of the folder.
        max_length: tokens to which longer texts are cut; None: what the tokenizer says, or what the backbone can read.

    Raises:
        BackboneError: the folder cannot be read, has a field or a tensor that is not computed here, or does not fit.
        SettingsError: there are no labels, or as many as the head has no outputs.
        RunError, StorageError: see `RunDir`.
    """
    run_dir = RunDir(out)
    with exclusive(out):
        run_dir.check_free(overwrite=False, replace_unfinished=False)
        content, described = _read_config(folder)
        adapter = _read_tensors(folder)
        backbone = load_backbone(base, offline, blocks_named(described, folder / "config.json"), reporter)
        changed = _merge(backbone.decoder, adapter, content, folder)
        _say_another_name(content, base, reporter)
        tokenizer = _tokenizer(folder, backbone)
        config = ClassifierConfig(
            labels=_labels(adapter, labels, described, folder),
            read="last",
            causal_mask=True,
            max_length=_max_length(max_length, folder, backbone),
            truncate="tail",
            train_blocks=_trained_blocks(backbone.decoder, changed),
            end_of_text_id=backbone.end_of_text_id,
            prefix_ids=tokenizer.prefix_ids,
            suffix_ids=tokenizer.suffix_ids,
            backbone=backbone.name,
            separator="|" if described.get("problem_type") == MULTI_LABEL else None,
            head_bias="bias" in adapter.head,
        )
        classifier = Classifier(backbone.decoder, config)
        classifier.head.load_state_dict(adapter.head, assign=True)
        write_imported(run_dir, classifier.requires_grad_(False).eval(), tokenizer, folder.name)
    return config


def _read_config(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of adapter_config.json, and of a config.json if there is one."""
    path = folder / CONFIG
    try:
        content = load_json(path, BackboneError)
    except FileNotFoundError as error:
        raise BackboneError(f"there is no {path}; give the folder that peft's save_pretrained wrote") from error
    for name, values in COMPUTED.items():
        if content.get(name, values[0]) not in values:
            raise BackboneError(
                f"{path} has {name} = {short_repr(content[name])}, and only {one_of(map(str, values))} can be "
                "imported; merge it with peft's merge_and_unload where it was trained"
            )
    for name, value in content.items():
        if value and name not in {*COMPUTED, *WITHOUT_EFFECT}:
            raise BackboneError(
                f"{path} has {name} = {short_repr(value)}, which is not computed here; merge it with peft's "
                "merge_and_unload where it was trained"
            )
    is_described = (folder / "config.json").is_file()
    return content, load_json(folder / "config.json", BackboneError) if is_described else {}


def _read_tensors(folder: Path) -> Adapter:
    path = folder / WEIGHTS
    if not path.is_file():
        is_pickle = (folder / "adapter_model.bin").is_file()
        hint = (
            "only adapter_model.bin, a pickle, which can run code; save it again with a newer peft" if is_pickle else ""
        )
        raise BackboneError(f"{folder} holds {hint or f'no {WEIGHTS}; copy the whole folder'}")
    factors: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    for name, tensor in read_tensor_file(path).items():
        if not tensor.is_floating_point() or not tensor.numel():
            raise BackboneError(
                f"{path} holds {name} of type {str(tensor.dtype).removeprefix('torch.')} and shape "
                f"{tuple(tensor.shape)}; an adapter has floating-point numbers, so save it again"
            )
        own = name.removeprefix(PREFIX).replace(".base_layer.", ".").replace(".modules_to_save.", ".")
        if match := FACTOR.fullmatch(own):
            factors.setdefault(match["module"], {})[match["factor"]] = to_float32(tensor)
        elif ".lora_" in own:
            raise BackboneError(
                f"{path} holds {own}, which is not computed here; merge it with peft's merge_and_unload where it was "
                "trained"
            )
        else:
            whole[own] = to_float32(tensor)
    head = {name: whole.pop(f"score.{name}") for name in ("weight", "bias") if f"score.{name}" in whole}
    if "weight" not in head or head["weight"].dim() != 2:
        raise BackboneError(
            f"{path} holds no trained head, score.weight, so the classifier would predict at random; save the adapter "
            "again with modules_to_save=['score']"
        )
    return Adapter(factors, whole, head)


def _check_complete(decoder: Decoder, adapter: Adapter, content: Mapping[str, Any], folder: Path) -> None:
    """Reject a folder without the head of this base, or without the update of a module that its config names.

    Modules that are chosen by a regular expression, or by more than names and numbers of blocks, are not checked.

    Raises:
        BackboneError: names what is missing or has another shape.
    """
    n_outputs = len(adapter.head["weight"])
    shapes = {"weight": (n_outputs, decoder.config.n_embd), "bias": (n_outputs,)}
    for name, tensor in adapter.head.items():
        if tuple(tensor.shape) != shapes[name]:
            raise BackboneError(
                f"{folder / WEIGHTS} holds score.{name} of shape {tuple(tensor.shape)}, and a head of {n_outputs} "
                f"labels on this base has {shapes[name]}; give the --base that the adapter was trained on"
            )
    targets, numbers = content.get("target_modules"), content.get("layers_to_transform")
    if not isinstance(targets, list) or content.get("exclude_modules") or content.get("layers_pattern"):
        return
    family = family_of(decoder.config)
    chosen = [numbers] if isinstance(numbers, int) else numbers or range(decoder.config.n_layer)
    for module in _published_matrices(decoder):
        block = family.block_number.search(module)
        is_target = any(module == target or module.endswith(f".{target}") for target in targets)
        if block and int(block[1]) in chosen and is_target and module not in adapter.factors:
            raise BackboneError(
                f"{folder / WEIGHTS} holds no lora_A and lora_B of {module}, which target_modules in {CONFIG} names; "
                "copy the folder again, or give the --base that the adapter was trained on"
            )


def _published_matrices(decoder: Decoder) -> list[str]:
    """The published names of the linear layers of all blocks."""
    family = family_of(decoder.config)
    weights = {
        f"{decoder.BLOCKS}.{number}.{path}.weight": torch.zeros(1, 1)
        for number in range(decoder.config.n_layer)
        for path in family.matrices.values()
    }
    return [name.removesuffix(".weight") for name in family.to_published(weights)]


def _say_another_name(content: Mapping[str, Any], base: str, reporter: Reporter | None) -> None:
    """Say which base the folder names, if that is not the one that was given."""
    named = str(content.get("base_model_name_or_path") or "")
    given = base.partition("@")[0]
    entry = BACKBONES.get(given)
    known = {given, entry.hub_id if entry else None, str(Path(given).expanduser().resolve())}
    if reporter and named and named not in known:
        reporter.say(f"{CONFIG} names the base {named}; the run is right only if {base} has the same weights")


@torch.no_grad()
def _merge(decoder: Decoder, adapter: Adapter, content: Mapping[str, Any], folder: Path) -> set[str]:
    """Put the adapter into the network; the names of the parameters that it changed.

    Raises:
        BackboneError: a tensor that the network does not have, or of another shape, or one that is missing.
    """
    family, changed = family_of(decoder.config), dict[str, Tensor]()
    parameters = dict(decoder.named_parameters())
    if family.classifier_architecture is None:
        raise BackboneError(f"transformers has no classifier with a linear head on {family.title}, so none is imported")
    _check_complete(decoder, adapter, content, folder)
    for module, pair in adapter.factors.items():
        if pair.keys() != {"A", "B"} or any(factor.dim() != 2 for factor in pair.values()):
            raise BackboneError(f"{folder / WEIGHTS} holds no lora_A and lora_B of {module}; copy it again")
        names = list(family.from_published({f"{module}.weight": torch.zeros(1, 1)}))
        update = pair["B"] @ pair["A"] if pair["B"].shape[1] == len(pair["A"]) else torch.zeros(0)
        weight = _checked(parameters, names[0], tuple(update.shape), f"{module}.lora_A, lora_B", folder)
        changed[names[0]] = to_float32(weight) + _scale(content, module, len(pair["A"]), folder) * update
    for name, tensor in family.from_published(adapter.whole).items():
        _checked(parameters, name, tuple(tensor.shape), name, folder)
        changed[name] = tensor.contiguous()
    for name, tensor in changed.items():
        parameters[name].data = tensor
        decoder.quantized.pop(name, None)
    return set(changed)


def _checked(
    parameters: Mapping[str, Tensor], name: str, shape: tuple[int, ...], published: str, folder: Path
) -> Tensor:
    parameter = parameters.get(name)
    if parameter is None or tuple(parameter.shape) != shape:
        own = "does not have" if parameter is None else f"has in the shape {tuple(parameter.shape)}"
        raise BackboneError(
            f"{folder / WEIGHTS} holds {published} for a weight of shape {shape}, which the base {own}; give the "
            "--base that the adapter was trained on"
        )
    return parameter


def _scale(content: Mapping[str, Any], module: str, rank: int, folder: Path) -> float:
    """What B·A of a module is multiplied by.

    Raises:
        BackboneError: alpha is not a number or too large, is given for a regular expression, or not by an object of
            names.
    """
    alpha, patterns = content.get("lora_alpha", 8), content.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise BackboneError(f"{folder / CONFIG} has alpha_pattern = {short_repr(patterns)}; it must be an object")
    for name, value in patterns.items():
        if not PLAIN_NAME.fullmatch(name):
            raise BackboneError(
                f"{folder / CONFIG} has alpha_pattern {short_repr(name)}, a regular expression; only names can be "
                "imported, so merge it with peft's merge_and_unload where it was trained"
            )
        if module == name or module.endswith(f".{name}"):
            alpha = value
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) <= LARGEST_ALPHA:
        raise BackboneError(
            f"{folder / CONFIG} has lora_alpha = {short_repr(alpha)}; it must be a number of at most {LARGEST_ALPHA:,}"
        )
    return float(alpha) / (math.sqrt(rank) if content.get("use_rslora") else rank)


def _tokenizer(folder: Path, backbone: Backbone) -> Tokenizer:
    """The tokenizer in the folder, or the backbone's if there is none."""
    if not (folder / "tokenizer.json").is_file():
        return backbone.tokenizer
    tokenizer = Tokenizer.load(folder, backbone.end_of_text_id)
    tokenizer.check_fits(backbone.config.vocab_size, folder)
    return tokenizer


def _labels(
    adapter: Adapter, labels: Sequence[str] | None, described: Mapping[str, Any], folder: Path
) -> tuple[str, ...]:
    n_labels, problem = len(adapter.head["weight"]), described.get("problem_type")
    if problem == "regression" or (n_labels == 1 and problem != MULTI_LABEL):
        raise BackboneError(
            f"{folder} holds a head with {n_labels} output{'s' if n_labels > 1 else ''} for regression; only "
            "classifiers can be imported"
        )
    named = described.get("id2label")
    if labels is None and isinstance(named, dict):
        ids = [str(label_id) for label_id in range(len(named))]
        if missing := next((label_id for label_id in ids if not isinstance(named.get(label_id), str)), None):
            raise BackboneError(
                f"{folder / 'config.json'} has no name for label {missing} in id2label; give --labels, in the order of "
                "their ids"
            )
        labels = [named[label_id] for label_id in ids]
    if labels is None:
        raise SettingsError(f"{folder} does not name its {n_labels} labels; give --labels, in the order of their ids")
    if len(labels) != n_labels or len(set(labels)) != n_labels:
        raise SettingsError(
            f"--labels names {len(set(labels))} labels, and the head of {folder} has {n_labels} outputs; name each once"
        )
    return tuple(labels)


def _max_length(asked: int | None, folder: Path, backbone: Backbone) -> int:
    if asked is not None:
        return asked
    path = folder / "tokenizer_config.json"
    value = load_json(path, BackboneError).get("model_max_length") if path.is_file() else None
    return min(value, backbone.max_length) if type(value) is int and value > 0 else backbone.max_length


def _trained_blocks(decoder: Decoder, changed: set[str]) -> str:
    """`train_blocks` of a classifier of which these parameters were trained."""
    if any(name.startswith(tuple(f"{part}." for part in decoder.EMBEDDINGS)) for name in changed):
        return "all"
    blocks = [int(name[len(decoder.BLOCKS) + 1 :].split(".")[0]) for name in changed if name.startswith(decoder.BLOCKS)]
    if not changed:
        return "head"
    return str(decoder.config.n_layer - min(blocks)) if blocks else "1"
