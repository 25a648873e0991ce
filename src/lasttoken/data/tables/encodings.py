"""Text encodings: which one a file seems to have, and what to do about bytes that its encoding cannot decode."""

from __future__ import annotations

import codecs
import io
import re
from dataclasses import dataclass
from pathlib import Path

from lasttoken.core.errors import DataError
from lasttoken.data.tables.raw_bytes import GZIP, open_bytes

SNIFFED_BYTES = 4096  # of a file's start, by which its type is recognized
SAMPLED_BYTES = 1 << 16  # read to tell the script of a file
DECODED_BYTES = 1 << 20  # decoded at a time
UNICODE_MARKS = {  # byte order marks, the longer ones first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
EASTERN = ("cp1251", "koi8-r", "shift_jis", "gb18030", "big5", "euc-kr")  # tried where letters are not Latin
ESCAPED = re.compile("[\udc80-\udcff]")  # bytes that could not be decoded, as PEP 383 writes them


def codec_name(encoding: str) -> str:
    """Python's name for a text encoding.

    Raises:
        DataError: there is no such encoding.
    """
    try:
        io.TextIOWrapper(io.BytesIO(), encoding)  # rejects codecs that are not text encodings, such as "hex"
        return codecs.lookup(encoding).name.removesuffix("-sig")
    except (LookupError, ValueError) as error:
        raise DataError(
            f"--encoding is {encoding!r}, which is not a known encoding; use one such as utf-8, cp1252 or utf-16"
        ) from error


def marked_encoding(start: bytes) -> str | None:
    """UTF-16 or UTF-32, if the file begins with its byte order mark; else None."""
    return next((name for mark, name in UNICODE_MARKS.items() if start.startswith(mark)), None)


def unicode_kind(start: bytes) -> str | None:
    """UTF-16 or UTF-32, if the start of a file shows it by a byte order mark or by its zero bytes; else None."""
    marked = marked_encoding(start)
    if marked or len(start) < 8:
        return marked
    even, odd = start[0:200:2], start[1:200:2]
    if odd.count(0) > 0.6 * len(odd) and even.count(0) < 0.1 * len(even):
        return "utf-16-le"
    if even.count(0) > 0.6 * len(even) and odd.count(0) < 0.1 * len(odd):
        return "utf-16-be"
    return None


@dataclass
class _Undecodable:
    """The bytes of a file that its encoding cannot decode."""

    offset: int = -1  # in bytes, of the first one
    value: int = 0
    n_bytes: int = 0
    n_lines: int = 0  # with such bytes
    n_beyond_ascii: int = 0  # decoded characters beyond ASCII

    @property
    def is_rare(self) -> bool:
        """Whether the encoding decodes nearly all characters beyond ASCII."""
        return self.n_beyond_ascii > 10 * self.n_bytes


def undecodable(path: Path, encoding: str) -> str:
    """The message about a file that is not in its encoding."""
    regular = path.is_file()  # a pipe cannot be read twice
    advice = advised_encoding(path, encoding)
    bad = _count_bad(path, encoding) if regular else None
    if bad is None or bad.offset < 0:
        return f"{path.name} is not {encoding}; name its encoding with --encoding, such as {advice}"
    with path.open("rb") as raw:
        decompressed = " after decompression" if raw.read(2) == GZIP else ""
    total = f" ({bad.n_bytes:,} such bytes in {bad.n_lines:,} lines)" if bad.n_bytes > 1 else ""
    fact = (
        f"{path.name} is not {encoding}: byte 0x{bad.value:02x} at byte offset {bad.offset}{decompressed} cannot be "
        f"decoded{total}; "
    )
    if encoding == "utf-8" and bad.is_rare:
        return f"{fact}the rest is utf-8: fix these bytes, or leave their rows out with --skip-unreadable"
    return f"{fact}name its encoding with --encoding, such as {advice}, or leave the rows out with --skip-unreadable"


def _other(encoding: str) -> str:
    return "cp1252" if encoding != "cp1252" else "latin-1"


def advised_encoding(path: Path, encoding: str) -> str:
    """A flag with another encoding that decodes the file; a pipe is not read again.

    "" where UTF-8 decodes all but a few bytes.
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
    if not wide and _are_adjacent(path) and not (encoding != "utf-8" and _decodes(path, "utf-8")):
        able = [name for name in EASTERN if name != encoding and _decodes(path, name)]
        return (
            f"--encoding {' or '.join(able)}, whichever shows its letters" if able else f"--encoding {_other(encoding)}"
        )
    return f"--encoding {next((name for name in others if _decodes(path, name)), _other(encoding))}"


def _are_adjacent(path: Path) -> bool:
    """Whether most bytes beyond ASCII are adjacent to another one, as in languages without Latin letters."""
    with open_bytes(path) as raw:
        runs = re.findall(rb"[\x80-\xff]+", raw.read(SAMPLED_BYTES))
    return sum(len(run) for run in runs if len(run) > 1) > sum(map(len, runs)) / 2


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with open_bytes(path) as raw:
            while chunk := raw.read(DECODED_BYTES):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def _count_bad(path: Path, encoding: str) -> _Undecodable | None:
    """The bytes that `encoding` cannot decode, or None where the codec does not say which they are."""
    bad = _Undecodable()
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
    strict = codecs.getincrementaldecoder(encoding)()
    n_read, chunk, has_bad = 0, b"-", False
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
            except UnicodeError:  # some codecs cannot continue after an error
                return bad
            for line in text.splitlines(keepends=True):
                n_bytes = len(ESCAPED.findall(line)) if not line.isascii() else 0
                bad.n_bytes += n_bytes
                bad.n_lines += bool(n_bytes) and not has_bad
                bad.n_beyond_ascii += 0 if line.isascii() else sum(character > "\x7f" for character in line) - n_bytes
                has_bad = (has_bad or bool(n_bytes)) and not line.endswith(("\n", "\r"))
            n_read += len(chunk)
    return bad
