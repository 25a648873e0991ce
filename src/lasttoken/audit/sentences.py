"""The findings and notes of an audit as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lasttoken.audit.findings import Conflict, SplitAudit

KIND_IN_WORDS = {
    "exact": "the same text",
    "normalised": "the same but for case, digits or punctuation",
    "near": "nearly the same",
}
IMBALANCED = 10  # times as many rows of one label as of another, from which on a note says so


def counted(n: int, singular: str, plural: str) -> str:
    """A number with its noun.

    >>> counted(1, "row is", "rows are"), counted(1200, "row is", "rows are")
    ('1 row is', '1,200 rows are')
    """
    return f"{n:,} {singular if n == 1 else plural}"


def rows_in_words(rows: Sequence[int], most: int = 10) -> str:
    """Row numbers for a sentence, the first few of many; no thousands separators, as the numbers stand in a list.

    >>> rows_in_words([3]), rows_in_words(range(1, 14), most=2)
    ('row 3', 'rows 1, 2 and 11 more')
    """
    n_rest = len(rows) - most
    numbers = ", ".join(str(row) for row in rows[:most])
    return f"{'row' if len(rows) == 1 else 'rows'} {numbers}" + (f" and {n_rest:,} more" if n_rest > 0 else "")


def leak_title(split: str, earlier: str, kind: str) -> str:
    """The title of a list of leaked rows."""
    return f"leaks: rows of {split} that are in {earlier}, {KIND_IN_WORDS[kind]}"


def about_leaks(n_leaks: Mapping[tuple[str, str], Mapping[str, int]]) -> list[str]:
    """A sentence for each pair of splits that share texts."""
    return [
        f"{counted(sum(kinds.values()), f'row of {split} is', f'rows of {split} are')} in {earlier} too: "
        + ", ".join(f"{n:,} {KIND_IN_WORDS[kind]}" for kind, n in kinds.items() if n)
        + f"; the metrics of {split} are optimistic"
        for (split, earlier), kinds in n_leaks.items()
    ]


def about_conflicts(conflicts: Sequence[Conflict]) -> list[str]:
    """How many texts have different labels."""
    n_rows = sum(len(conflict.rows) for conflict in conflicts)
    if not n_rows:
        return []
    return [f"{counted(len(conflicts), 'text has', 'texts have')} different labels in different rows ({n_rows:,} rows)"]


def about_variants(variants: Sequence[Conflict]) -> list[str]:
    """How many groups of texts that differ only in digits, or in punctuation, have different labels."""
    lines = []
    for kind in ("digits", "punctuation"):
        groups = [variant for variant in variants if variant.kind == kind]
        if groups:
            n_rows = sum(len(group.rows) for group in groups)
            lines.append(
                f"{counted(len(groups), 'group', 'groups')} of texts that are equal but for {kind} "
                f"{'has' if len(groups) == 1 else 'have'} different labels ({n_rows:,} rows); this is correct where "
                f"the {kind} decide the label"
            )
    return lines


def about_faults(splits: Mapping[str, SplitAudit]) -> list[str]:
    """Rows that are empty, blank, unlabelled or damaged."""
    lines = []
    for name, split in splits.items():
        faults = (
            (split.empty, f"row of {name} is empty", f"rows of {name} are empty"),
            (split.blank, f"row of {name} holds only whitespace", f"rows of {name} hold only whitespace"),
            (split.unlabelled, f"row of {name} has no label", f"rows of {name} have no label"),
            (
                tuple(split.damaged),
                f"row of {name} has characters that were decoded wrongly",
                f"rows of {name} have characters that were decoded wrongly",
            ),
        )
        lines += [f"{counted(len(rows), *words)} ({rows_in_words(rows)})" for rows, *words in faults if rows]
    return lines


def about_imbalance(name: str, split: SplitAudit) -> list[str]:
    """The commonest and the rarest label, where they are far apart."""
    if not split.imbalance or split.imbalance < IMBALANCED:
        return []
    most, least = max(split.labels, key=split.labels.__getitem__), min(split.labels, key=split.labels.__getitem__)
    return [
        f"{name} has {split.imbalance:,.0f} times as many rows of {most!r} as of {least!r}: accuracy alone is a poor "
        "metric"
    ]


def about_split(name: str, split: SplitAudit) -> list[str]:
    """Repeated rows, texts beyond the backbone's context, and rows with hardly any letters."""
    lines = []
    exact, normalised, near = split.repeats.values()
    if near:
        wider = ((normalised - exact, "but for case, digits or punctuation"), (near - normalised, "nearly"))
        lines.append(
            f"{counted(exact, 'row', 'rows')} of {name} {'repeats' if exact == 1 else 'repeat'} an earlier row"
            + "".join(f", {n:,} more {how}" for n, how in wider if n)
        )
    if split.cut and split.cut.n_texts:
        lines.append(
            f"{counted(split.cut.n_texts, 'text', 'texts')} of {name} would be cut to {split.cut.max_length:,} tokens:"
            f" {counted(split.cut.n_tokens, 'token', 'tokens')} would not be read"
        )
    if split.hardly_text:
        n = len(split.hardly_text)
        lines.append(
            f"{counted(n, 'row', 'rows')} of {name} {'has' if n == 1 else 'have'} hardly any letters"
            f" ({rows_in_words(split.hardly_text)})"
        )
    return lines
