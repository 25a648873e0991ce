"""A classifier as a folder that `transformers.pipeline("text-classification")` loads, with the same logits.

transformers pools the last token that is not padding, under the causal mask, with a head without bias and without a
temperature. Other poolings and masks are rejected; the temperature is folded into the weights, and a bias too where the
final norm ends by adding one (folded.py). The tokenizer is made in hf_tokenizer.py.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lasttoken.backbone.families import family_of
from lasttoken.backbone.weights import write_tensor_file
from lasttoken.classifier.predict import Predictor
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.documents import to_json
from lasttoken.core.errors import FailedError, SettingsError
from lasttoken.core.storage import write_text
from lasttoken.export.checking import PROBE_BATCHES, PROBES, largest_difference, logits_of, quiet
from lasttoken.export.folded import fold
from lasttoken.export.folder import Exported, new_export
from lasttoken.export.gpt_part import card_of_gpt, load_gpt_part, metrics_of_gpt
from lasttoken.export.hf_tokenizer import ENDING, ExportedTokenizer, never_empty


def check_exportable(predictor: Predictor) -> None:
    """Reject a classifier that transformers would compute differently.

    Raises:
        SettingsError: a family without such a classifier or without a place for the head's bias, another pooling than
            the last token, no causal mask, or a trunk in 8 bits.
    """
    config = predictor.classifier.config
    instead = "; export --to onnx, which supports it"
    family = family_of(predictor.classifier.decoder.config)
    if family.classifier_architecture is None:
        raise SettingsError(
            f"the backbone is of the family {family.title}, for which transformers has no classifier with a linear head"
            f"{instead}"
        )
    if config.head_bias and family.final_bias is None:
        raise SettingsError(
            f"the head has a bias, and transformers' classifiers of the family {family.title} have no place for it; "
            "train with --no-head-bias --read last, or export --to onnx, which supports it"
        )
    if config.read != "last":
        raise SettingsError(
            f"the classifier was trained with --read {config.read}, and transformers pools only the last token{instead}"
        )
    if not config.causal_mask:
        raise SettingsError(f"the classifier has no causal mask, and in transformers there always is one{instead}")
    if config.int8_trunk:
        raise SettingsError(
            "the classifier was trained with --precision int8, and transformers would compute its trunk in float32, "
            "with other predictions; train without it"
        )


def export_hf(run: Path, out: Path, check: bool = True, without_ngrams: bool = False) -> Exported:
    """Write a run's classifier for transformers, and compare its logits if transformers is installed.

    Raises:
        SettingsError: see `load_gpt_part`, `check_exportable`, `fold` and `ExportedTokenizer`; or `out` exists.
        RunError: `run` is not a finished run.
        FailedError: transformers computes other logits.
    """
    predictor = load_gpt_part(run, without_ngrams)
    check_exportable(predictor)
    notes = lost_in_export(predictor)
    difference = None
    with new_export(out) as folder:
        _write(folder, predictor, run)
        if check and find_spec("transformers"):
            difference = compare_with_transformers(folder, predictor)
    return Exported(out, notes, difference)


def lost_in_export(predictor: Predictor) -> tuple[str, ...]:
    """What the classifier has and the format cannot hold, in sentences."""
    config = predictor.classifier.config
    notes = [f"texts are truncated to {config.max_length} tokens only when truncation=True is passed"]
    if not config.n_frame:
        notes.append(
            "transformers turns an empty text into no tokens, and fails or predicts something else; "
            f"pass {ENDING!r} instead"
        )
    if lost := config.task.lost_rule(config.decision):
        notes.append(lost)
    return tuple(notes)


def _write(folder: Path, predictor: Predictor, run: Path) -> None:
    classifier, config = predictor.classifier, predictor.classifier.config
    folded = fold(classifier)
    tokenizer = ExportedTokenizer(predictor.tokenizer, config)
    family = family_of(classifier.decoder.config)
    state = classifier.decoder.state_without_lm_head() | folded.decoder
    tensors = {**family.to_published(state), "score.weight": folded.head_weight.contiguous()}
    write_tensor_file(folder / "model.safetensors", tensors)
    write_config_and_tokenizer(folder, predictor, tokenizer)
    card = RunDir(run).path / "README.md"
    if card.is_file():
        text, alone = card.read_text("utf-8"), metrics_of_gpt(run)
        text = card_of_gpt(text, alone) if alone else text
        write_text(folder / "README.md", as_card(text, predictor, is_part=alone is not None))


def write_config_and_tokenizer(folder: Path, predictor: Predictor, tokenizer: ExportedTokenizer) -> None:
    """Write what transformers reads beside the weights: config.json and the tokenizer's two files."""
    classifier, config = predictor.classifier, predictor.classifier.config
    family = family_of(classifier.decoder.config)
    ids = {str(label_id): label for label_id, label in enumerate(config.labels)}
    content: dict[str, Any] = {
        **family.write_config(classifier.decoder.config.without_lm_head()),
        "architectures": [family.classifier_architecture],
        "num_labels": len(ids),
        "id2label": ids,
        "label2id": {label: int(label_id) for label_id, label in ids.items()},
        "eos_token_id": config.end_of_text_id,
        "bos_token_id": config.end_of_text_id,
        "pad_token_id": tokenizer.pad_id,
        "problem_type": config.task.problem_type,
        "dtype": "float32",
    }
    write_text(folder / "config.json", _json(content))
    write_text(folder / "tokenizer.json", _json(tokenizer.content))
    write_text(folder / "tokenizer_config.json", _json(tokenizer.settings()))


def _json(content: Any) -> str:
    return to_json(content, indent=1) + "\n"


USE = """

## In transformers

```python
from transformers import pipeline

classify = pipeline("text-classification", model="{name}")
text = "a text"
print(classify({text}, truncation=True))
```
{empty}
{inside} in the weights, so the scores are those of {source}.{rule}
"""
EMPTY = """
transformers turns an empty text into no tokens, and fails or predicts something else. To get the prediction of
`lasttoken predict`, pass the end-of-text token instead, as above.
"""


def as_card(card: str, predictor: Predictor, name: str = "THIS FOLDER", is_part: bool = False) -> str:
    """A run's model card with a section on using the export; the library in its metadata is transformers.

    `is_part`: the export holds the GPT of a classifier that contains n-grams.
    """
    config = predictor.classifier.config
    card = card.replace('library_name: "lasttoken"', 'library_name: "transformers"', 1)
    rule = config.task.rule_for_scores(config.decision)
    text, empty = ("text", "") if config.n_frame else (f'text or "{ENDING}"', EMPTY)
    source = "the classifier's GPT alone" if is_part else "`lasttoken predict`"
    inside = "Bias and temperature are" if config.head_bias else "The temperature is"
    rule = f" {rule}" if rule else ""
    return card.rstrip() + USE.format(name=name, rule=rule, text=text, empty=empty, source=source, inside=inside)


def compare_with_transformers(folder: Path, predictor: Predictor) -> float:
    """The largest difference of logits on a batch of texts of different lengths.

    Raises:
        FailedError: it is too large, or transformers cannot load the folder.
    """
    from transformers import AutoModelForSequenceClassification

    return compare(
        lambda: AutoModelForSequenceClassification.from_pretrained(folder), folder, predictor, "transformers"
    )


@torch.no_grad()
def compare(load: Callable[[], Any], folder: Path, predictor: Predictor, library: str) -> float:
    """The largest difference of logits between the model that `load` makes, with the tokenizer of `folder`, and ours.

    Raises:
        FailedError: it is too large, or `library` cannot load the folder.
    """
    from transformers import AutoTokenizer

    try:
        with quiet():
            model, tokenizer = load().eval(), AutoTokenizer.from_pretrained(folder)
        logits = np.concatenate([_logits_in(model, tokenizer, predictor, batch) for batch in PROBE_BATCHES])
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise FailedError(f"{library} cannot load the export: {error}") from error
    return largest_difference(logits, logits_of(predictor, PROBES), library)


def _logits_in(model: Any, tokenizer: Any, predictor: Predictor, texts: tuple[str, ...]) -> NDArray[np.float32]:
    """transformers' logits [N, K] of a batch of texts."""
    batch = tokenizer(
        never_empty(texts, predictor.classifier.config), padding=True, truncation=True, return_tensors="pt"
    )
    batch.pop("token_type_ids", None)
    logits: NDArray[np.float32] = model(**batch).logits.float().numpy()
    return logits
