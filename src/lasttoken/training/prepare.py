"""Put a new head on a backbone, and turn the texts and labels of each split into token ids and label ids.

This is the last step that can reject a user's input.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lasttoken.backbone.pretrained import Backbone
from lasttoken.backbone.prompt import frame_with_prompt
from lasttoken.backbone.weights import sums_of
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.classifier.encoding import FOREIGN_TOKENS_PER_CHARACTER, Encoded, encode_texts, tokens_per_character
from lasttoken.classifier.lora import LoraConfig, lora_config
from lasttoken.classifier.predict import Predictor
from lasttoken.core.config import NOT_IGNORED, PADDED, Settings
from lasttoken.core.device import Device
from lasttoken.core.errors import SettingsError
from lasttoken.core.progress import Reporter
from lasttoken.data.label_tables import label_names, truth_of
from lasttoken.data.splitting.splits import Splits
from lasttoken.evaluation.tasks.task import Truth
from lasttoken.training.activations import choose_checkpointing
from lasttoken.training.features import StoredFeatures, TrunkPass
from lasttoken.training.split_features import SplitFeatures

LONGEST = 512  # tokens of a text, for a backbone that has room for thousands (docs/decisions/bundled.md)
TOKENS = 1_500_000  # of all train texts, if each were as long as its limit
SHORTEST_LIMIT = 128  # of a text, however many there are

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """A classifier before its training, and its splits as numbers."""

    splits: Splits
    predictor: Predictor
    encoded: dict[str, Encoded]
    truth: dict[str, Truth]  # label_ids [N], or whether each row has each label [N, K]
    notes: tuple[str, ...]  # sentences about truncation, padding and the language of the texts

    @property
    def classifier(self) -> Classifier:
        """The classifier, on its device."""
        return self.predictor.classifier

    @property
    def label_counts(self) -> NDArray[np.int64] | None:
        """Rows of each label [K] in train before undersampling; None without undersampling."""
        counts = self.splits.label_counts
        return None if counts is None else np.array([counts[label] for label in self.labels], dtype=np.int64)

    @property
    def labels(self) -> tuple[str, ...]:
        """The K labels, in the order of their ids."""
        return self.predictor.labels


def prepare(splits: Splits, backbone: Backbone, settings: Settings, device: Device, say: Say) -> Prepared:
    """Put a head on the backbone and encode the texts; `say` gets the notes.

    Raises:
        SettingsError: the settings do not fit this backbone or this number of rows.
        DeviceError: the device's logits differ from the CPU's.
    """
    notes: list[str] = []
    if settings.drop_last and len(splits.train) < settings.n_in_batch:
        raise SettingsError(
            f"--batch-size is {settings.n_in_batch}, but train has {len(splits.train)} rows and incomplete "
            "batches are dropped"
        )
    labels = label_names(splits.train)
    config = _classifier_config(splits, labels, backbone, settings, device, notes)
    predictor = new_predictor(backbone, config, settings.seed, device)
    if config.lora is not None:
        notes.append(_lora_note(predictor.classifier, config.lora))
    encoded = {name: predictor.encode(examples.texts) for name, examples in splits.named().items()}
    notes += _truncation_notes(encoded, config)
    if settings.handling.lists_batches:
        notes.append(_batch_note(splits, settings, config))
    ratio = tokens_per_character(encoded["train"], splits.train.texts)
    if ratio > FOREIGN_TOKENS_PER_CHARACTER and not config.pads:
        notes.append(
            f"the train texts take {ratio:.2f} tokens per character (English: about 0.25); "
            f"{config.backbone} may not have learned their language"
        )
    for note in notes:
        say(note)
    checkpoints = choose_checkpointing(predictor.classifier, encoded["train"], settings, device, say)
    predictor.classifier.checkpoints_activations = checkpoints
    truth = {name: truth_of(examples, labels) for name, examples in splits.named().items()}
    return Prepared(splits, predictor, encoded, truth, tuple(notes))


def new_predictor(backbone: Backbone, config: ClassifierConfig, seed: int, device: Device) -> Predictor:
    """A classifier before its training: `backbone` with a new tail, whose random values are drawn from the seed.

    Raises:
        SettingsError: the config does not fit this backbone.
        DeviceError: the device's logits differ from the CPU's.
    """
    return Predictor(Classifier(backbone.decoder, config, seed), backbone.tokenizer, device)


def default_max_length(backbone: Backbone, n_rows: int) -> int:
    """Tokens of the longest text that is not truncated, where the user sets no limit.

    Many long texts would take a laptop hours, so their limit is lower; n-grams read the rest.
    """
    if backbone.config.positions == "learned":
        return backbone.max_length
    affordable = max(TOKENS // max(n_rows, 1), SHORTEST_LIMIT)
    return min(backbone.max_length, LONGEST, affordable)


def _classifier_config(
    splits: Splits, labels: list[str], backbone: Backbone, settings: Settings, device: Device, notes: list[str]
) -> ClassifierConfig:
    max_length = settings.max_length or default_max_length(backbone, len(splits.train))
    if settings.read in PADDED and settings.max_length is None:
        untruncated = encode_texts(
            backbone.tokenizer,
            splits.train.texts,
            max_length=backbone.config.n_positions,
            truncate=settings.truncate,
            end_of_text_id=backbone.end_of_text_id,
            prefix_ids=backbone.prefix_ids,
            suffix_ids=backbone.suffix_ids,
        )
        max_length = max(untruncated.longest, untruncated.n_frame + 1)
        notes.append(
            f"every text is padded to {max_length} tokens, the longest of train, with token {backbone.end_of_text_id}"
        )
    if settings.read == "first" and settings.causal_mask:
        notes.append(
            "--read first under the causal mask sees one token of each text; "
            "add --no-causal-mask to let it see the text"
        )
    if settings.ignore_index != NOT_IGNORED:
        notes.append(_ignored_note(settings.ignore_index, labels))
    prefix_ids, suffix_ids = frame_with_prompt(backbone, settings.template)
    if settings.template is not None:
        notes.append(
            f"every text is read inside the prompt {settings.template!r}, of {len(prefix_ids) + len(suffix_ids)} tokens"
        )
    return ClassifierConfig(
        labels=tuple(labels),
        read=settings.read,
        causal_mask=settings.causal_mask,
        max_length=max_length,
        truncate=settings.truncate,
        train_blocks=settings.train_blocks,
        end_of_text_id=backbone.end_of_text_id,
        prefix_ids=prefix_ids,
        suffix_ids=suffix_ids,
        prompt=settings.template,
        backbone=backbone.name,
        int8_trunk=device.precision == "int8",
        separator=splits.train.separator,
        columns=splits.train.columns.remembered if splits.train.columns else None,
        lora=lora_config(settings, backbone.config),
        head_bias=settings.head_bias,
    )


def _ignored_note(ignore_index: int, labels: list[str]) -> str:
    """What `--ignore-index` means for these labels.

    Raises:
        SettingsError: it is the id of a label, so no row of the label would be learned.
    """
    if 0 <= ignore_index < len(labels):
        raise SettingsError(
            f"--ignore-index is {ignore_index}, the id of the label {labels[ignore_index]!r}: no row of it would be "
            "learned (the book's script takes the option and does not use it); give an id that no label has"
        )
    return (
        f"--ignore-index {ignore_index} changes nothing: the ids of the labels are 0 to {len(labels) - 1}, and padding "
        "has no label"
    )


def _lora_note(classifier: Classifier, lora: LoraConfig) -> str:
    """How much is trained."""
    n_trained, n_all = classifier.n_trained(), classifier.n_parameters()
    return (
        f"{lora.in_words()}: {n_trained:,} numbers are trained, {n_trained / n_all:.2%} of the classifier's {n_all:,}"
    )


def _batch_note(splits: Splits, settings: Settings, config: ClassifierConfig) -> str:
    """The number of batches of each split and their shape, which chapter 6 prints for its loaders."""
    counts = {name: -(-len(examples) // settings.n_in_batch) for name, examples in splits.named().items()}
    if settings.drop_last:
        counts["train"] = len(splits.train) // settings.n_in_batch
    length = f"{config.max_length}" if config.pads else "as many as the text has"
    counts_in_words = ", ".join(f"{name} {n:,}" for name, n in counts.items())
    shape = f"the shape of a batch is {settings.n_in_batch} texts × {length} token ids"
    steps = f"; a step is {settings.accumulate} batches" if settings.accumulate > 1 else ""
    return f"batches: {counts_in_words}; {shape}{steps}"


def _truncation_notes(encoded: dict[str, Encoded], config: ClassifierConfig) -> list[str]:
    return [
        f"{n:,} of {len(split):,} {name} texts were cut to {config.max_length} tokens"
        f"{f', {config.n_frame} of them the prompt,' if config.prompt else ''} ({split.n_cut_tokens:,} tokens lost)"
        for name, split in encoded.items()
        if (n := int(split.cut.sum()))
    ]


def features_of(
    prepared: Prepared, trunk: TrunkPass, reporter: Reporter, known: Mapping[str, NDArray[np.float32]]
) -> dict[str, SplitFeatures]:
    """The features of every split, known, computed or read from the cache, with the truth.

    `known` has features of splits with one vector a text, by the name of the split.
    """
    device = trunk.device.torch_device
    unknown = [encoded for name, encoded in prepared.encoded.items() if name not in known]
    with reporter.bar("trunk", sum(encoded.n_tokens for encoded in unknown)) as advance:
        features = {
            name: SplitFeatures(
                StoredFeatures(encoded, known[name], False, device)
                if name in known
                else trunk.source(encoded, name, lambda done: advance(done, "")),
                prepared.truth[name],
            )
            for name, encoded in prepared.encoded.items()
        }
    prepared.classifier.release_trunk()
    return features


def fingerprint(prepared: Prepared, settings: Settings, trunk: str | None) -> str:
    """A hash of everything that changes the result of a training; a saved state belongs to one fingerprint."""
    device = prepared.predictor.device
    facts = [settings.that_change_training(), trunk, device.torch_device.type, device.precision]
    if prepared.classifier.config.lora is not None:  # a saved state has the updates, but not what they are added to
        facts.append(
            sums_of({name: tensor.cpu() for name, tensor in prepared.classifier.state_without_updates().items()})
        )
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, encoded in prepared.encoded.items():
        for array in (encoded.lengths, encoded.token_ids, prepared.truth[name]):
            digest.update(array.tobytes())
    return digest.hexdigest()
