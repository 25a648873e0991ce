"""Stores that fail: temporary failures are retried, lasting ones are one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from lasttoken.bulk import store
from lasttoken.bulk.store import RangeFile, Store, attempted
from lasttoken.core.errors import DataError, SettingsError, StorageError


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BACKOFF_S", 0.0)


def failing(n: int, error: Exception) -> Callable[[], str]:
    """A call that fails n times."""
    left = [error] * n

    def call() -> str:
        if left:
            raise left.pop()
        return "done"

    return call


def test_temporary_failures_are_retried() -> None:
    assert attempted("s3://b/x", failing(store.ATTEMPTS - 1, OSError("reset"))) == "done"
    with pytest.raises(StorageError, match=r"s3://b/x failed 8 times.*reset"):
        attempted("s3://b/x", failing(store.ATTEMPTS, TimeoutError("reset")))
    with pytest.raises(ZeroDivisionError):  # a fault of a program is no failure of a store
        attempted("s3://b/x", failing(1, ZeroDivisionError()))


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (PermissionError("Access Denied"), "no permission to read s3://b/x"),
        (OSError("An error occurred (403) Forbidden"), "no permission to read s3://b/x"),
        (FileNotFoundError("The specified bucket does not exist"), "no bucket 'b'"),
        (OSError("NoSuchBucket"), "no bucket 'b'"),
        (OSError("PermanentRedirect: use region eu-west-1"), "another region"),
        (OSError("AuthorizationHeaderMalformed: the region 'us-east-1' is wrong"), "another region"),
        (OSError("Unable to locate credentials"), "no credentials for s3://b/x"),
    ],
)
def test_lasting_failures_are_one_sentence_at_once(error: Exception, named: str) -> None:
    with pytest.raises(StorageError, match=named):
        attempted("s3://b/x", failing(1, error))


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gcs"), ("az", "azure"), ("abfs", "azure")])
def test_a_driver_that_is_not_installed_is_named(scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda _: (_ for _ in ()).throw(ImportError("Install it")))
    with pytest.raises(SettingsError, match=rf"\.\[{extra}\]"):
        Store(f"{scheme}://bucket/out").names()


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(SettingsError, match="nix://bucket"):
        Store("nix://bucket").names()


@pytest.mark.parametrize(
    ("error", "expected"), [(TypeError("host is missing"), SettingsError), (OSError("no libjvm.so"), StorageError)]
)
def test_a_driver_that_cannot_be_started_is_named(
    error: Exception, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda _: (_ for _ in ()).throw(error))
    with pytest.raises(expected, match=f"hdfs://host/out.*{error}"):
        Store("hdfs://host/out").names()


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_a_store_reads_what_it_wrote(kind: str, tmp_path: Path) -> None:
    place = Store("memory://store" if kind == "memory" else str(tmp_path / "new" / "store"))
    assert place.names() == {}
    place.write("a", b"one")
    place.write("a", b"three")
    assert place.read("a") == b"three"
    assert place.names()["a"].size == 5
    assert place.names()["a"].written_at > 1.7e9
    place.remove("a")
    place.remove("a")
    assert place.names() == {}
    with pytest.raises(FileNotFoundError):
        place.read("a")


def test_a_range_of_a_file_that_changed_is_an_error() -> None:
    Store("memory://in").write("a", b"0123456789")
    file = RangeFile("memory://in/a", 10)
    assert file.seek(4) == 4
    assert file.read(3) == b"456"
    Store("memory://in").write("a", b"01")
    with pytest.raises(DataError, match="changed while it was read"):
        file.read(3)
    Store("memory://in").remove("a")
    with pytest.raises(DataError, match="removed"):
        file.read(3)
