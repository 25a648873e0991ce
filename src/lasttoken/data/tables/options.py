"""How a file of rows is read: its encoding, separator, header, format and limits."""

from __future__ import annotations

from dataclasses import dataclass

from lasttoken.core.config import Settings
from lasttoken.core.storage import parse_bytes


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a user can state about a file besides its columns; each option has a flag, see `Settings`."""

    encoding: str = Settings.encoding
    separator: str | None = None  # between the fields of a line; None: detected
    header: bool = True  # False: the columns are named "1", "2", …
    format: str | None = None  # a name of formats.py; None: by the suffix and the content of the file
    max_row_bytes: int = parse_bytes(Settings.max_row_bytes)
    skip_unreadable: bool = False  # leave out and count rows that cannot be read
    strict: bool = False  # a row without a text or a label is an error

    @classmethod
    def of(cls, settings: Settings) -> ReadOptions:
        """The options in a run's settings."""
        separator = settings.field_separator
        return cls(
            encoding=settings.encoding,
            separator="\t" if separator in ("tab", "\\t") else separator,
            header=not settings.no_header,
            format=settings.format,
            max_row_bytes=settings.row_limit_bytes,
            skip_unreadable=settings.skip_unreadable,
            strict=settings.strict,
        )


DEFAULT = ReadOptions()
