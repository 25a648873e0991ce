"""Files are whole or absent, and the system's errors become sentences."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from lasttoken.core.errors import StorageError
from lasttoken.core.storage import (
    cache_dir,
    free_bytes,
    make_dir,
    new_dir,
    new_file,
    parse_bytes,
    sweep_temporaries,
    write_bytes,
    write_text,
)

FAILURES = [  # of the operating system, and the reason that the message gives
    (errno.ENOSPC, "disk is full"),
    (errno.EDQUOT, "disk is full"),
    (errno.EFBIG, "ulimit"),
    (errno.EACCES, "no permission"),
    (errno.EPERM, "no permission"),
    (errno.EROFS, "no permission"),
]


class DiedError(Exception):
    """An exception that ends the block of a test."""


def failing(code: int) -> Callable[..., None]:
    def rejected(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return rejected


def die_while_writing(path: Path) -> None:
    with new_file(path) as temporary:
        temporary.write_bytes(b"half")
        raise DiedError


def die_while_filling(path: Path, error: Exception) -> None:
    with new_dir(path) as temporary:
        (temporary / "file").write_text("half")
        raise error


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_whole_with_its_folders_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "text"
    write_text(path, "é\r\nfirst\n")
    assert path.read_bytes() == "é\r\nfirst\n".encode()
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert names(path.parent) == ["text"]


def test_nobody_sees_a_file_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with new_file(path) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists()
        assert ".tmp-" in temporary.name
        assert temporary.parent == tmp_path
    assert path.read_bytes() == b"half"


def test_a_file_whose_writing_dies_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(DiedError):
        die_while_writing(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_the_content_reaches_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a power cut could leave the name with nothing in it."""
    done: list[str] = []
    fsync, rename = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        done.append("fsync")
        fsync(handle)

    def noted_rename(source: Path, target: Path) -> None:
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_rename)
    write_bytes(tmp_path / "file", b"content")
    assert done == ["fsync", "rename"]


@pytest.mark.parametrize("where", ["write_bytes", "replace", "fsync"])
@pytest.mark.parametrize(("code", "reason"), FAILURES)
def test_a_failed_write_is_one_sentence_and_keeps_the_old_file(
    code: int, reason: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with monkeypatch.context() as patched:
        patched.setattr(Path if where == "write_bytes" else os, where, failing(code))
        with pytest.raises(StorageError) as caught:
            write_bytes(path, b"new")
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(("code", "reason"), FAILURES)
def test_a_folder_that_cannot_be_created_is_one_sentence(
    code: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder"
    monkeypatch.setattr(Path, "mkdir", failing(code))
    with pytest.raises(StorageError) as caught:
        make_dir(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("beneath", [False, True], ids=["in its place", "above it"])
def test_a_file_where_a_folder_is_needed_is_one_sentence(beneath: bool, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "beneath" if beneath else tmp_path / "file"
    with pytest.raises(StorageError, match=re.escape(str(path))):
        make_dir(path)


def test_a_folder_where_a_file_is_needed_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    with pytest.raises(StorageError, match=re.escape(str(tmp_path / "name"))):
        write_bytes(tmp_path / "name", b"")
    assert names(tmp_path) == ["name"]


def test_other_errors_of_the_system_are_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_bytes", failing(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)) as caught:
        write_bytes(tmp_path / "file", b"")
    assert not isinstance(caught.value, StorageError)


def test_a_folder_appears_whole_with_its_mode_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "parent" / "folder"
    with new_dir(path, mode=0o700) as temporary:
        (temporary / "file").write_text("half")
        assert not path.exists()
    assert names(path) == ["file"]
    assert path.stat().st_mode & 0o777 == 0o700
    with pytest.raises(DiedError):
        die_while_filling(tmp_path / "parent" / "other", DiedError())
    assert names(path.parent) == ["folder"]


def test_of_two_who_make_one_folder_the_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with new_dir(path) as ours:
        (ours / "file").write_text("ours")
        with new_dir(path) as theirs:
            (theirs / "file").write_text("theirs")
    assert (path / "file").read_text() == "theirs"
    assert names(tmp_path) == ["folder"]


def test_a_full_disk_while_a_folder_is_filled_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with pytest.raises(StorageError, match=rf"disk is full.*{re.escape(str(path))}"):
        die_while_filling(path, OSError(errno.ENOSPC, "No space left on device"))
    assert names(tmp_path) == []


def test_a_sweep_takes_old_temporaries_of_both_kinds_and_nothing_else(tmp_path: Path) -> None:
    old, young = time.time() - 25 * 3600, time.time() - 23 * 3600
    for name, when in (("file.tmp-1-old", old), ("file.tmp-1-young", young), ("file", old)):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (when, when))
    for name, when in (("folder.tmp-1-old", old), ("folder.tmp-1-young", young), ("folder", old)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
        os.utime(tmp_path / name, (when, when))
    sweep_temporaries(tmp_path)
    assert names(tmp_path) == ["file", "file.tmp-1-young", "folder", "folder.tmp-1-young"]
    sweep_temporaries(tmp_path, older_than_s=0.0)
    assert names(tmp_path) == ["file", "folder"]
    sweep_temporaries(tmp_path / "nowhere")


def test_the_cache_is_where_the_variable_says_or_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LASTTOKEN_CACHE", "~/elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "elsewhere"
    monkeypatch.delenv("LASTTOKEN_CACHE")
    assert cache_dir() == user_cache_path("lasttoken")


def test_free_space_of_a_folder_that_is_not_there_yet_is_that_of_its_disk(tmp_path: Path) -> None:
    assert 0 < free_bytes(tmp_path / "not" / "there") == pytest.approx(free_bytes(tmp_path), rel=0.01)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("0", 0), ("1500", 1500), ("7b", 7), ("2 GB", 2 * 10**9), (" 1.5kb ", 1500), (".5k", 500), ("3M", 3_000_000),
        ("20gb", 20 * 10**9), ("20GiB", 20 * 2**30), ("1KiB", 1024), ("2TB", 2 * 10**12), ("2t", 2 * 10**12),
    ],
)  # fmt: skip
def test_sizes_are_read_in_all_their_spellings(text: str, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize(
    "text", ["", " ", "GB", "-1", "-5GB", "five", "1.2.3", "nan", "inf", "1e3", "5 PB", "5kk", "1ib", "99999999TB", "٣"]
)
def test_an_invalid_size_is_rejected_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="500MB") as caught:
        parse_bytes(text)
    assert str(caught.value).startswith(repr(text))
