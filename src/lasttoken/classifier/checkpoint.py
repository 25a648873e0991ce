"""A classifier as a folder: config.json, model.safetensors, tokenizer.json, ngrams.*. Nothing in it is a pickle.

The tensors have the backbone's published names and layout, and the head is `score`; frozen matrices that came in few
bits (quantized.py) are stored as they came. Our own settings (labels, pooling, lengths) are under "lasttoken" in
config.json. The folder is complete: it can be moved, and loading it needs neither the original backbone nor the
network.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from lasttoken.backbone.building import build_decoder
from lasttoken.backbone.decoder import DecoderConfig
from lasttoken.backbone.families import end_of_text, family_of, read_config
from lasttoken.backbone.quantized import QuantizedTensor, from_stored, to_stored
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.backbone.weights import read_tensor_files, write_tensor_file
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.classifier.ngrams import load_ngrams, save_ngrams
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.columns import ColumnSpec
from lasttoken.core.documents import checked, to_json
from lasttoken.core.errors import BackboneError, LastTokenError, RunError, short_repr
from lasttoken.core.lora import LORA
from lasttoken.core.process import return_freed_memory
from lasttoken.core.storage import write_text

FORMAT = 1
ADVICE_FOR_BACKBONES = re.compile(r"; (fetch[^;]* again|was it changed\?|the file was changed|is it a GPT-2's\?)$")
FILES = ("config.json", "model.safetensors", "tokenizer.json")


def save_classifier(folder: Path, classifier: Classifier, tokenizer: Tokenizer) -> None:
    """Write the three files, and those of an n-gram model if the classifier contains one; each is whole or absent.

    Raises:
        StorageError: no permission, or a full disk.
    """
    family = family_of(classifier.decoder.config)
    state, blocks = classifier.decoder.state_without_lm_head(), _frozen_blocks(classifier)
    tensors = family.to_published({name: tensor for name, tensor in state.items() if name not in blocks})
    tensors |= to_stored(blocks)
    head = {"weight": classifier.head_weight, "bias": classifier.head.bias}
    tensors |= {f"score.{name}": t.detach().cpu().contiguous() for name, t in head.items() if t is not None}
    labels, columns = classifier.config.labels, classifier.config.columns
    content: dict[str, Any] = {
        **family.write_config(classifier.decoder.config.without_lm_head()),
        "architectures": [family.classifier_architecture] if family.classifier_architecture else [],
        "num_labels": len(labels),
        "id2label": {str(label_id): label for label_id, label in enumerate(labels)},
        "label2id": {label: label_id for label_id, label in enumerate(labels)},
        "eos_token_id": classifier.config.end_of_text_id,
        "pad_token_id": classifier.config.end_of_text_id,
        "problem_type": classifier.config.task.problem_type,
        "lasttoken": {"format": FORMAT, **asdict(classifier.config), "columns": columns.to_json() if columns else None},
    }
    return_freed_memory()  # of the training: writing brings every page of a mapped trunk into memory
    write_tensor_file(folder / "model.safetensors", tensors)
    save_ngrams(folder, classifier.ngrams)
    write_text(folder / "tokenizer.json", tokenizer.to_json())
    write_text(folder / "config.json", to_json(content, indent=1) + "\n")


def _frozen_blocks(classifier: Classifier) -> dict[str, QuantizedTensor]:
    """The parameters that are stored as the blocks from which they were dequantized: those that were not trained."""
    names = classifier.unchanged_names()
    return {name: blocks for name, blocks in classifier.decoder.quantized.items() if name in names}


def load_classifier(folder: Path) -> tuple[Classifier, Tokenizer]:
    """Load what `save_classifier` wrote, on the CPU in float32.

    Raises:
        RunError: the folder is not a finished run, or its format is newer.
        BackboneError: the weights are corrupt, or belong to another network.
    """
    RunDir(folder).check_is_folder()
    for name in FILES:
        if not (folder / name).is_file():
            raise RunError(f"{folder} holds no {name}; it is not the folder of a finished run")
    with _advice_for_runs():
        decoder_config, content = read_config(folder / "config.json")
    recorded = content.get("lasttoken")
    if not isinstance(recorded, dict) or recorded.get("format") != FORMAT:
        version = recorded.get("format") if isinstance(recorded, dict) else None
        raise RunError(
            f"{folder / 'config.json'} has format {short_repr(version)}, but this version reads format {FORMAT}; "
            "was it written by `lasttoken train`?"
        )
    with _advice_for_runs():
        ending = end_of_text(family_of(decoder_config), content, folder / "config.json")
        return _load(folder, decoder_config, recorded, ending)


@contextmanager
def _advice_for_runs() -> Iterator[None]:
    """Say of a damaged file what helps for a run's own: its backbone could be fetched again, but a run cannot."""
    try:
        yield
    except (BackboneError, RunError) as error:
        fault = ADVICE_FOR_BACKBONES.sub("", str(error))
        raise type(error)(f"{fault}; copy the run again or train it again") from error


def _load(
    folder: Path, decoder_config: DecoderConfig, recorded: dict[str, Any], ending: str | int
) -> tuple[Classifier, Tokenizer]:
    """The classifier and its tokenizer from the files of a run; `recorded` is "lasttoken" in config.json.

    `ending`: the token that ends texts, or its id.
    """
    where = f"{folder / 'config.json'}: lasttoken"
    config = checked(ClassifierConfig, {name: value for name, value in recorded.items() if name != "format"}, where)
    family = family_of(decoder_config)
    tensors = read_tensor_files(folder, family.not_weights)
    score = {name: tensors.pop(f"score.{name}", None) for name in ("weight", "bias")}
    tensors, quantized = from_stored(tensors, folder / "model.safetensors")
    dequantized = {name: blocks.dequantize() for name, blocks in quantized.items()}
    decoder = build_decoder(decoder_config, family.from_published(tensors) | dequantized, folder)
    decoder.quantized = quantized
    _check_fits(config, decoder_config, where)
    classifier = Classifier(decoder, config)
    _load_head(classifier, {name: tensor for name, tensor in score.items() if tensor is not None}, folder)
    tokenizer = Tokenizer.load(folder, ending)
    tokenizer.check_fits(decoder_config.vocab_size, folder)
    if config.blend is not None:
        classifier.ngrams = load_ngrams(folder, len(config.labels))
    return classifier.requires_grad_(False).eval(), tokenizer


def _load_head(classifier: Classifier, score: dict[str, Tensor], folder: Path) -> None:
    """Give the classifier its head.

    Raises:
        BackboneError: a tensor of the head is missing, has another shape, or is one that the head does not have.
    """
    path = folder / "model.safetensors"
    for name, parameter in classifier.head.named_parameters():
        tensor, shape = score.get(name), tuple(parameter.shape)
        if tensor is None or tuple(tensor.shape) != shape:
            raise BackboneError(f"{path} has no tensor score.{name} of shape {shape}; the file was changed")
    if "bias" in score and not classifier.config.head_bias:
        raise BackboneError(
            f"{path} has a tensor score.bias, and config.json says head_bias false; the file was changed"
        )
    classifier.head.load_state_dict(score, assign=True)


def _check_fits(config: ClassifierConfig, shape: DecoderConfig, where: str) -> None:
    """Reject values that are valid alone but contradict each other.

    Raises:
        RunError: it names the field and its valid values.
    """
    labels, blocks = config.labels, config.train_blocks
    duplicate = next((label for label, n in Counter(labels).items() if n > 1), None)
    is_valid_number = re.fullmatch(r"[1-9][0-9]{0,5}", blocks) and int(blocks) <= shape.n_layer
    rules = (config.decision, config.blend.gpt_decision) if config.blend else (config.decision,)
    unknown_ids = sorted(label_id for rule in rules for label_id in rule.label_ids() if label_id >= len(labels))
    largest = max((*config.prefix_ids, *config.suffix_ids), default=-1)
    faults = {
        f"labels names {short_repr(duplicate)} twice": duplicate is not None,
        f"max_length is {config.max_length:,}, and the backbone has {shape.n_positions:,} positions": (
            config.max_length > shape.n_positions
        ),
        f"end_of_text_id is {config.end_of_text_id:,}, and the vocabulary has {shape.vocab_size:,} tokens": (
            config.end_of_text_id >= shape.vocab_size
        ),
        f"prefix_ids and suffix_ids name the token {largest:,}, and the vocabulary has {shape.vocab_size:,} tokens": (
            largest >= shape.vocab_size
        ),
        f"max_length is {config.max_length:,}, and prefix_ids and suffix_ids take {config.n_frame:,} tokens": (
            config.max_length <= config.n_frame
        ),
        f"train_blocks is {blocks[:20]!r}; it must be 'head', 'all', 'lora' or a number from 1 to {shape.n_layer}": (
            blocks not in ("head", "all", LORA) and not is_valid_number
        ),
        "train_blocks is 'lora', and lora is null"
        if blocks == LORA
        else "lora is set, and train_blocks is not 'lora'": ((blocks == LORA) != (config.lora is not None)),
        f"lora.blocks is {config.lora and config.lora.blocks}, and there are {shape.n_layer} blocks": (
            config.lora is not None and config.lora.blocks > shape.n_layer
        ),
        f"decision names label {unknown_ids[:1]}, and there are {len(labels)} labels, from 0": bool(unknown_ids),
        "int8_trunk is true, and train_blocks 'all' leaves no trunk": config.int8_trunk and blocks == "all",
    }
    for fault, applies in faults.items():
        if applies:
            raise RunError(f"{where}: {fault}; was it changed?")


def trained_columns(folder: Path) -> ColumnSpec | None:
    """The columns that a run was trained on, without loading its weights; None if they are not known.

    Runs of earlier versions record only the columns that the user named, in run.toml. The result is
    None for a folder that cannot be read.
    """
    try:
        _, content = read_config(folder / "config.json")
        recorded = ColumnSpec.from_json(content["lasttoken"].get("columns"))
        return recorded or ColumnSpec.from_json(RunDir(folder).read_toml().get("settings"))
    except (LastTokenError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return None
