"""A file as it was published, known by its size and sha256, and whether a file in the cache is that one."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

from lasttoken.core.errors import LastTokenError, StorageError

# zipfile's errors for a truncated or corrupt archive, an encrypted member or an unknown compression
CORRUPT_ZIP = (BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError, OverflowError)


@dataclass(frozen=True)
class PublishedFile:
    """The size and sha256 (hexadecimal) of a published file."""

    n_bytes: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.n_bytes:,} bytes and sha256 {self.sha256}"

    @classmethod
    def of(cls, path: Path) -> PublishedFile:
        """What a file on disk would be known by."""
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(file.tell(), sha256)

    def is_at(self, target: Path, error_class: type[LastTokenError]) -> bool:
        """Whether the cache holds this file; another one in its place may be the user's and is not deleted.

        Raises:
            error_class: there is another file.
            StorageError: the file cannot be read.
        """
        try:
            there = PublishedFile.of(target)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StorageError(f"{target} cannot be read: {error.strerror}; move it away and run again") from error
        if there != self:
            raise error_class(f"{target} has {there}, but the published file has {self}; delete it and run again")
        return True
