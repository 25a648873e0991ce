"""A file's bytes as lines of text: unpacked, decoded, and none longer than a bound; and what a file really is.

messages.csv.gz ──unpack──► bytes ──decode──► "text,label\\n", "Win $1000!,spam\\n", …
                                               a line beyond the bound comes as a LongLine, which holds its start
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lasttoken.core.errors import DataError, nearest
from lasttoken.data.options import ReadOptions

SNIFFED_BYTES = 4096  # of a file's start, to tell what it is
PIECE = 1 << 16  # characters of a line that are read at a time, where lines may be whole files
SKIPPED_BYTES = 1 << 20  # of a line that is too long, at a time
GZIP = b"\x1f\x8b"
UNICODE_MARKS = {  # byte order marks, the longer ones first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
TAR, TAR_AT = b"ustar", 257  # where an archive says what it is
PICKLE = "a pickle of Python; write its table as CSV or Parquet"
OTHER_KINDS = {  # what starts with these bytes, and what to do about it
    b"%PDF": "a PDF; export its table as CSV",
    b"SQLite format 3\0": "a SQLite database; export a table of it as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook of the old kind (.xls); save the sheet as CSV UTF-8",
    b"FEA1": "a Feather file of the old kind; write it as Parquet",
    b"\x89HDF": "an HDF5 file; write its table as CSV or Parquet",
    b"\x93NUMPY": "a NumPy array; write it as CSV or Parquet",
    b"BZh": "packed with bzip2; unpack it with bunzip2",
    b"\xfd7zXZ": "packed with xz; unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it with unzstd",
    b"Obj\x01": "an Avro file; write it as Parquet",
    b"ORC": "an ORC file; write it as Parquet",
    b"\x80\x02": PICKLE,
    b"\x80\x03": PICKLE,
    b"\x80\x04": PICKLE,
    b"\x80\x05": PICKLE,
    b"\x89PNG\r\n": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"<?xml": "an XML document; write its examples as CSV, with a line of column names",
    GZIP: "packed with gzip twice; unpack it once",
    b"{\\rtf": "an RTF document; save its table as CSV",
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer and not the data; fetch it with git lfs pull",
}
EASTERN = ("cp1251", "koi8-r", "shift_jis", "gb18030", "big5", "euc-kr")  # tried where letters are not Latin
ESCAPED = re.compile("[\udc80-\udcff]")  # bytes that could not be decoded, as PEP 383 writes them


class LongLine(str):
    """What stands for a line that is longer than the bound: its start."""

    __slots__ = ()


def long_fault(options: ReadOptions) -> str:
    """Why a row that is too long is not read."""
    return f"is longer than {options.max_row_bytes:,} bytes; shorten it, or raise --max-row-bytes"


def read_lines(path: Path, options: ReadOptions, newline: str, escaped: bool = False) -> Generator[str, None, None]:
    """The lines with their ends; `newline` as for `open`. A byte order mark is dropped.

    A line longer than `options.max_row_bytes` comes as a `LongLine`; the rest of it is passed over.
    `escaped`: bytes that cannot be decoded become lone surrogates (PEP 383).

    Raises:
        DataError: the file cannot be read or decoded.
    """
    with read_errors(path, codec_name(options.encoding)), _open_text(path, options, newline, escaped) as text:
        yield from bounded_lines(text, options.max_row_bytes)


def read_pieces(path: Path, options: ReadOptions, escaped: bool = False) -> Generator[str, None, None]:
    """The text in pieces of bounded length, none of them across the end of a line; otherwise as `read_lines`."""
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
    """The lines of an open file; one of more than `limit` bytes as a `LongLine`."""
    while line := text.readline(limit + 1):
        if len(line) * 4 > limit and len(line.encode("utf-8", "surrogatepass")) > limit:
            ended = line.endswith(("\n", "\r"))
            while not ended and (more := text.readline(SKIPPED_BYTES)):
                ended = more.endswith(("\n", "\r"))
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


def codec_name(encoding: str) -> str:
    """Python's name of a text encoding.

    Raises:
        DataError: there is no such encoding.
    """
    try:
        io.TextIOWrapper(io.BytesIO(), encoding)  # refuses what codecs.lookup knows but is not text, such as "hex"
        return codecs.lookup(encoding).name.removesuffix("-sig")
    except (LookupError, ValueError) as error:
        raise DataError(
            f"--encoding is {encoding!r}, which is no encoding; use one such as utf-8, cp1252 or utf-16"
        ) from error


def refuse_folder(path: Path) -> None:
    """Raise what POSIX does on reading a folder; Windows says PermissionError."""
    if path.is_dir():
        raise IsADirectoryError(path)


@contextmanager
def open_bytes(path: Path) -> Iterator[gzip.GzipFile | io.BufferedReader]:
    """The file's bytes, unpacked when its name or its first bytes say gzip."""
    refuse_folder(path)
    with path.open("rb") as raw:
        if path.suffix.lower() == ".gz" or raw.peek(2)[:2] == GZIP:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked
        else:
            yield raw


@contextmanager
def read_errors(path: Path, encoding: str) -> Iterator[None]:
    """Turn what can go wrong while a file is read into one sentence."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"there is no file {path}{_near_names(path)}") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder; name one file in it") from error
    except PermissionError as error:
        raise DataError(f"no permission to read {path}; change its mode or copy it") from error
    except UnicodeError as error:
        raise DataError(_undecodable(path, encoding)) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a broken gzip file ({error}); fetch or pack it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _near_names(path: Path) -> str:
    try:
        return nearest(path.name, sorted(entry.name for entry in path.parent.iterdir()))
    except OSError:
        return "; check the folder's name"


# What a file really is --------------------------------------------------------------------------------------------


def first_bytes(path: Path) -> bytes:
    """The start of a file, unpacked; nothing of a pipe, which gives its bytes once.

    Raises:
        DataError: the file cannot be read.
    """
    if not path.is_file():
        return b""
    with read_errors(path, "utf-8"), open_bytes(path) as raw:
        return raw.read(SNIFFED_BYTES)


def refuse_other_kinds(path: Path, start: bytes, encoding: str) -> None:
    """Say what a file is that is not a text, or not in the encoding it is to be read in.

    Raises:
        DataError: names the kind, and what to do.
    """
    text = start.removeprefix(codecs.BOM_UTF8)
    kind = next((kind for mark, kind in OTHER_KINDS.items() if text.startswith(mark)), None)
    if start[TAR_AT : TAR_AT + len(TAR)] == TAR:
        kind = "a tar archive; unpack it and name a file of it"
    elif start.startswith(b"PK\x03\x04"):
        kind = _kind_of_zip(path)
    elif start.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower().startswith((b"<!doctype html", b"<html")):
        kind = "an HTML page, perhaps a log-in or an error; fetch the data itself"
    if kind:
        raise DataError(f"{path.name} is {kind}")
    wide = unicode_kind(start)
    name = codec_name(encoding)
    if wide and not name.startswith(("utf-16", "utf-32")):
        raise DataError(f"{path.name} is not {name}: it is written in {wide}; pass --encoding {wide}")


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        names = []
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook (.xlsx); save the sheet as CSV UTF-8"
    if any(name.startswith("word/") for name in names):
        return "a Word document; save its table as CSV"
    if "content.xml" in names:
        return "a LibreOffice document; save the sheet as CSV in UTF-8"
    return "a zip archive; unpack it and name a file of it"


def marked_encoding(start: bytes) -> str | None:
    """The encoding of two or four bytes a character whose byte order mark a file begins with."""
    return next((name for mark, name in UNICODE_MARKS.items() if start.startswith(mark)), None)


def unicode_kind(start: bytes) -> str | None:
    """The encoding of two or four bytes a character that a file's start shows, by its mark or by its zero bytes."""
    marked = marked_encoding(start)
    if marked or len(start) < 8:
        return marked
    even, odd = start[0:200:2], start[1:200:2]
    if odd.count(0) > 0.6 * len(odd) and even.count(0) < 0.1 * len(even):
        return "utf-16-le"
    if even.count(0) > 0.6 * len(even) and odd.count(0) < 0.1 * len(odd):
        return "utf-16-be"
    return None


# Bytes that are not in the encoding -------------------------------------------------------------------------------


@dataclass
class _Undecodable:
    """What of a file its encoding does not decode."""

    offset: int = -1  # in bytes, of the first
    value: int = 0
    n_bytes: int = 0
    n_lines: int = 0  # with such bytes
    n_beyond_ascii: int = 0  # characters beyond ASCII that are decoded

    @property
    def is_rare(self) -> bool:
        """Whether the encoding is right for nearly all that is beyond ASCII."""
        return self.n_beyond_ascii > 10 * self.n_bytes


def _undecodable(path: Path, encoding: str) -> str:
    regular = path.is_file()  # a pipe cannot be read twice
    advice = advised_encoding(path, encoding)
    bad = _count_bad(path, encoding) if regular else None
    if bad is None or bad.offset < 0:
        return f"{path.name} is not {encoding}; name its encoding with --encoding, such as {advice}"
    unpacked = ""
    with path.open("rb") as raw:
        unpacked = " after unpacking" if raw.read(2) == GZIP else ""
    more = f" ({bad.n_bytes:,} such bytes in {bad.n_lines:,} lines)" if bad.n_bytes > 1 else ""
    found = (
        f"{path.name} is not {encoding}: byte 0x{bad.value:02x} at byte offset {bad.offset}{unpacked} cannot be "
        f"decoded{more}; "
    )
    if encoding == "utf-8" and bad.is_rare:
        return f"{found}the rest is utf-8: mend these bytes, or leave their rows out with --skip-unreadable"
    return f"{found}name its encoding with --encoding, such as {advice}, or leave the rows out with --skip-unreadable"


def _other(encoding: str) -> str:
    return "cp1252" if encoding != "cp1252" else "latin-1"


def advised_encoding(path: Path, encoding: str) -> str:
    """A flag with an encoding that does decode the file, other than the one that did not; a pipe is not read again.

    "" where UTF-8 did not decode a few bytes and is right for the rest.
    """
    if not path.is_file():
        return f"--encoding {_other(encoding)}"
    bad = _count_bad(path, "utf-8")
    if bad is not None and bad.is_rare:
        return "" if encoding == "utf-8" else "--encoding utf-8"
    with open_bytes(path) as raw:
        wide = unicode_kind(raw.read(SNIFFED_BYTES))
    candidates = [wide] if wide else ["utf-8", "cp1252", "latin-1"]
    others = [name for name in candidates if name != encoding]
    if not wide and _stands_together(path) and not (encoding != "utf-8" and _decodes(path, "utf-8")):
        able = [name for name in EASTERN if name != encoding and _decodes(path, name)]
        return (
            f"--encoding {' or '.join(able)}, whichever shows its letters" if able else f"--encoding {_other(encoding)}"
        )
    return f"--encoding {next((name for name in others if _decodes(path, name)), _other(encoding))}"


def _stands_together(path: Path) -> bool:
    """Whether most bytes beyond ASCII have another one beside them, as in no language of Latin letters."""
    with open_bytes(path) as raw:
        runs = re.findall(rb"[\x80-\xff]+", raw.read(PIECE))
    return sum(len(run) for run in runs if len(run) > 1) > sum(map(len, runs)) / 2


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with open_bytes(path) as raw:
            while chunk := raw.read(SKIPPED_BYTES):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def _count_bad(path: Path, encoding: str) -> _Undecodable | None:
    """All that `encoding` does not decode, or None where the codec does not tell."""
    bad = _Undecodable()
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
    strict = codecs.getincrementaldecoder(encoding)()
    n_read, chunk, spoilt = 0, b"-", False
    with open_bytes(path) as raw:
        while chunk:
            chunk = raw.read(io.DEFAULT_BUFFER_SIZE)
            if bad.offset < 0:
                n_waiting = len(strict.getstate()[0])
                try:
                    strict.decode(chunk, final=not chunk)
                except UnicodeDecodeError as error:
                    bad.offset, bad.value = n_read - n_waiting + error.start, error.object[error.start]
                except UnicodeError:
                    return None
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeError:  # some codecs cannot go on
                return bad
            for line in text.splitlines(keepends=True):
                n_bytes = len(ESCAPED.findall(line)) if not line.isascii() else 0
                bad.n_bytes += n_bytes
                bad.n_lines += bool(n_bytes) and not spoilt
                bad.n_beyond_ascii += 0 if line.isascii() else sum(sign > "\x7f" for sign in line) - n_bytes
                spoilt = (spoilt or bool(n_bytes)) and not line.endswith(("\n", "\r"))
            n_read += len(chunk)
    return bad
