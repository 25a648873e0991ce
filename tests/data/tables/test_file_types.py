"""Files that are not tables are named and rejected."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from pathlib import Path

import pytest
from table_files import read

from lasttoken.core.errors import DataError


def zipped(name: str) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr(name, "x" * 100)
    return whole.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (zipped("xl/workbook.xml"), "Excel"),
        (zipped("data.csv"), "zip"),
        (b"\xd0\xcf\x11\xe0" + b"\0" * 600, "Excel"),
        (b"<!DOCTYPE html>\n<html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "LFS"),
        (b"<?xml version='1.0'?><rows/>", "XML"),
        (pickle.dumps(["a"]), "pickle"),
        (b"\x89PNG\r\n\x1a\n\x00", "picture"),
        (gzip.compress(gzip.compress(b"text,label\n")), "twice"),
        (b"a.csv".ljust(257, b"\0") + b"ustar\0", "tar"),
        (b"ORC\x08", "ORC"),
        (b"%PDF-1.7\n", "PDF"),
        (b"SQLite format 3\0" + b"\0" * 80, "SQLite"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 20, "zstd"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.dat"])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, kind: str, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name} is .*{kind}"):
        read(tmp_path / name, content)
