"""A file in the cache is the published one, absent, another one, or unreadable."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lasttoken.core.errors import DataError, StorageError
from lasttoken.core.published import PublishedFile

CONTENT = b"as it was published"
FILE = PublishedFile(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def test_the_published_file_is_known(tmp_path: Path) -> None:
    target = tmp_path / "file"
    assert not FILE.is_at(target, DataError)
    assert not FILE.is_at(target / "below" / "nothing", DataError)
    target.write_bytes(CONTENT)
    assert FILE.is_at(target, DataError)
    assert not FILE.is_at(target / "below a file", DataError)


@pytest.mark.parametrize("other", [b"", CONTENT[:-1], CONTENT[:-1] + b"!"])
def test_another_file_is_named_and_kept(tmp_path: Path, other: bytes) -> None:
    target = tmp_path / "file"
    target.write_bytes(other)
    with pytest.raises(DataError, match="delete it") as caught:
        FILE.is_at(target, DataError)
    for part in (str(target), str(FILE), str(PublishedFile.of(target))):
        assert part in str(caught.value)
    assert target.read_bytes() == other


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=str(tmp_path)):
        FILE.is_at(tmp_path, DataError)
