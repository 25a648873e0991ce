"""Files that are not tables, such as PDFs and archives, are recognized by their first bytes and rejected."""

from __future__ import annotations

import codecs
import zipfile
from pathlib import Path

from lasttoken.core.errors import DataError
from lasttoken.data.tables.encodings import codec_name, unicode_kind
from lasttoken.data.tables.raw_bytes import GZIP

TAR, TAR_AT = b"ustar", 257  # and its offset in a tar archive
PICKLE = "a Python pickle; write its table as CSV or Parquet"
OTHER_KINDS = {  # first bytes: the type of the file, and what to do
    b"%PDF": "a PDF; export its table as CSV",
    b"SQLite format 3\0": "a SQLite database; export a table of it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls); save the sheet as CSV UTF-8",
    b"FEA1": "an old Feather file; write it as Parquet",
    b"\x89HDF": "an HDF5 file; write its table as CSV or Parquet",
    b"\x93NUMPY": "a NumPy array; write it as CSV or Parquet",
    b"BZh": "compressed with bzip2; decompress it with bunzip2",
    b"\xfd7zXZ": "compressed with xz; decompress it with unxz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; decompress it with unzstd",
    b"Obj\x01": "an Avro file; write it as Parquet",
    b"ORC": "an ORC file; write it as Parquet",
    b"\x80\x02": PICKLE,
    b"\x80\x03": PICKLE,
    b"\x80\x04": PICKLE,
    b"\x80\x05": PICKLE,
    b"\x89PNG\r\n": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"<?xml": "an XML document; write its examples as CSV, with a line of column names",
    GZIP: "compressed with gzip twice; decompress it once",
    b"{\\rtf": "an RTF document; save its table as CSV",
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer and not the data; fetch it with git lfs pull",
}


def reject_other_kinds(path: Path, start: bytes, encoding: str) -> None:
    """Reject a file that is not text, or that is in another encoding than the one it is to be read in.

    Raises:
        DataError: names the type of the file, and what to do.
    """
    text = start.removeprefix(codecs.BOM_UTF8)
    kind = next((kind for mark, kind in OTHER_KINDS.items() if text.startswith(mark)), None)
    if start[TAR_AT : TAR_AT + len(TAR)] == TAR:
        kind = "a tar archive; unpack it and name a file of it"
    elif start.startswith(b"PK\x03\x04"):
        kind = _kind_of_zip(path)
    elif start.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower().startswith((b"<!doctype html", b"<html")):
        kind = "an HTML page, perhaps a login or an error page; download the data itself"
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
