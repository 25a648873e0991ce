"""The list of all file formats, and which one a file is read or written in.

A new format is a module with its `Format` (see format.py), added to `FORMATS`. Flags, messages and folders of splits
take it from here.
"""

from __future__ import annotations

from pathlib import Path

from lasttoken.core.errors import DataError, SettingsError, nearest, one_of
from lasttoken.data.tables.delimited import CSV, TSV
from lasttoken.data.tables.file_types import reject_other_kinds
from lasttoken.data.tables.format import Format
from lasttoken.data.tables.json_rows import JSON, JSON_LINES
from lasttoken.data.tables.parquet import ARROW, PARQUET
from lasttoken.data.tables.text_lines import FASTTEXT, TEXT_LINES

FORMATS: tuple[Format, ...] = (CSV, TSV, JSON_LINES, JSON, PARQUET, ARROW, FASTTEXT, TEXT_LINES)


def format_names() -> tuple[str, ...]:
    """The names of all formats, as --format takes them."""
    return tuple(known.name for known in FORMATS)


def format_named(name: str) -> Format:
    """The format of this name.

    Raises:
        SettingsError: there is none.
    """
    for known in FORMATS:
        if known.name == name:
            return known
    raise SettingsError(f"--format is {name!r}; use one of {one_of(format_names())}{nearest(name, format_names())}")


def format_by_suffix(path: Path) -> Format | None:
    """The format that the file's suffix names, before a .gz if there is one; None where no format has it.

    >>> [known.name if (known := format_by_suffix(Path(name))) else None for name in ("a.CSV", "b.json.gz", "c.pdf")]
    ['csv', 'json', None]
    """
    suffix, compressed = _suffix_of(path)
    for known in FORMATS:
        if suffix in known.suffixes + known.shared_suffixes and (known.is_text or not compressed):
            return known
    return None


def format_by_magic(start: bytes) -> Format | None:
    """The format that the first bytes of a file prove."""
    return next((known for known in FORMATS if start.startswith(known.magic)), None) if start else None


def is_table_file(path: Path) -> bool:
    """Whether the suffix is one that only tables have, so not .txt."""
    known = format_by_suffix(path)
    return known is not None and _suffix_of(path)[0] in known.suffixes


def input_format(path: Path, start: bytes, name: str | None) -> Format:
    """The format to read a file in: the one its first bytes prove, else the named one, else the one of its suffix.

    A `plain` format of the suffix gives way to one that claims the first bytes.

    Args:
        path: the file.
        start: its first bytes, uncompressed; b"" of a pipe.
        name: the format that the user named with --format.

    Raises:
        DataError: nothing says which format it is; says which formats can be read.
        SettingsError: there is no format of that name.
    """
    proved = format_by_magic(start)
    if proved or name:
        return proved or format_named(str(name))
    known = format_by_suffix(path)
    if known is None:
        if path.is_file():
            reject_other_kinds(path, start, "utf-16")  # what the file is says more than its suffix
        raise DataError(
            f"{path} has an unsupported file type; use {readable_suffixes()}, or name its format with --format "
            f"({', '.join(format_names())})"
        )
    claiming = (other for other in FORMATS if known.plain and other.claims and other.claims(start))
    return next(claiming, known)


def output_format(path: Path) -> tuple[Format, bool]:
    """The format to write a file in, by its suffix, CSV without one; and whether to compress it.

    Raises:
        SettingsError: a suffix of no format that can be written.
    """
    suffix, compressed = _suffix_of(path)
    for known in FORMATS:
        named = suffix in known.suffixes or (not suffix and known is CSV)
        if known.writer and named and (known.is_text or not compressed):
            return known, compressed
    raise SettingsError(f"--output {path} has an unsupported file type; use {writable_suffixes()}")


def readable_suffixes() -> str:
    """The suffixes that can be read, for a message.

    >>> readable_suffixes()
    '.csv, .tsv, .tab, .txt, .jsonl, .ndjson, .json (each also with .gz), .parquet, .arrow, .feather'
    """
    return _suffixes_in_words(list(FORMATS), shared=True)


def writable_suffixes() -> str:
    """The suffixes that can be written, for a message.

    >>> writable_suffixes()
    '.csv, .tsv, .tab, .jsonl, .ndjson (each also with .gz), .parquet'
    """
    return _suffixes_in_words([known for known in FORMATS if known.writer], shared=False)


def _suffixes_in_words(known_formats: list[Format], shared: bool) -> str:
    text, binary = (
        [
            suffix
            for known in known_formats
            if known.is_text == is_text
            for suffix in (*known.suffixes, *(known.shared_suffixes if shared else ()))
            if suffix
        ]
        for is_text in (True, False)
    )
    return ", ".join(filter(None, (f"{', '.join(text)} (each also with .gz)" if text else "", ", ".join(binary))))


def _suffix_of(path: Path) -> tuple[str, bool]:
    """The suffix in lower case, before .gz; and whether there is a .gz."""
    compressed = path.suffix.lower() == ".gz"
    inner = path.with_suffix("") if compressed else path
    return inner.suffix.lower(), compressed
