"""The result of an audit of labelled splits: its findings and notes, the rows behind them, and all of it as JSON.

Findings make metrics unreliable: leaks between splits, one text with different labels, a shortcut that nearly
determines the label, rows without text or label, damaged characters. Everything else (duplicates within a split,
imbalance, long texts, rows with hardly any letters, weaker shortcuts) is a note: real data has it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.audit import sentences
from lasttoken.audit.findings import KINDS, Conflict, Leak, ListedRow, SplitAudit
from lasttoken.audit.shortcuts import Shortcut
from lasttoken.data.labels import Merge
from lasttoken.data.splitting.near_duplicates import Duplicates, Indices

MOST_WORDS = 3  # words that are weaker shortcuts, in sentences; all are in the JSON


@dataclass(frozen=True)
class Audit:
    """All findings in the N rows of the splits."""

    splits: dict[str, SplitAudit]
    conflicts: tuple[Conflict, ...]
    leaks: tuple[Leak, ...]
    shortcuts: tuple[Shortcut, ...]
    variants: tuple[Conflict, ...]  # texts with different labels that are equal except for digits or punctuation
    merges: tuple[Merge, ...]  # spellings of one label
    near_labels: tuple[str, ...]  # sentences about labels that differ only by case or are equal as numbers
    duplicates: Duplicates  # of all rows, the splits one after the other

    def findings(self) -> tuple[str, ...]:
        """Sentences about what makes metrics unreliable, the worst first."""
        decisive = (shortcut.sentence() for shortcut in self.shortcuts if shortcut.is_decisive)
        return (
            *sentences.about_leaks(self.n_leaks()),
            *sentences.about_conflicts(self.conflicts),
            *decisive,
            *self.near_labels,
            *sentences.about_faults(self.splits),
        )

    def notes(self) -> tuple[str, ...]:
        """Sentences about what is worth knowing and is no fault in itself."""
        weaker = [shortcut.sentence() for shortcut in self.shortcuts if shortcut.is_strong and not shortcut.is_decisive]
        return (
            *sentences.about_imbalance(*next(iter(self.splits.items()))),
            *(merge.sentence() for merge in self.merges),
            *sentences.about_variants(self.variants),
            *weaker[:MOST_WORDS],
            *(line for name, split in self.splits.items() for line in sentences.about_split(name, split)),
        )

    def sentences(self) -> tuple[str, ...]:
        """Findings, then notes."""
        return (*self.findings(), *self.notes())

    def n_leaks(self) -> dict[tuple[str, str], dict[str, int]]:
        """Leaked rows of each pair (split, earlier split), by kind, most first; a row counts once for a pair."""
        counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for leak in self.leaks:
            counts[leak.row.split, leak.earlier.split][leak.kind] += 1
        return {
            pair: {kind: by_kind[kind] for kind in KINDS}
            for pair, by_kind in sorted(counts.items(), key=lambda item: -item[1].total())
        }

    def split_rows(self, kind: str = "near") -> dict[str, Indices]:
        """The component of each row of each split (N of the split,): rows of one component are duplicates."""
        ends = np.cumsum([split.n for split in self.splits.values()])
        return dict(zip(self.splits, np.split(self.duplicates.by_kind()[kind], ends[:-1]), strict=True))

    def leaked_rows(self, kind: str = "near") -> dict[str, NDArray[np.bool_]]:
        """Which rows of each split but the first (train) are also in the first.

        `kind` is "exact", "normalised" or "near"; each includes the stricter ones.
        """
        (_, first), *others = self.split_rows(kind).items()
        return {name: np.isin(components, first) for name, components in others}

    def lists(self) -> dict[str, list[ListedRow]]:
        """The rows behind the findings, by title."""
        leaks = {
            sentences.leak_title(split, earlier, kind): [
                ListedRow(leak.row.place, leak.row.text, like=leak.earlier.place, like_text=leak.earlier.text)
                for leak in self.leaks
                if (leak.row.split, leak.earlier.split, leak.kind) == (split, earlier, kind)
            ]
            for split, earlier in self.n_leaks()
            for kind in KINDS
        }
        conflicts = [ListedRow(row.place, row.text, row.label) for conflict in self.conflicts for row in conflict.rows]
        damaged = [
            ListedRow(f"row {row} of {name}", damage)
            for name, split in self.splits.items()
            for row, damage in split.damaged.items()
        ]
        lists = {**leaks, "one text, different labels": conflicts, "characters decoded wrongly": damaged}
        return {title: rows for title, rows in lists.items() if rows}

    def to_json(self) -> dict[str, Any]:
        """Everything, with every row, as plain JSON."""
        leaks = [{"split": split, "earlier": earlier, **kinds} for (split, earlier), kinds in self.n_leaks().items()]
        shortcuts = [
            {**asdict(shortcut), "strong": shortcut.is_strong, "decisive": shortcut.is_decisive}
            for shortcut in self.shortcuts
        ]
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
