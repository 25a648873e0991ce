"""How predictions change with precision, device and export, compared with float32 on the CPU.

Exports of a classifier that contains n-grams are compared with its GPT alone, which they hold.

flips    rows that get another label
drift    difference of probabilities: the largest, and the mean over rows of each row's largest
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lasttoken.classifier.predict import Predictor
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.columns import SPLIT_COLUMNS
from lasttoken.core.errors import LastTokenError, RunError, SettingsError
from lasttoken.data.files import read_examples
from lasttoken.export.checking import quiet
from lasttoken.export.gpt_part import load_gpt_part
from lasttoken.export.hf_tokenizer import ENDING, never_empty
from lasttoken.export.onnx import ONNX, QUANTIZED, open_session, run_session

BATCH = 16  # texts that an export gets at a time

Probs = NDArray[np.float64]


@dataclass(frozen=True)
class Verification:
    """One way to compute, compared with float32 on the CPU."""

    name: str
    n: int = 0
    flips: int = 0
    largest: float = 0.0
    mean: float = 0.0
    trouble: str | None = None  # why it could not be computed, in a sentence
    note: str | None = None  # what was changed in the texts

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def verify(run: Path, split: str = "test", exports: Sequence[Path] = ()) -> list[Verification]:
    """Compare every precision and device of this machine, and exported folders, on a run's own rows.

    Raises:
        RunError: `run` is not a finished run, or has no such split.
        SettingsError: a folder is not an export.
    """
    rows = RunDir(run).splits / f"{split}.csv"
    reference = Predictor.load(run, "cpu", "float32")
    if not rows.is_file():
        raise RunError(f"{run} has no {split} split to verify on, because there is no {rows}; give another --split")
    texts = read_examples(rows, SPLIT_COLUMNS, labelled=False).texts
    expected = probs_of(reference, texts)
    ways: dict[str, Callable[[], Probs]] = {
        name: partial(_by_us, run, how, texts) for name, how in _ways(reference).items()
    }
    by_transformers: set[str] = set()  # names of ways
    gpt = load_gpt_part(run, without_ngrams=True) if exports else reference
    expected_of_exports = expected if gpt.classifier.config == reference.classifier.config else probs_of(gpt, texts)
    of_exports: set[str] = set()
    for folder in exports:
        ways_of_export = _exports(folder, gpt, texts)
        ways |= ways_of_export
        of_exports |= set(ways_of_export)
        by_transformers |= set() if _graphs(folder) else set(ways_of_export)
    n_empty = 0 if reference.classifier.config.n_frame else texts.count("")
    note = f"it got {ENDING} in place of {n_empty:,} empty texts" if n_empty else None
    return [
        replace(
            _compare(name, compute, expected_of_exports if name in of_exports else expected),
            note=note if name in by_transformers else None,
        )
        for name, compute in ways.items()
    ]


def _ways(reference: Predictor) -> dict[str, tuple[str, str]]:
    """Names of devices with precisions, and the two arguments that load a run so."""
    ways = {"cpu bfloat16": ("cpu", "bfloat16")}
    if reference.classifier.n_frozen is not None:
        ways = {"cpu int8": ("cpu", "int8"), **ways}
    for device, is_available in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if is_available:
            ways |= {f"{device} {precision}": (device, precision) for precision in ("float32", "bfloat16")}
    return ways


def _exports(folder: Path, reference: Predictor, texts: Sequence[str]) -> dict[str, Callable[[], Probs]]:
    if graphs := _graphs(folder):
        return {f"{folder.name}/{name}": partial(_by_onnx, folder / name, reference, texts) for name in graphs}
    if (folder / "config.json").is_file() and (folder / "tokenizer_config.json").is_file():
        return {folder.name: lambda: _by_transformers(folder, reference, texts)}
    raise SettingsError(f"--export {folder} is not a folder that `lasttoken export` wrote")


def _graphs(folder: Path) -> list[str]:
    return [name for name in (ONNX, QUANTIZED) if (folder / name).is_file()]


def _by_us(run: Path, how: tuple[str, str], texts: Sequence[str]) -> Probs:
    return probs_of(Predictor.load(run, *how), texts)


def probs_of(predictor: Predictor, texts: Sequence[str]) -> Probs:
    """Probabilities [N, K]."""
    return np.exp(predictor.log_probs(predictor.encode(texts)).astype(np.float64))


def _by_onnx(path: Path, reference: Predictor, texts: Sequence[str]) -> Probs:
    session = open_session(path)
    parts = [
        run_session(session, reference, tuple(texts[start : start + BATCH]))[1] for start in range(0, len(texts), BATCH)
    ]
    return np.concatenate(parts).astype(np.float64)


@torch.no_grad()
def _by_transformers(folder: Path, reference: Predictor, texts: Sequence[str]) -> Probs:
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError as error:
        raise SettingsError("transformers is not installed here; pip install transformers") from error
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
    config = reference.classifier.config
    function, texts = config.task.probability_function, never_empty(texts, config)
    parts = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(texts[start : start + BATCH], padding=True, truncation=True, return_tensors="pt")
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double()
        parts.append((logits.sigmoid() if function == "sigmoid" else logits.softmax(-1)).numpy())
    return np.concatenate(parts)


def _compare(name: str, compute: Callable[[], Probs], expected: Probs) -> Verification:
    try:
        probs = compute()
    except LastTokenError as error:
        return Verification(name, trouble=str(error))
    differences = np.abs(probs - expected)
    flips = int((probs.argmax(1) != expected.argmax(1)).sum())
    return Verification(name, len(probs), flips, float(differences.max()), float(differences.max(axis=1).mean()))
