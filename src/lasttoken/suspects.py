"""Likely label errors of a data set: every row judged by a classifier that was trained without it.

rows ─► trunk, once ─► k folds ─► out-of-fold probabilities [N, K] ─► confident learning ─► rows ranked, as CSV
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lasttoken.config import Settings
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.folders import csv_line, read_splits
from lasttoken.data.options import ReadOptions
from lasttoken.data.splits import Splits, labels_of
from lasttoken.evaluation.suspects import Suspects, rank_suspects
from lasttoken.model.pretrained import load_backbone
from lasttoken.runtime import pick_machine, quicken_cpu
from lasttoken.storage import write_text
from lasttoken.talk import Talk
from lasttoken.training.features import FeatureCache, TrunkPass
from lasttoken.training.prepare import features_of, prepare
from lasttoken.training.repeat import Repeater, out_of_fold


@dataclass(frozen=True)
class Suspect:
    """A row whose label looks wrong; `row` counts from 1, as the data has it."""

    row: int
    text: str
    label: str
    suggested: str
    margin: float  # probability of the given label less that of the likeliest other, -1 to 1


def find_suspects(data: Path, settings: Settings, n_folds: int, offline: bool, talk: Talk) -> tuple[list[Suspect], int]:
    """All rows of a file (or of a folder's train split), the most suspect first, and how many are estimated wrong.

    Raises:
        UserError, FailedError: as a training.
    """
    quicken_cpu()
    examples = _read(data, settings)
    for note in examples.notes:
        talk.say(note)
    backbone = load_backbone(settings.backbone, offline)
    settings = settings.with_rate_for(backbone.config.n_embd)
    machine = pick_machine(settings.device, settings.precision)
    prepared = prepare(Splits(examples, None, None), backbone, settings, machine, talk.say)
    cache = None if settings.no_cache else FeatureCache(settings.cache_limit_bytes)
    trunk = TrunkPass(prepared.classifier, machine, cache=cache, say=talk.say)
    repeater = Repeater(prepared, features_of(prepared, trunk, talk))
    with talk.bar("folds", n_folds) as advance:
        log_probs = out_of_fold(repeater, settings, n_folds, lambda done: advance(done, ""))
    found = rank_suspects(log_probs, repeater.truth)
    return _ranked(examples, prepared.labels, found), found.n_estimated


def _read(data: Path, settings: Settings) -> Examples:
    if data.is_dir():
        return read_splits(data, settings.columns, options=ReadOptions.of(settings)).train
    return read_examples(data, settings.columns, options=ReadOptions.of(settings))


def _ranked(examples: Examples, labels: tuple[str, ...], found: Suspects) -> list[Suspect]:
    given = labels_of(examples)
    return [
        Suspect(row + 1, examples.texts[row], given[row], labels[found.suggested[row]], float(found.margins[row]))
        for row in found.order.tolist()
    ]


def write_suspects(path: Path, suspects: list[Suspect]) -> None:
    """A CSV to review, the most suspect row first.

    Raises:
        StorageError: no permission, or a full disk.
    """
    lines = [("rank", "row", "label", "suggested", "margin", "text")]
    lines += [
        (str(rank), str(one.row), one.label, one.suggested, f"{one.margin:.4f}", one.text)
        for rank, one in enumerate(suspects, 1)
    ]
    write_text(path, "".join(map(csv_line, lines)))
