"""A classifier as a folder that `transformers.pipeline("text-classification")` loads, with the same logits.

transformers reads the last token that is no padding, under the causal mask, with a head that has no bias and logits
that have no temperature: what else a classifier may do is refused, and the two numbers are folded in (folded.py). There
`<|endoftext|>` in a text would be the token that ends texts; here it is text, so that token has another name in the
tokenizer.json of the export.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lasttoken.backbone.families import family_of
from lasttoken.backbone.tokenizer import END_OF_TEXT, Tokenizer
from lasttoken.backbone.weights import write_tensor_file
from lasttoken.classifier.predict import Predictor
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.documents import to_json
from lasttoken.core.errors import FailedError, SettingsError
from lasttoken.core.storage import exclusive, new_dir, write_text
from lasttoken.evaluation.decision import MOST_PROBABLE
from lasttoken.export.folded import fold

ENDING = "<|lasttoken-end-of-text|>"  # what the tokenizer of an export calls the token that ends texts
TOLERANCE = 1e-4  # of logits
PROBES = (
    "a",
    "Free entry! Text WIN to claim your prize.",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.",
    f"user text {END_OF_TEXT} that goes on",
    "ok",
    "word " * 3000,
    "日本語のテキスト, مرحبا, 👩‍👩‍👧",
    "",
)


@dataclass(frozen=True)
class Exported:
    """What was written, what is lost on the way, and by how much its logits differ (None: not checked)."""

    folder: Path
    notes: tuple[str, ...]
    largest_difference: float | None


def check_exportable(predictor: Predictor) -> None:
    """Refuse what transformers would compute otherwise.

    Raises:
        SettingsError: another reading, no causal mask, or a trunk in 8 bits.
    """
    config = predictor.classifier.config
    instead = "; export --to onnx, which keeps it"
    if config.read != "last":
        raise SettingsError(f"the classifier reads {config.read}, and transformers only the last token{instead}")
    if not config.causal_mask:
        raise SettingsError(f"the classifier has no causal mask, and GPT-2 in transformers always has one{instead}")
    if config.int8_trunk:
        raise SettingsError(
            "the classifier was trained on a trunk in 8 bits, which transformers would compute in float32, with other "
            "answers; train without --precision int8"
        )


def export_hf(run: Path, out: Path, check: bool = True) -> Exported:
    """Write a run's classifier for transformers, and compare its logits where transformers is installed.

    Raises:
        SettingsError: see `check_exportable` and `fold`; or a folder that is there.
        RunError: not a finished run.
        FailedError: transformers computes other logits.
    """
    predictor = Predictor.load(run, "cpu", "float32")
    check_exportable(predictor)
    notes = lost_on_the_way(predictor)
    difference = None
    with new_export(out) as folder:
        _write(folder, predictor, run)
        if check and find_spec("transformers"):
            difference = compare_with_transformers(folder, predictor)
    return Exported(out, notes, difference)


@contextmanager
def new_export(out: Path) -> Iterator[Path]:
    """A temporary folder to export to; it becomes `out` when the block ends well.

    Raises:
        SettingsError: `out` is there already.
        RunError: another process exports to it.
        StorageError: no permission, or a full disk.
    """
    with exclusive(out):
        if out.exists() or out.is_symlink():
            raise SettingsError(f"--out {out} is there already; give another folder")
        with new_dir(out, first_stays=False) as folder:
            yield folder


def lost_on_the_way(predictor: Predictor) -> tuple[str, ...]:
    """What a classifier has and the format has not, in sentences."""
    config = predictor.classifier.config
    notes = [
        f"texts are cut to {config.max_length} tokens only when truncation=True is passed",
        f"an empty text has no tokens in transformers, which fails or answers otherwise; give {ENDING!r} in its place",
    ]
    if config.task.multi_label:
        notes.append("thresholds are not kept: pass top_k=None and compare scores with those in README.md")
    elif config.decision != MOST_PROBABLE:
        rule = config.task.rule_in_words(config.decision)
        notes.append(f"the rule of answering is not kept, the most probable label is given ({rule})")
    return tuple(notes)


def _write(folder: Path, predictor: Predictor, run: Path) -> None:
    classifier, config = predictor.classifier, predictor.classifier.config
    folded = fold(classifier)
    family = family_of(classifier.decoder.config)
    state = classifier.decoder.state_without_lm_head() | {folded.bias_name: folded.final_bias}
    tensors = {f"transformer.{name}": tensor for name, tensor in family.to_published(state).items()}
    tensors["score.weight"] = folded.head_weight.contiguous()
    ids = {str(label_id): label for label_id, label in enumerate(config.labels)}
    content: dict[str, Any] = {
        **family.write_config(replace(classifier.decoder.config, tied=True)),
        "architectures": [family.classifier_architecture],
        "num_labels": len(ids),
        "id2label": ids,
        "label2id": {label: int(label_id) for label_id, label in ids.items()},
        "eos_token_id": config.end_of_text_id,
        "bos_token_id": config.end_of_text_id,
        "pad_token_id": config.end_of_text_id,
        "problem_type": config.task.problem_type,
        "dtype": "float32",
    }
    write_tensor_file(folder / "model.safetensors", tensors)
    write_text(folder / "config.json", _json(content))
    write_text(folder / "tokenizer.json", _json(renamed_ending(predictor.tokenizer)))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_length,
        "padding_side": "right",
        "truncation_side": "right" if config.truncate == "tail" else "left",
        **{f"{name}_token": ENDING for name in ("pad", "eos", "bos", "unk")},
        "clean_up_tokenization_spaces": False,
    }
    write_text(folder / "tokenizer_config.json", _json(settings))
    card = RunDir(run).path / "README.md"
    if card.is_file():
        write_text(folder / "README.md", as_card(card.read_text("utf-8"), predictor))


def _json(content: Any) -> str:
    return to_json(content, indent=1) + "\n"


def renamed_ending(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of a tokenizer.json in which the token that ends texts has a name that no text contains."""
    content: dict[str, Any] = json.loads(tokenizer.to_json())
    vocabulary = content["model"]["vocab"]
    if tokenizer.end_of_text in vocabulary:
        vocabulary[ENDING] = vocabulary.pop(tokenizer.end_of_text)
    for token in content.get("added_tokens") or []:
        if token["content"] == tokenizer.end_of_text:
            token["content"] = ENDING
    return content


USE = """

## In transformers

```python
from transformers import pipeline

classify = pipeline("text-classification", model="{name}")
text = "a text"
print(classify(text or "{ending}", truncation=True))
```

transformers makes no tokens of an empty text, and fails or answers otherwise; the name of the token that ends texts, in
its place, gives the answer of `lasttoken predict`.

Bias and temperature are in the weights: the scores are those of `lasttoken predict`.{more}
"""


def as_card(card: str, predictor: Predictor, name: str = "THIS FOLDER") -> str:
    """A run's model card with how to use the export; the library in its metadata is transformers."""
    config = predictor.classifier.config
    found = card.replace('library_name: "lasttoken"', 'library_name: "transformers"', 1)
    more = ""
    if config.task.multi_label:
        least = ", ".join(f"{config.labels[at]} {threshold:.3f}" for at, threshold in config.decision.thresholds)
        more = f" A label is given from its threshold on (pass top_k=None to see all): {least or '0.5 for all'}."
    return found.rstrip() + USE.format(name=name, more=more, ending=ENDING)


@torch.no_grad()
def compare_with_transformers(folder: Path, predictor: Predictor) -> float:
    """The largest difference of logits on ragged batches.

    Raises:
        FailedError: above 1e-4, or transformers cannot load the folder.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        with quiet():
            model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
            tokenizer = AutoTokenizer.from_pretrained(folder)
        batch = tokenizer(never_empty(PROBES), padding=True, truncation=True, return_tensors="pt")
        batch.pop("token_type_ids", None)
        found = model(**batch).logits.float().numpy()
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise FailedError(f"transformers cannot load what was exported: {error}") from error
    return checked(found, logits_of(predictor, PROBES), "transformers")


def never_empty(texts: Sequence[str]) -> list[str]:
    """Texts as an export for transformers must be given them: an empty one as the token that ends texts."""
    return [text or ENDING for text in texts]


@contextmanager
def quiet() -> Iterator[None]:
    """Without the advice and the progress bars of other libraries."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    bars: Any = import_module("transformers.utils.logging") if "transformers" in sys.modules else None
    if bars:
        bars.disable_progress_bar()
    try:
        yield
    finally:
        logging.disable(before)
        if bars:
            bars.enable_progress_bar()


def logits_of(predictor: Predictor, texts: tuple[str, ...]) -> NDArray[np.float32]:
    """Our logits [N, K] at the classifier's temperature."""
    temperature = np.float32(predictor.classifier.config.temperature)
    return np.asarray(predictor.logits(predictor.encode(texts)) / temperature)


def checked(found: NDArray[Any], expected: NDArray[np.float32], whose: str) -> float:
    """The largest difference of two arrays of logits.

    Raises:
        FailedError: it is above 1e-4 (of 10, where logits are larger than that).
    """
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max()) / 10):
        raise FailedError(
            f"{whose} computes other logits from the export: they differ by {difference:.2g}, allowed are "
            f"{TOLERANCE:g}; nothing was written. Please report it"
        )
    return difference
