"""A look at labelled splits before training: what makes figures untrustworthy, and what is worth knowing.

    splits ─► rows that are empty, hardly text or damaged     findings: a figure measured on these rows may be wrong
           ─► duplicates, conflicting labels, leaks           notes:    true of the data, and no mistake by itself
           ─► labels in several spellings
           ─► shortcuts: length, one word

Findings, worst first: leaks between splits; the same text with different labels; a shortcut that nearly is the label;
rows without text or label; damaged characters. Duplicates within a split, imbalance, long texts, rows that are hardly
text and weaker shortcuts are notes: real data has them. Rows are counted from 1 without the header, as in all messages.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.audit.shortcuts import Shortcut, find_shortcuts
from lasttoken.audit.text_quality import damage_in, hardly_text, script_shares
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.core.columns import UNNAMED, ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.core.spelling import is_blank, label_key
from lasttoken.data.files import Examples
from lasttoken.data.folders import read_files, split_files, split_name
from lasttoken.data.labels import Merge, merges_of, natural_order, warn_about_labels
from lasttoken.data.layouts import read_layout
from lasttoken.data.near_duplicates import Indices, Likeness, likeness, normalise, similarity
from lasttoken.data.options import DEFAULT, ReadOptions
from lasttoken.data.splits import SPLIT_NAMES, Splits, label_sets

CHUNK = 4096  # texts tokenized at a time
MOST_COMPARED = 10  # texts of a component, to show the one that is most like a leaked text
KINDS = {
    "exact": "the same text",
    "normalised": "the same but for case, digits or punctuation",
    "near": "nearly the same",
}
MOST_WORDS = 3  # strong words told in sentences; all are in the JSON
IMBALANCED = 10  # times as many rows of one label as of another


@dataclass(frozen=True)
class Row:
    """A row of a split, counted from 1."""

    split: str
    row: int
    text: str
    label: str


@dataclass(frozen=True)
class Conflict:
    """Rows of one text with different labels.

    `kind` is exact, or normalised: the texts differ only in case or space. Texts that differ in digits or punctuation
    are not one text, as these may tell the labels apart: their kind is digits or punctuation, in `Audit.variants`.
    """

    kind: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Leak:
    """A row, a row of an earlier split that is the same text, and by the strictest meaning that holds."""

    kind: str
    row: Row
    earlier: Row


@dataclass(frozen=True)
class Listed:
    """A row behind a finding; of a leak with the row of an earlier split that it is like."""

    where: str
    text: str
    label: str = ""
    like: str = ""
    like_text: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """What there is of it, for a table."""
        return tuple(filter(None, (self.where, self.label, self.text, self.like, self.like_text)))


@dataclass(frozen=True)
class Lengths:
    """Percentiles of the lengths of texts, in characters or tokens."""

    p5: int
    p50: int
    p95: int
    longest: int


@dataclass(frozen=True)
class Cut:
    """What a backbone of `max_length` tokens would not read."""

    max_length: int
    n_texts: int
    n_tokens: int


@dataclass(frozen=True)
class SplitAudit:
    """What one split is like. Rows are numbers from 1; `repeats` counts rows that repeat an earlier one in it."""

    n: int
    labels: dict[str, int]
    imbalance: float | None  # rows of the commonest label for one of the rarest; None without two labels
    characters: Lengths
    tokens: Lengths | None
    cut: Cut | None
    scripts: dict[str, float]
    empty: tuple[int, ...]
    blank: tuple[int, ...]  # only space
    unlabelled: tuple[int, ...]
    hardly_text: tuple[int, ...]
    damaged: dict[int, str]  # row: what was decoded wrongly
    repeats: dict[str, int]  # by kind, each counting the stricter ones too


@dataclass(frozen=True)
class Audit:
    """What was found in N rows of all splits."""

    splits: dict[str, SplitAudit]
    conflicts: tuple[Conflict, ...]
    leaks: tuple[Leak, ...]
    shortcuts: tuple[Shortcut, ...]
    variants: tuple[Conflict, ...]  # texts with different labels that are equal but for digits or punctuation
    merges: tuple[Merge, ...]  # spellings of one label
    near_labels: tuple[str, ...]  # sentences about labels that differ only by case or the like
    alike: Likeness  # of all rows, end to end in the order of the splits

    def findings(self) -> tuple[str, ...]:
        """Sentences about what makes figures untrustworthy, worst first."""
        conflicts = self._conflicts_in_words()
        return (*self._leaks_in_words(), *conflicts, *self._decisive(), *self.near_labels, *self._faults())

    def notes(self) -> tuple[str, ...]:
        """Sentences about what is worth knowing and no mistake by itself."""
        weaker = [one.sentence() for one in self.shortcuts if one.is_strong and not one.is_decisive]
        remarks = (line for name, split in self.splits.items() for line in _remarks(name, split))
        spelled = (merge.sentence() for merge in self.merges)
        imbalance = _imbalance(*next(iter(self.splits.items())))
        return (*imbalance, *spelled, *self._variants_in_words(), *weaker[:MOST_WORDS], *remarks)

    def sentences(self) -> tuple[str, ...]:
        """Findings, then notes."""
        return (*self.findings(), *self.notes())

    def n_leaks(self) -> dict[tuple[str, str], dict[str, int]]:
        """Leaked rows of each pair (split, earlier split), by kind, most first; a row counts once for a pair."""
        counted: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for leak in self.leaks:
            counted[leak.row.split, leak.earlier.split][leak.kind] += 1
        return {
            pair: {kind: kinds[kind] for kind in KINDS}
            for pair, kinds in sorted(counted.items(), key=lambda item: -item[1].total())
        }

    def split_rows(self, kind: str = "near") -> dict[str, Indices]:
        """For each split, the component of each of its rows (N of the split,): rows of one component are one text."""
        ends = np.cumsum([split.n for split in self.splits.values()])
        return dict(zip(self.splits, np.split(self.alike.by_kind()[kind], ends[:-1]), strict=True))

    def leaked_rows(self, kind: str = "near") -> dict[str, NDArray[np.bool_]]:
        """For each split but the first (train): which of its rows are also in the first.

        `kind` is "exact", "normalised" or "near"; each holds the stricter ones too.
        """
        (_, first), *others = self.split_rows(kind).items()
        return {name: np.isin(part, first) for name, part in others}

    def lists(self) -> dict[str, list[Listed]]:
        """The rows behind the findings, by what they are."""
        leaks = {
            f"leaks: rows of {split} that are in {earlier}, {KINDS[kind]}": [
                Listed(place(leak.row), leak.row.text, like=place(leak.earlier), like_text=leak.earlier.text)
                for leak in self.leaks
                if (leak.row.split, leak.earlier.split, leak.kind) == (split, earlier, kind)
            ]
            for (split, earlier), kinds in self.n_leaks().items()
            for kind in KINDS
        }
        conflicts = [Listed(place(row), row.text, row.label) for conflict in self.conflicts for row in conflict.rows]
        damaged = [
            Listed(f"row {row} of {name}", damage)
            for name, split in self.splits.items()
            for row, damage in split.damaged.items()
        ]
        found = {
            **leaks,
            "one text, different labels": conflicts,
            "characters decoded wrongly": damaged,
        }
        return {title: rows for title, rows in found.items() if rows}

    def to_json(self) -> dict[str, Any]:
        """Everything, with every row, as plain JSON."""
        leaks = [{"split": split, "earlier": earlier, **kinds} for (split, earlier), kinds in self.n_leaks().items()]
        shortcuts = [{**asdict(one), "strong": one.is_strong, "decisive": one.is_decisive} for one in self.shortcuts]
        return {
            "findings": list(self.findings()),
            "notes": list(self.notes()),
            "splits": {name: asdict(split) for name, split in self.splits.items()},
            "n_leaks": leaks,
            "leaks": [asdict(leak) for leak in self.leaks],
            "conflicts": [asdict(conflict) for conflict in self.conflicts],
            "variants": [asdict(conflict) for conflict in self.variants],
            "merged_labels": [merge.to_json() for merge in self.merges],
            "shortcuts": shortcuts,
        }

    def _leaks_in_words(self) -> list[str]:
        return [
            f"{counted(sum(kinds.values()), f'row of {split} is', f'rows of {split} are')} in {earlier} too: "
            + ", ".join(f"{n:,} {KINDS[kind]}" for kind, n in kinds.items() if n)
            + f"; the figures of {split} flatter"
            for (split, earlier), kinds in self.n_leaks().items()
        ]

    def _conflicts_in_words(self) -> list[str]:
        n_rows = sum(len(conflict.rows) for conflict in self.conflicts)
        if not n_rows:
            return []
        texts = counted(len(self.conflicts), "text has", "texts have")
        return [f"{texts} different labels in different rows ({n_rows:,} rows)"]

    def _variants_in_words(self) -> list[str]:
        found = []
        for kind in ("digits", "punctuation"):
            of_kind = [variant for variant in self.variants if variant.kind == kind]
            n_rows = sum(len(variant.rows) for variant in of_kind)
            if of_kind:
                found.append(
                    f"{counted(len(of_kind), 'group', 'groups')} of texts that are equal but for {kind} "
                    f"{'has' if len(of_kind) == 1 else 'have'} different labels ({n_rows:,} rows); that is right where "
                    f"the {kind} tell the labels apart"
                )
        return found

    def _decisive(self) -> list[str]:
        return [one.sentence() for one in self.shortcuts if one.is_decisive]

    def _faults(self) -> list[str]:
        found = []
        for name, split in self.splits.items():
            faults = (
                (split.empty, f"row of {name} is empty", f"rows of {name} are empty"),
                (split.blank, f"row of {name} is only space", f"rows of {name} are only space"),
                (split.unlabelled, f"row of {name} has no label", f"rows of {name} have no label"),
                (
                    tuple(split.damaged),
                    f"row of {name} has characters that were decoded wrongly",
                    f"rows of {name} have characters that were decoded wrongly",
                ),
            )
            found += [f"{counted(len(rows), *words)} ({rows_in_words(rows)})" for rows, *words in faults if rows]
        return found


def place(row: Row) -> str:
    """How a list names a row."""
    return f"row {row.row} of {row.split}"


def counted(n: int, one: str, many: str) -> str:
    """A number with its noun.

    >>> counted(1, "row is", "rows are"), counted(1200, "row is", "rows are")
    ('1 row is', '1,200 rows are')
    """
    return f"{n:,} {one if n == 1 else many}"


def rows_in_words(rows: Sequence[int], most: int = 10) -> str:
    """Row numbers for a sentence, the first few of many; without separators, as they stand in lists.

    >>> rows_in_words([3]), rows_in_words(range(1, 14), most=2)
    ('row 3', 'rows 1, 2 and 11 more')
    """
    rest = len(rows) - most
    shown = ", ".join(str(row) for row in rows[:most])
    return f"{'row' if len(rows) == 1 else 'rows'} {shown}" + (f" and {rest:,} more" if rest > 0 else "")


def _imbalance(name: str, split: SplitAudit) -> list[str]:
    if not split.imbalance or split.imbalance < IMBALANCED:
        return []
    most, least = max(split.labels, key=split.labels.__getitem__), min(split.labels, key=split.labels.__getitem__)
    return [
        f"{name} has {split.imbalance:,.0f} times as many rows of {most!r} as of {least!r}: accuracy alone says little"
    ]


def _remarks(name: str, split: SplitAudit) -> list[str]:
    found = []
    exact, normalised, near = split.repeats.values()
    if near:
        more = [
            f"{n:,} more {words}"
            for n, words in ((normalised - exact, "but for case, digits or punctuation"), (near - normalised, "nearly"))
            if n
        ]
        found.append(
            f"{counted(exact, 'row', 'rows')} of {name} {'repeats' if exact == 1 else 'repeat'} an earlier row"
            + "".join(f", {part}" for part in more)
        )
    if split.cut and split.cut.n_texts:
        found.append(
            f"{counted(split.cut.n_texts, 'text', 'texts')} of {name} would be cut to {split.cut.max_length:,} tokens:"
            f" {split.cut.n_tokens:,} tokens would not be read"
        )
    if split.hardly_text:
        n = len(split.hardly_text)
        found.append(
            f"{counted(n, 'row', 'rows')} of {name} {'is' if n == 1 else 'are'} hardly text"
            f" ({rows_in_words(split.hardly_text)})"
        )
    return found


# Looking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """All splits end to end."""

    names: list[str]
    texts: list[str]
    labels: list[str]
    starts: Indices  # where each split starts, and the last ends

    @classmethod
    def of(cls, splits: Mapping[str, Examples]) -> _Rows:
        texts = [text for examples in splits.values() for text in examples.texts]
        labels = [label for examples in splits.values() for label in examples.labels or [""] * len(examples)]
        starts = np.concatenate(([0], np.cumsum([len(examples) for examples in splits.values()]))).astype(np.intp)
        return cls(list(splits), texts, labels, starts)

    def split_of(self, at: int) -> int:
        return int(np.searchsorted(self.starts, at, side="right")) - 1

    def row(self, at: int) -> Row:
        split = self.split_of(at)
        return Row(self.names[split], at - int(self.starts[split]) + 1, self.texts[at], self.labels[at])


def audit(
    splits: Mapping[str, Examples],
    *,
    tokenizer: Tokenizer | None = None,
    max_length: int | None = None,
) -> Audit:
    """Look at splits; shortcuts are looked for in the first, but not where a text has any number of labels.

    Rows without a label, or with "", are reported.

    Args:
        tokenizer, max_length: to tell lengths in tokens, and what a backbone would cut.
    """
    rows = _Rows.of(splits)
    alike = likeness(rows.texts)
    found = {
        name: _look(examples, {kind: ids[a:b] for kind, ids in alike.by_kind().items()}, tokenizer, max_length)
        for (name, examples), a, b in zip(splits.items(), rows.starts[:-1], rows.starts[1:], strict=True)
    }
    filled = np.fromiter((not is_blank(text) for text in rows.texts), np.bool_, len(rows.texts))
    first = slice(0, int(rows.starts[1]))
    several = any(examples.separator is not None for examples in splits.values())
    shortcuts = () if several else find_shortcuts(rows.texts[first], rows.labels[first], alike.near[first])
    conflicts, variants = _conflicts(rows, alike, filled)
    by_split = [Counter(label for of_row in _sets(examples) for label in of_row) for examples in splits.values()]
    merges = merges_of(by_split[0], sum(by_split[1:], Counter()))
    near = warn_about_labels(_merged(sum(by_split, Counter()), merges))
    leaks = _leaks(rows, alike, filled)
    return Audit(found, conflicts, leaks, shortcuts, variants, tuple(merges), tuple(near), alike)


def _sets(examples: Examples) -> list[tuple[str, ...]]:
    """The labels of each row, without blank ones."""
    sets = label_sets(examples) if examples.labels is not None else []
    return [tuple(label for label in of_row if not is_blank(label)) for of_row in sets]


def _merged(counts: Counter[str], merges: Sequence[Merge]) -> Counter[str]:
    spelled = {spelling: merge.label for merge in merges for spelling in merge.spellings}
    merged: Counter[str] = Counter()
    for label, n in counts.items():
        merged[spelled.get(label, label)] += n
    return merged


def _look(
    examples: Examples, ids: Mapping[str, Indices], tokenizer: Tokenizer | None, max_length: int | None
) -> SplitAudit:
    texts, labels = examples.texts, examples.labels or [""] * len(examples)
    counts = Counter(label for of_row in _sets(examples) for label in of_row)
    n_tokens = _token_counts(texts, tokenizer) if tokenizer else None
    return SplitAudit(
        n=len(texts),
        labels={label: counts[label] for label in natural_order(counts)},
        imbalance=max(counts.values()) / min(counts.values()) if len(counts) > 1 else None,
        characters=_lengths(np.fromiter(map(len, texts), np.intp, len(texts))),
        tokens=None if n_tokens is None else _lengths(n_tokens),
        cut=None if n_tokens is None or max_length is None else _cut(n_tokens, max_length),
        scripts=script_shares(texts),
        empty=_where(texts, lambda text: not text),
        blank=_where(texts, lambda text: bool(text) and is_blank(text)),
        unlabelled=_where(labels, is_blank) if examples.separator is None else (),
        hardly_text=tuple((np.flatnonzero(hardly_text(texts)) + 1).tolist()),
        damaged={row: damage for row, text in enumerate(texts, 1) if (damage := damage_in(text))},
        repeats={kind: len(texts) - len(np.unique(of_kind)) for kind, of_kind in ids.items()},
    )


def _where(values: Sequence[str], is_so: Callable[[str], bool]) -> tuple[int, ...]:
    return tuple(row for row, value in enumerate(values, 1) if is_so(value))


def _lengths(n: Indices) -> Lengths:
    """Percentiles that occur; zeros for no texts."""
    if not len(n):
        return Lengths(0, 0, 0, 0)
    return Lengths(*np.percentile(n, [5, 50, 95, 100], method="nearest").astype(int).tolist())


def _token_counts(texts: Sequence[str], tokenizer: Tokenizer) -> Indices:
    parts = (texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK))
    return np.array([len(ids) for part in parts for ids in tokenizer.encode_many(part)], np.intp)


def _cut(n_tokens: Indices, max_length: int) -> Cut:
    over = np.maximum(n_tokens - max_length, 0)
    return Cut(max_length, int((over > 0).sum()), int(over.sum()))


def _conflicts(
    rows: _Rows, alike: Likeness, filled: NDArray[np.bool_]
) -> tuple[tuple[Conflict, ...], tuple[Conflict, ...]]:
    """Texts with different labels, in the order of their first rows: equal ones, and those that are nearly so."""
    usable = np.flatnonzero(filled & np.fromiter((not is_blank(label) for label in rows.labels), np.bool_, len(filled)))
    key_of = {label: label_key(label) for label in set(rows.labels)}
    label_ids = np.unique([key_of[rows.labels[at]] for at in usable.tolist()], return_inverse=True)[1]
    ids = alike.normalised[usable]
    pairs = np.unique(np.stack([ids, label_ids], axis=1), axis=0)[:, 0] if len(usable) else ids
    several, n_labels = np.unique(pairs, return_counts=True)
    conflicts, variants = [], []
    for members in _groups(usable[np.isin(ids, several[n_labels > 1])], alike.normalised):
        by_text: dict[str, list[int]] = defaultdict(list)
        for row in members:
            by_text[" ".join(rows.texts[row].casefold().split())].append(row)
        apart = [of_text for of_text in by_text.values() if len({key_of[rows.labels[at]] for at in of_text}) > 1]
        for of_text in apart:
            is_exact = len(set(alike.exact[of_text].tolist())) == 1
            conflicts.append(Conflict("exact" if is_exact else "normalised", tuple(map(rows.row, of_text))))
        if not apart:
            digits = {"".join(re.findall(r"\d", rows.texts[row])) for row in members}
            kind = "digits" if len(digits) > 1 else "punctuation"
            variants.append(Conflict(kind, tuple(map(rows.row, members))))
    return tuple(conflicts), tuple(variants)


def _groups(at: Indices, ids: Indices) -> list[list[int]]:
    """Rows of the same id together, in the order of the first."""
    by_id: dict[int, list[int]] = defaultdict(list)
    for row in at.tolist():
        by_id[int(ids[row])].append(row)
    return list(by_id.values())


def _leaks(rows: _Rows, alike: Likeness, filled: NDArray[np.bool_]) -> tuple[Leak, ...]:
    """Rows that are in an earlier split too: one for each earlier split, by the strictest meaning that holds."""
    found = []
    split = np.repeat(np.arange(len(rows.names)), np.diff(rows.starts))
    for late in range(1, len(rows.names)):
        for early in range(late):
            remaining = filled & (split == late)
            for kind, ids in alike.by_kind().items():
                known = filled & (split == early)
                leaked = np.flatnonzero(remaining & np.isin(ids, ids[known]))
                remaining[leaked] = False
                known &= np.isin(ids, ids[leaked])
                members = {int(ids[group[0]]): group for group in _groups(np.flatnonzero(known), ids)}
                for at in leaked.tolist():
                    earlier = _most_like(rows.texts[at], members[int(ids[at])], rows.texts, kind)
                    found.append(Leak(kind, rows.row(at), rows.row(earlier)))
    return tuple(found)


def _most_like(text: str, members: list[int], texts: list[str], kind: str) -> int:
    if kind != "near" or len(members) == 1:
        return members[0]
    key = normalise(text)
    return max(members[:MOST_COMPARED], key=lambda at: similarity(key, normalise(texts[at])))


# Reading ----------------------------------------------------------------------------------------------------------


def read_for_audit(
    paths: Sequence[Path],
    asked: ColumnSpec = UNNAMED,
    *,
    options: ReadOptions = DEFAULT,
    separator: str | None = None,
) -> dict[str, Examples]:
    """Files as splits by name, train first: one folder of splits, or files; rows may lack their text or label.

    A file is the split that its name says (train, validation or test, whatever its suffix), else goes by its name.

    Raises:
        DataError: no such file, one that cannot be read, a folder without splits, or one file twice.
    """
    reading: dict[str, Any] = {"options": options, "separator": separator, "keep_blank": True}
    if len(paths) == 1 and paths[0].is_dir() and (layout := read_layout(paths[0], asked, reading)):
        return layout.named() if isinstance(layout, Splits) else {paths[0].name: layout}
    named = _folder_files(paths[0]) if len(paths) == 1 and paths[0].is_dir() else _named(paths)
    order = sorted(named, key=lambda name: SPLIT_NAMES.index(name) if name in SPLIT_NAMES else len(SPLIT_NAMES))
    files = {name: named[name] for name in order}
    return read_files(files, asked, **reading)


def _folder_files(folder: Path) -> dict[str, Path]:
    found = split_files(folder)
    if not found:
        raise DataError(
            f"{folder} holds no train.csv, validation.csv or test.csv (or .tsv, .jsonl, .parquet); name files"
        )
    return found


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        name = split_name(path) or path.name
        name = str(path) if name in found else name
        if name in found:
            raise DataError(f"{path} is named twice; name each file once")
        found[name] = path
    return found
