"""A run made of the weights that a reader of the book has saved: chapter 6's GPTModel with its two-way head, as `.pth`.

    review_classifier.pth  ──► backbone/book.py ──► a run: labels, tokenizer and longest text beside the weights

The chapter classifies by position -1 of a text that is padded to a fixed length, so the run does too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from lasttoken.backbone.book import BookWeights, read_book_weights
from lasttoken.backbone.pretrained import load_tokenizer
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.classifier.checkpoint import save_classifier
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.errors import SettingsError
from lasttoken.core.locks import exclusive
from lasttoken.core.progress import Reporter


def import_book(
    file: Path,
    out: Path,
    labels: Sequence[str],
    *,
    max_length: int = 120,
    n_head: int | None = None,
    tokenizer: str = "gpt2",
    offline: bool = False,
    reporter: Reporter | None = None,
) -> ClassifierConfig:
    """Make a run of saved weights. It has no metrics; `evaluate` measures them.

    Args:
        file: what `torch.save(model.state_dict(), …)` wrote.
        out: the run directory to make.
        labels: the names of the head's outputs, in their order; the chapter's are ham, spam (0 and 1).
        max_length: tokens to which every text is padded or cut: the longest train text, 120 in the chapter.
        n_head: attention heads; needed where the width is not one of the four published ones.
        tokenizer: the backbone that provides the tokenizer, or a folder with its files, such as the book's gpt2/124M.
        offline, reporter: whether the network is never used to get it, and what shows a download.

    Raises:
        BackboneError: the file is missing, corrupt, or not such a state dict.
        SettingsError: labels, lengths or heads that do not fit it.
        RunError, StorageError: see `RunDir`.
    """
    run_dir = RunDir(out)
    with exclusive(out):
        run_dir.check_free(overwrite=False, replace_unfinished=False)
        weights = read_book_weights(file, n_head)
        n_named, n_labels = len(set(labels)), len(weights.head_weight)
        if len(labels) != n_labels or n_named != n_labels:
            raise SettingsError(f"--labels names {n_named} labels, and the head of {file} has {n_labels} outputs")
        encoder = _load_tokenizer(tokenizer, offline, reporter)
        vocab_size = weights.decoder.config.vocab_size
        encoder.check_fits(vocab_size, file)
        config = ClassifierConfig(
            labels=tuple(labels),
            read="padded-last",
            causal_mask=True,
            max_length=max_length,
            truncate="tail",
            train_blocks="1",
            end_of_text_id=vocab_size - 1 if encoder.end_of_text_id is None else encoder.end_of_text_id,
            backbone=f"imported from {file.name}",
        )
        write_imported(run_dir, _classifier(weights, config), encoder, file.name)
    return config


def _load_tokenizer(name: str, offline: bool, reporter: Reporter | None) -> Tokenizer:
    folder = Path(name).expanduser()
    return Tokenizer.load(folder) if folder.is_dir() else load_tokenizer(name, offline, reporter)[0]


def _classifier(weights: BookWeights, config: ClassifierConfig) -> Classifier:
    classifier = Classifier(weights.decoder, config, seed=0)
    with torch.no_grad():
        classifier.head.weight.copy_(weights.head_weight)
        classifier.head.bias.copy_(weights.head_bias)
    return classifier.requires_grad_(False).eval()


def write_imported(run_dir: RunDir, classifier: Classifier, tokenizer: Tokenizer, source: str) -> None:
    """Write the files of a run that was trained elsewhere; `source` names the file or folder that it was made of."""
    run_dir.clear()
    save_classifier(run_dir.path, classifier, tokenizer)
    note = f"imported from {source}, without metrics; lasttoken evaluate measures them"
    run_dir.write_metrics(
        {
            "splits": {},
            "baselines": {},
            "verdict": None,
            "warnings": [note],
            "timing_s": {},
            "labels": list(classifier.config.labels),
            "multi_label": classifier.config.task.multi_label,
        }
    )
