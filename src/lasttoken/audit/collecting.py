"""An audit collects what is wrong with labelled splits before training.

splits ─► rows that are empty, hardly text or damaged
       ─► duplicates, conflicting labels, leaks between splits
       ─► labels in several spellings                              ──► Audit
       ─► shortcuts: the length of a text, a single word
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lasttoken.audit.audit import Audit
from lasttoken.audit.findings import AuditRow, Conflict, Leak, Lengths, SplitAudit, TokenCut
from lasttoken.audit.shortcuts import find_shortcuts
from lasttoken.audit.text_quality import damage_in, hardly_text, script_shares
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.core.spelling import is_blank, label_key
from lasttoken.data.files import Examples
from lasttoken.data.label_tables import label_sets
from lasttoken.data.labels import Merge, merges_of, natural_order, warn_about_labels
from lasttoken.data.splitting.near_duplicates import Duplicates, Indices, find_duplicates, jaccard_similarity, normalise

CHUNK = 4096  # texts tokenized at a time
MOST_COMPARED = 10  # texts of a component that are compared with a leaked text, to list the most similar one


@dataclass(frozen=True)
class _Rows:
    """The rows of all splits, one split after the other."""

    names: list[str]
    texts: list[str]
    labels: list[str]
    starts: Indices  # where each split starts, and where the last one ends

    @classmethod
    def of(cls, splits: Mapping[str, Examples]) -> _Rows:
        texts = [text for examples in splits.values() for text in examples.texts]
        labels = [label for examples in splits.values() for label in examples.labels or [""] * len(examples)]
        starts = np.concatenate(([0], np.cumsum([len(examples) for examples in splits.values()]))).astype(np.intp)
        return cls(list(splits), texts, labels, starts)

    def row(self, index: int) -> AuditRow:
        split = int(np.searchsorted(self.starts, index, side="right")) - 1
        number = index - int(self.starts[split]) + 1
        return AuditRow(self.names[split], number, self.texts[index], self.labels[index])


def audit_splits(
    splits: Mapping[str, Examples], *, tokenizer: Tokenizer | None = None, max_length: int | None = None
) -> Audit:
    """Audit splits. Shortcuts are searched in the first split, unless a text may have any number of labels.

    Rows without a label, or with "", are reported.

    Args:
        splits: examples by name, train first.
        tokenizer: counts lengths in tokens.
        max_length: the backbone's context in tokens, beyond which texts are cut.
    """
    rows = _Rows.of(splits)
    duplicates = find_duplicates(rows.texts)
    by_split = {
        name: _audit_split(
            examples, {kind: ids[a:b] for kind, ids in duplicates.by_kind().items()}, tokenizer, max_length
        )
        for (name, examples), a, b in zip(splits.items(), rows.starts[:-1], rows.starts[1:], strict=True)
    }
    filled = np.fromiter((not is_blank(text) for text in rows.texts), np.bool_, len(rows.texts))
    first = slice(0, int(rows.starts[1]))
    multilabel = any(examples.separator is not None for examples in splits.values())
    shortcuts = () if multilabel else find_shortcuts(rows.texts[first], rows.labels[first], duplicates.near[first])
    conflicts, variants = _conflicts(rows, duplicates, filled)
    counts = [_label_counts(examples) for examples in splits.values()]
    merges = merges_of(counts[0], sum(counts[1:], Counter()))
    near_labels = warn_about_labels(_merged(sum(counts, Counter()), merges))
    leaks = _leaks(rows, duplicates, filled)
    return Audit(by_split, conflicts, leaks, shortcuts, variants, tuple(merges), tuple(near_labels), duplicates)


def _label_counts(examples: Examples) -> Counter[str]:
    """Rows of each label, without blank labels."""
    sets = label_sets(examples) if examples.labels is not None else []
    return Counter(label for labels in sets for label in labels if not is_blank(label))


def _merged(counts: Counter[str], merges: Sequence[Merge]) -> Counter[str]:
    label_of = {spelling: merge.label for merge in merges for spelling in merge.spellings}
    merged: Counter[str] = Counter()
    for label, n in counts.items():
        merged[label_of.get(label, label)] += n
    return merged


# The state of one split -------------------------------------------------------------------------------------------


def _audit_split(
    examples: Examples, ids: Mapping[str, Indices], tokenizer: Tokenizer | None, max_length: int | None
) -> SplitAudit:
    texts, labels = examples.texts, examples.labels or [""] * len(examples)
    counts = _label_counts(examples)
    n_tokens = _token_counts(texts, tokenizer) if tokenizer else None
    return SplitAudit(
        n=len(texts),
        labels={label: counts[label] for label in natural_order(counts)},
        imbalance=max(counts.values()) / min(counts.values()) if len(counts) > 1 else None,
        characters=_lengths(np.fromiter(map(len, texts), np.intp, len(texts))),
        tokens=None if n_tokens is None else _lengths(n_tokens),
        cut=None if n_tokens is None or max_length is None else _token_cut(n_tokens, max_length),
        scripts=script_shares(texts),
        empty=_numbers_where(texts, lambda text: not text),
        blank=_numbers_where(texts, lambda text: bool(text) and is_blank(text)),
        unlabelled=_numbers_where(labels, is_blank) if examples.separator is None else (),
        hardly_text=tuple((np.flatnonzero(hardly_text(texts)) + 1).tolist()),
        damaged={row: damage for row, text in enumerate(texts, 1) if (damage := damage_in(text))},
        repeats={kind: len(texts) - len(np.unique(of_kind)) for kind, of_kind in ids.items()},
    )


def _numbers_where(values: Sequence[str], condition: Callable[[str], bool]) -> tuple[int, ...]:
    """The numbers, from 1, of the rows whose value meets the condition."""
    return tuple(row for row, value in enumerate(values, 1) if condition(value))


def _lengths(n: Indices) -> Lengths:
    """Percentiles that occur among the lengths; zeros for no texts."""
    if not len(n):
        return Lengths(0, 0, 0, 0)
    return Lengths(*np.percentile(n, [5, 50, 95, 100], method="nearest").astype(int).tolist())


def _token_counts(texts: Sequence[str], tokenizer: Tokenizer) -> Indices:
    chunks = (texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK))
    n_frame = tokenizer.n_frame
    return np.array([n_frame + len(ids) for chunk in chunks for ids in tokenizer.encode_many(chunk)], np.intp)


def _token_cut(n_tokens: Indices, max_length: int) -> TokenCut:
    over = np.maximum(n_tokens - max_length, 0)
    return TokenCut(max_length, int((over > 0).sum()), int(over.sum()))


# Conflicts and leaks ----------------------------------------------------------------------------------------------


def _conflicts(
    rows: _Rows, duplicates: Duplicates, filled: NDArray[np.bool_]
) -> tuple[tuple[Conflict, ...], tuple[Conflict, ...]]:
    """Conflicts and variants, in the order of their first rows; see `Conflict`."""
    labelled = np.fromiter((not is_blank(label) for label in rows.labels), np.bool_, len(filled))
    usable = np.flatnonzero(filled & labelled)
    key_of = {label: label_key(label) for label in set(rows.labels)}
    label_ids = np.unique([key_of[rows.labels[row]] for row in usable.tolist()], return_inverse=True)[1]
    ids = duplicates.normalised[usable]
    pairs = np.unique(np.stack([ids, label_ids], axis=1), axis=0)[:, 0] if len(usable) else ids
    components, n_labels = np.unique(pairs, return_counts=True)
    conflicts, variants = [], []
    for members in _groups(usable[np.isin(ids, components[n_labels > 1])], duplicates.normalised):
        by_text: dict[str, list[int]] = defaultdict(list)
        for row in members:
            by_text[" ".join(rows.texts[row].casefold().split())].append(row)
        conflicting = [same for same in by_text.values() if len({key_of[rows.labels[row]] for row in same}) > 1]
        for same in conflicting:
            is_exact = len(set(duplicates.exact[same].tolist())) == 1
            conflicts.append(Conflict("exact" if is_exact else "normalised", tuple(map(rows.row, same))))
        if not conflicting:
            digits = {"".join(re.findall(r"\d", rows.texts[row])) for row in members}
            kind = "digits" if len(digits) > 1 else "punctuation"
            variants.append(Conflict(kind, tuple(map(rows.row, members))))
    return tuple(conflicts), tuple(variants)


def _groups(rows: Indices, ids: Indices) -> list[list[int]]:
    """Rows of the same id together, in the order of their first row."""
    by_id: dict[int, list[int]] = defaultdict(list)
    for row in rows.tolist():
        by_id[int(ids[row])].append(row)
    return list(by_id.values())


def _leaks(rows: _Rows, duplicates: Duplicates, filled: NDArray[np.bool_]) -> tuple[Leak, ...]:
    """Rows that are in an earlier split too: one leak for each earlier split, of the strictest kind that holds."""
    leaks = []
    split = np.repeat(np.arange(len(rows.names)), np.diff(rows.starts))
    for late in range(1, len(rows.names)):
        for early in range(late):
            remaining = filled & (split == late)
            for kind, ids in duplicates.by_kind().items():
                known = filled & (split == early)
                leaked = np.flatnonzero(remaining & np.isin(ids, ids[known]))
                remaining[leaked] = False
                known &= np.isin(ids, ids[leaked])
                members = {int(ids[group[0]]): group for group in _groups(np.flatnonzero(known), ids)}
                for row in leaked.tolist():
                    earlier = _most_similar(rows.texts[row], members[int(ids[row])], rows.texts, kind)
                    leaks.append(Leak(kind, rows.row(row), rows.row(earlier)))
    return tuple(leaks)


def _most_similar(text: str, members: list[int], texts: list[str], kind: str) -> int:
    if kind != "near" or len(members) == 1:
        return members[0]
    key = normalise(text)
    return max(members[:MOST_COMPARED], key=lambda row: jaccard_similarity(key, normalise(texts[row])))
