"""The findings and notes of an audit as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lasttoken.audit.findings import Conflict, SplitAudit

KIND_IN_WORDS = {
    "exact": "identical",
    "normalised": "identical except for case, digits or punctuation",
    "near": "near-duplicates",
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
    return f"leaks: rows of {split} that are also in {earlier}, {KIND_IN_WORDS[kind]}"


def about_leaks(n_leaks: Mapping[tuple[str, str], Mapping[str, int]]) -> list[str]:
    """A sentence for each pair of splits that share texts."""
    return [
        f"{counted(sum(kinds.values()), f'{split} row is', f'{split} rows are')} also in {earlier}{_kinds(kinds)}; "
        f"the metrics of {split} are optimistic"
        for (split, earlier), kinds in n_leaks.items()
    ]


def _kinds(n_by_kind: Mapping[str, int]) -> str:
    """How leaked rows differ from the earlier ones; the counts of each kind where there are several.

    >>> _kinds({"exact": 0, "normalised": 48, "near": 0})
    ', except for case, digits or punctuation'
    >>> _kinds({"exact": 2, "normalised": 0, "near": 1})
    ': 2 identical, 1 near-duplicate'
    """
    present = {kind: n for kind, n in n_by_kind.items() if n}
    if len(present) > 1:
        words = KIND_IN_WORDS | ({"near": "near-duplicate"} if present.get("near") == 1 else {})
        return ": " + ", ".join(f"{n:,} {words[kind]}" for kind, n in present.items())
    if "normalised" in present:
        return ", except for case, digits or punctuation"
    if "near" in present:
        return ", as a near-duplicate" if present["near"] == 1 else ", as near-duplicates"
    return ""


def about_conflicts(conflicts: Sequence[Conflict]) -> list[str]:
    """How many texts have different labels."""
    n_rows = sum(len(conflict.rows) for conflict in conflicts)
    if not n_rows:
        return []
    return [f"{counted(len(conflicts), 'text has', 'texts have')} different labels in different rows ({n_rows:,} rows)"]


def about_variants(variants: Sequence[Conflict]) -> list[str]:
    """How many rows have different labels though their texts differ only in digits, or only in punctuation."""
    lines = []
    for kind in ("digits", "punctuation"):
        groups = [variant for variant in variants if variant.kind == kind]
        if groups:
            n_rows = sum(len(group.rows) for group in groups)
            determine = "determine" if kind == "digits" else "determines"
            lines.append(
                f"{n_rows:,} rows have texts that differ only in {kind} but have different labels; that is fine if the "
                f"{kind} {determine} the label"
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


def _about_repeats(name: str, exact: int, normalised: int, near: int) -> list[str]:
    """How many rows repeat an earlier row; each count includes those before it.

    >>> _about_repeats("train", 0, 13, 13)
    ['13 rows of train repeat an earlier row except for case, digits or punctuation']
    >>> _about_repeats("train", 2, 2, 3)
    ['2 rows of train repeat an earlier row; 1 more nearly repeats one']
    """
    kinds = (
        (exact, "", ""),
        (normalised - exact, "", " except for case, digits or punctuation"),
        (near - normalised, "nearly ", ""),
    )
    parts: list[str] = []
    for n, nearly, suffix in kinds:
        repeat = f"{nearly}{'repeats' if n == 1 else 'repeat'}"
        if n and not parts:
            parts.append(f"{counted(n, 'row', 'rows')} of {name} {repeat} an earlier row{suffix}")
        elif n:
            parts.append(f"{n:,} more {repeat} one{suffix}")
    return ["; ".join(parts)] if parts else []


def about_split(name: str, split: SplitAudit) -> list[str]:
    """Repeated rows, texts beyond the backbone's context, and rows with hardly any letters."""
    lines = _about_repeats(name, *split.repeats.values())
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
