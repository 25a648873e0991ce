"""What changes when a run's classifier leaves: every precision, device and export against float32 on the CPU.

flips    rows that get another label
drift    by how much probabilities differ, at most and in the mean
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
from lasttoken.export.hf import ENDING, never_empty, quiet
from lasttoken.export.onnx import ONNX, QUANTIZED, open_session, run_session

BATCH = 16  # texts given to an export at a time

Probs = NDArray[np.float64]


@dataclass(frozen=True)
class Checked:
    """One way to compute, against float32 on the CPU. `trouble`: why it could not be done, in a sentence."""

    name: str
    n: int = 0
    flips: int = 0
    largest: float = 0.0
    mean: float = 0.0
    trouble: str | None = None
    note: str | None = None  # what was done to the texts

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def verify(run: Path, split: str = "test", exports: Sequence[Path] = ()) -> list[Checked]:
    """Check every precision and device that this machine has, and exported folders, on a run's own rows.

    Raises:
        RunError: not a finished run, or one without such a split.
        SettingsError: a folder that is no export.
    """
    rows = RunDir(run).splits / f"{split}.csv"
    reference = Predictor.load(run, "cpu", "float32")
    if not rows.is_file():
        raise RunError(f"{run} has no {split} split to verify on ({rows}); give another --split")
    texts = read_examples(rows, SPLIT_COLUMNS, labelled=False).texts
    expected = probs_of(reference, texts)
    ways: dict[str, Callable[[], Probs]] = {
        name: partial(_by_us, run, how, texts) for name, how in _ways(reference).items()
    }
    theirs: set[str] = set()  # those that transformers computes
    for folder in exports:
        found = _exports(folder, reference, texts)
        ways |= found
        theirs |= set() if _graphs(folder) else set(found)
    n_empty = texts.count("")
    note = f"{n_empty:,} empty texts were given to it as {ENDING}" if n_empty else None
    return [
        replace(_checked(name, compute, expected), note=note if name in theirs else None)
        for name, compute in ways.items()
    ]


def _ways(reference: Predictor) -> dict[str, tuple[str, str]]:
    """Names of devices and precisions, and how to load them."""
    found = {"cpu bfloat16": ("cpu", "bfloat16")}
    if reference.classifier.n_frozen is not None:
        found = {"cpu int8": ("cpu", "int8"), **found}
    for device, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if there:
            found |= {f"{device} {precision}": (device, precision) for precision in ("float32", "bfloat16")}
    return found


def _exports(folder: Path, reference: Predictor, texts: Sequence[str]) -> dict[str, Callable[[], Probs]]:
    if graphs := _graphs(folder):
        return {f"{folder.name}/{name}": partial(_by_onnx, folder / name, reference, texts) for name in graphs}
    if (folder / "config.json").is_file() and (folder / "tokenizer_config.json").is_file():
        return {folder.name: lambda: _by_transformers(folder, reference, texts)}
    raise SettingsError(f"--export {folder} is no folder that `lasttoken export` wrote")


def _graphs(folder: Path) -> list[str]:
    return [name for name in (ONNX, QUANTIZED) if (folder / name).is_file()]


def _by_us(run: Path, how: tuple[str, str], texts: Sequence[str]) -> Probs:
    return probs_of(Predictor.load(run, *how), texts)


def probs_of(predictor: Predictor, texts: Sequence[str]) -> Probs:
    """Probabilities [N, K]."""
    return np.exp(predictor.log_probs(predictor.encode(texts)).astype(np.float64))


def _by_onnx(path: Path, reference: Predictor, texts: Sequence[str]) -> Probs:
    session = open_session(path)
    parts = [run_session(session, reference, tuple(texts[at : at + BATCH]))[1] for at in range(0, len(texts), BATCH)]
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
    function = reference.classifier.config.task.probability_function
    parts = []
    for at in range(0, len(texts), BATCH):
        batch = tokenizer(never_empty(texts[at : at + BATCH]), padding=True, truncation=True, return_tensors="pt")
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double()
        parts.append((logits.sigmoid() if function == "sigmoid" else logits.softmax(-1)).numpy())
    return np.concatenate(parts)


def _checked(name: str, compute: Callable[[], Probs], expected: Probs) -> Checked:
    try:
        found = compute()
    except LastTokenError as error:
        return Checked(name, trouble=str(error))
    apart = np.abs(found - expected)
    flips = int((found.argmax(1) != expected.argmax(1)).sum())
    return Checked(name, len(found), flips, float(apart.max()), float(apart.max(axis=1).mean()))
