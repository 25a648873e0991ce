"""The input of a run becomes its splits.

one file or table      ──► balanced and split by the recipe
a folder of splits     ──► used unchanged
--validation, --test   ──► used unchanged; without them, validation is cut from train and there is no test split
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lasttoken.core.config import Settings
from lasttoken.data.book import read_for_book, split_as_chapter
from lasttoken.data.cleaning import clean_labels
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.folders import read_like, read_splits
from lasttoken.data.label_tables import label_counts, label_sets
from lasttoken.data.layouts import read_layout
from lasttoken.data.splitting.cutting import cut_validation, split_examples
from lasttoken.data.splitting.splits import Splits, check_splits, count_shared_texts
from lasttoken.data.splitting.undersampling import undersample
from lasttoken.data.tables.formats import format_named
from lasttoken.data.tables.options import ReadOptions

Say = Callable[[str], None]


def gather_splits(data: Path | Examples | Splits, settings: Settings, say: Say) -> Splits:
    """The train, validation and, if there is one, test split; `say` gets what was guessed, merged or undersampled.

    The chapter balances all rows and then splits them. The default recipe undersamples the train split only, so that
    validation and test keep their label frequencies. The book recipe never balances splits that the user provides.

    Raises:
        DataError: files that cannot be read, or rows that cannot be split.
        SettingsError: an unknown file format.
    """
    if settings.format:
        format_named(settings.format)  # reports an unknown name before any file is read
    reading: dict[str, Any] = {"options": ReadOptions.of(settings), "separator": settings.separator}
    if isinstance(data, Path) and data.is_dir():
        data = read_layout(data, settings.columns, reading) or data
    read = _read(data, settings, reading, say)
    facts = {"left_out": [split.left_out.to_json() for split in read.named().values() if split.left_out]}
    cleaned = clean_labels(replace(read, facts=facts if facts["left_out"] else {}), settings.min_rows)
    splits = _split(cleaned, settings, say) if _is_whole(data, settings) else cleaned
    if splits.validation is None:
        cut = cut_validation(splits.train, settings.validation_fraction, settings.seed)
        facts = {**splits.facts, **cut.facts}
        notes = (*splits.notes, *cut.notes)
        splits = replace(
            splits, train=cut.train, validation=cut.validation, notes=notes, facts=facts, validation_is_cut=True
        )
        say(
            f"validation: {len(cut.named()['validation']):,} rows cut from train (--validation-fraction "
            f"{settings.validation_fraction:g})"
        )
    check_splits(splits)
    if settings.train_balance == "undersample":
        before, undersampled = label_counts(splits.train), undersample(splits.train, settings.seed)
        splits = replace(splits, train=undersampled, label_counts=before)
        say(f"train was undersampled from {counts_in_words(before)} to {counts_in_words(label_counts(undersampled))}")
    for sentence in dict.fromkeys([*splits.notes, *_about_sets(splits)]):
        say(sentence)
    return splits


def _about_sets(splits: Splits) -> list[str]:
    """How many labels the texts of train have where a text may have any number; else labels that look like several."""
    separator = splits.train.separator
    if separator is None:
        return _about_separators(label_counts(splits.train))
    sizes = np.bincount([len(labels) for labels in label_sets(splits.train)])
    by_size = ", ".join(f"{size}: {n:,} {'row' if n == 1 else 'rows'}" for size, n in enumerate(sizes.tolist()) if n)
    sentence = f"labels per train row: {by_size}"
    if len(sizes) > 2:
        return [sentence]
    return [f"{sentence}; no row has two labels: is {separator!r} the right separator (--label-separator)?"]


def _about_separators(labels: Collection[str]) -> list[str]:
    """A note about labels that contain the usual separator of several labels.

    >>> _about_separators(["food", "price"]), len(_about_separators(["food", "food|price"]))
    ([], 1)
    """
    separator = Settings.label_separator
    several = [label for label in labels if separator in label.strip(separator)]
    if not several:
        return []
    verbs = ("contains", "is") if len(several) == 1 else ("contain", "are each")
    return [
        f"{len(several):,} of {len(labels):,} labels {verbs[0]} {separator!r}, such as {several[0]!r}, and {verbs[1]} "
        "read as one label; if texts have several labels, pass --multi-label"
    ]


def _is_whole(data: Path | Examples | Splits, settings: Settings) -> bool:
    """Whether the data is one table that is still to be split."""
    is_table = isinstance(data, Examples) or (isinstance(data, Path) and not data.is_dir())
    return is_table and not (settings.validation or settings.test)


def _read(data: Path | Examples | Splits, settings: Settings, reading: dict[str, Any], say: Say) -> Splits:
    """The input with the notes of all its files; a table that is still to be split becomes train."""
    columns = settings.columns
    if isinstance(data, Splits):
        notes = (note for examples in data.named().values() for note in examples.notes)
        splits = replace(data, notes=tuple(dict.fromkeys((*data.notes, *notes))))
    elif isinstance(data, Examples):
        splits = Splits(data, None, None, data.notes)
    elif data.is_dir():
        splits = read_splits(data, columns, **reading)
    elif settings.handling.quotes_in_tsv and _is_whole(data, settings):
        train = read_for_book(data, columns, options=reading["options"])
        splits = Splits(train, None, None, train.notes)
    else:
        train = read_examples(data, columns, **reading)
        splits = Splits(train, None, None, train.notes)
    for name in ("validation", "test"):
        if path := getattr(settings, name):
            if getattr(splits, name) is not None:
                say(f"the {name} split of {data} is not used: --{name} {path} replaces it")
            examples = read_like(splits.train, Path(path), columns, **reading)
            splits = replace(splits, notes=(*splits.notes, *examples.notes))
            splits = replace(splits, validation=examples) if name == "validation" else replace(splits, test=examples)
    return splits


def _split(whole: Splits, settings: Settings, say: Say) -> Splits:
    """The splits of a table, by the recipe."""
    examples = whole.train
    fractions = {name: getattr(settings, name) for name in ("train_fraction", "validation_fraction", "seed")}
    if settings.handling.chapter_split:
        balance = settings.balance == "undersample"
        splits, counts = split_as_chapter(examples, balance=balance, **fractions)
        after = f"balanced to {counts_in_words(counts.balanced)}" if balance else "not balanced"
        say(f"the book's recipe: {counts.n_rows:,} rows ({counts_in_words(counts.labels)}), {after}")
        return replace(splits, notes=whole.notes, facts=whole.facts, validation_is_cut=True)
    splits = split_examples(examples, **fractions)
    counted = f"{examples.source or 'the data'} has {len(examples):,} rows ({counts_in_words(label_counts(examples))})"
    facts = {**whole.facts, **splits.facts}
    return replace(splits, notes=(*whole.notes, counted, *splits.notes), facts=facts, validation_is_cut=True)


def shared_with_train(splits: Splits) -> dict[str, int]:
    """Rows of validation and of test whose exact text is also in train."""
    return {
        name: count_shared_texts(splits.train, examples) for name, examples in splits.named().items() if name != "train"
    }


def counts_in_words(counts: dict[str, int]) -> str:
    """Label counts for a sentence; only their range when there are many.

    >>> counts_in_words({"ham": 4825, "spam": 747})
    'ham 4,825, spam 747'
    """
    if len(counts) > 8:
        least, most = min(counts.values()), max(counts.values())
        return f"{len(counts):,} labels of {f'{least:,} to {most:,}' if least != most else f'{least:,}'} rows"
    return ", ".join(f"{label} {n:,}" for label, n in counts.items())
