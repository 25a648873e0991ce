"""A file's bytes become lines of text: decompressed, decoded, and bounded in length.

messages.csv.gz ──gunzip──► bytes ──decode──► "text,label\\n", "Win $1000!,spam\\n", …
                                               a line beyond the limit becomes a LongLine, which holds its start
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from lasttoken.core.errors import DataError, nearest
from lasttoken.data.tables.encodings import SNIFFED_BYTES, codec_name, undecodable
from lasttoken.data.tables.options import ReadOptions
from lasttoken.data.tables.raw_bytes import open_bytes

PIECE = 1 << 16  # characters of a line that are read at a time, where a line may be a whole file
SKIPPED_BYTES = 1 << 20  # of a line that is too long, skipped at a time


class LongLine(str):
    """Stands for a line that is longer than the limit, and holds its start."""

    __slots__ = ()


def long_fault(options: ReadOptions) -> str:
    """The message about a row that is too long."""
    return f"is longer than {options.max_row_bytes:,} bytes; shorten it, or raise --max-row-bytes"


def read_lines(path: Path, options: ReadOptions, newline: str, escaped: bool = False) -> Generator[str, None, None]:
    """The lines with their ends; `newline` as in `open`. A byte order mark is dropped.

    A line longer than `options.max_row_bytes` becomes a `LongLine`; the rest of it is skipped.
    `escaped`: bytes that cannot be decoded become lone surrogates (PEP 383).

    Raises:
        DataError: the file cannot be read or decoded.
    """
    with read_errors(path, codec_name(options.encoding)), _open_text(path, options, newline, escaped) as text:
        yield from bounded_lines(text, options.max_row_bytes)


def read_pieces(path: Path, options: ReadOptions, escaped: bool = False) -> Generator[str, None, None]:
    """The text in pieces of bounded length that do not cross line ends; see `read_lines`."""
    with read_errors(path, codec_name(options.encoding)), _open_text(path, options, "\n", escaped) as text:
        while piece := text.readline(PIECE):
            yield piece


@contextmanager
def _open_text(path: Path, options: ReadOptions, newline: str, escaped: bool) -> Iterator[io.TextIOWrapper]:
    name = codec_name(options.encoding)
    spelled = "utf-8-sig" if name == "utf-8" else name
    errors = "surrogateescape" if escaped else "strict"
    with open_bytes(path) as raw, io.TextIOWrapper(raw, spelled, errors, newline=newline) as text:
        yield text


def bounded_lines(text: io.TextIOWrapper, limit: int) -> Iterator[str]:
    """The lines of an open file; a line of more than `limit` bytes becomes a `LongLine`."""
    while line := text.readline(limit + 1):
        if len(line) * 4 > limit and len(line.encode("utf-8", "surrogatepass")) > limit:
            ended = line.endswith(("\n", "\r"))
            while not ended and (rest := text.readline(SKIPPED_BYTES)):
                ended = rest.endswith(("\n", "\r"))
            yield LongLine(line[:60])
        else:
            yield line


def take_lines(lines: Iterator[str], n_lines: int, n_characters: int) -> tuple[list[str], bool]:
    """The first lines, up to a number of lines and of characters; and whether the file has no more."""
    ahead: list[str] = []
    size = 0
    while len(ahead) < n_lines and size < n_characters:
        line = next(lines, None)
        if line is None:
            return ahead, True
        ahead.append(line)
        size += len(line)
    return ahead, False


@contextmanager
def read_errors(path: Path, encoding: str) -> Iterator[None]:
    """Raise any error in reading a file as a DataError that names it."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"there is no file {path}{_near_names(path)}") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder; name one file in it") from error
    except PermissionError as error:
        raise DataError(f"no permission to read {path}; change its mode or copy it") from error
    except UnicodeError as error:
        raise DataError(undecodable(path, encoding)) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a corrupt or truncated gzip file ({error}); fetch or compress it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _near_names(path: Path) -> str:
    try:
        return nearest(path.name, sorted(entry.name for entry in path.parent.iterdir()))
    except OSError:
        return "; check the folder's name"


def first_bytes(path: Path) -> bytes:
    """The start of a file, unpacked; nothing of a pipe, which gives its bytes once.

    Raises:
        DataError: the file cannot be read.
    """
    if not path.is_file():
        return b""
    with read_errors(path, "utf-8"), open_bytes(path) as raw:
        return raw.read(SNIFFED_BYTES)
