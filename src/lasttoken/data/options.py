"""How a file of rows is read: its encoding, and what its name does not say."""

from __future__ import annotations

from dataclasses import dataclass

from lasttoken.config import Settings


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a user says about a file beyond its columns. The flags of the same names are fields of `Settings`."""

    encoding: str = "utf-8"

    @classmethod
    def of(cls, settings: Settings) -> ReadOptions:
        """The options that a run's settings hold."""
        return cls(encoding=settings.encoding)


DEFAULT = ReadOptions()
