"""The bytes of a file, decompressed where its name or its first bytes say gzip."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from lasttoken.data.tables.raw_bytes import open_bytes

COMPRESSED = gzip.compress(b"text")


@pytest.mark.parametrize(("name", "content"), [("a.csv", b"text"), ("a.csv", COMPRESSED), ("a.csv.GZ", COMPRESSED)])
def test_gzip_is_decompressed_under_any_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with open_bytes(tmp_path / name) as file:
        assert file.read() == b"text"


def test_a_file_called_gz_must_be_gzip(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(b"text")
    with open_bytes(tmp_path / "a.gz") as file, pytest.raises(gzip.BadGzipFile):
        file.read()


def test_an_empty_file_has_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with open_bytes(tmp_path / "a.csv") as file:
        assert file.read() == b""


def test_a_folder_is_rejected_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=tmp_path.name), open_bytes(tmp_path):
        pass
