"""Data sets fetched from real servers on the loopback address: whole, cut, wrong, late, rejected, killed halfway."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import struct
import tempfile
import time
import zipfile
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback import Answer, Server, closed_port, files_in, in_turn, kill_after, run_to_the_end, serving, start_fetching

from lasttoken.core.errors import DataError, NetworkError, StorageError
from lasttoken.core.published import PublishedFile
from lasttoken.core.retries import RetryableError
from lasttoken.data import catalog, datasets
from lasttoken.data.catalog import DatasetEntry
from lasttoken.data.datasets import fetch_dataset

CONTENT = b"".join(b"ham\tmessage %d, quite harmless\n" % i for i in range(400))
TINY = DatasetEntry(
    name="tiny",
    url="http://127.0.0.1:9/tiny.zip",
    archive_bytes=None,
    member="TinyCollection",
    member_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    licence="none needed",
    citation="",
    description="",
)


def make_zip(compression: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    """A zip of the members given, in that order; `evil` is written as ../evil."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as folder:
        for name, content in members.items():
            folder.writestr("../evil" if name == "evil" else name, content)
    return packed.getvalue()


WHOLE = make_zip(readme=b"read me", TinyCollection=CONTENT)


# ---- servers


@pytest.fixture(autouse=True)
def tiny_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.DATASETS, "tiny", TINY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def fetch_tiny(url: str, **options: Any) -> Path:
    quick: dict[str, Any] = {"url": url + "/tiny.zip", "timeout_s": 5.0, "backoff_s": 0.01}
    return fetch_dataset("tiny", **quick | options)


def rejected(cache: Path, answer: Answer, **options: Any) -> tuple[str, Server]:
    """The one sentence that fetching from such a server ends in, after a look at what it left behind."""
    with serving(lambda method, path: answer) as server, pytest.raises(NetworkError) as caught:
        fetch_tiny(server.address, **options)
    sentence = str(caught.value)
    assert files_in(cache) == []
    assert "\n" not in sentence
    assert sentence.startswith("could not fetch tiny: ")
    assert f"'TinyCollection' from it at {cache / 'datasets' / 'tiny' / 'TinyCollection'}" in sentence
    return sentence, server


def test_whole_is_fetched_once(own_cache: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    with serving(in_turn(Answer(WHOLE))) as server:
        path = fetch_tiny(server.address, progress=lambda done, total: seen.append((done, total)))
        again = fetch_tiny(server.address)
    assert path == again == own_cache / "datasets" / "tiny" / "TinyCollection"
    assert path.read_bytes() == CONTENT
    assert server.asked == [("GET", "/tiny.zip")]
    assert server.user_agents == ["lasttoken"]
    assert seen[-1] == (len(WHOLE), len(WHOLE))
    assert files_in(own_cache) == ["datasets/tiny/TinyCollection"]


def test_the_sms_collection(own_cache: Path, sms_file: Path) -> None:
    packed = make_zip(SMSSpamCollection=sms_file.read_bytes(), readme=b"about it")
    with serving(in_turn(Answer(packed))) as server:
        path = fetch_dataset("sms-spam", url=server.address)
    assert path == own_cache / "datasets" / "sms-spam" / "SMSSpamCollection"
    assert path.read_bytes() == sms_file.read_bytes()


def test_unknown_dataset() -> None:
    with pytest.raises(DataError, match="did you mean 'sms-spam'"):
        fetch_dataset("sms-span")


def test_present_is_used_offline(own_cache: Path) -> None:
    with serving(in_turn(Answer(WHOLE))) as server:
        path = fetch_tiny(server.address)
    assert fetch_tiny(closed_port(), offline=True) == path


def test_put_there_by_hand_is_accepted(own_cache: Path) -> None:
    target = own_cache / "datasets" / "tiny" / "TinyCollection"
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT)
    assert fetch_tiny(closed_port()) == target


@pytest.mark.parametrize("content", [b"", CONTENT[:-1] + b"!", CONTENT + b"more"])
def test_a_wrong_file_in_the_cache_is_rejected_and_not_removed(own_cache: Path, content: bytes) -> None:
    target = own_cache / "datasets" / "tiny" / "TinyCollection"
    target.parent.mkdir(parents=True)
    target.write_bytes(content)
    with pytest.raises(DataError) as caught:
        fetch_tiny(closed_port())
    for part in (str(target), f"{len(content):,} bytes", hashlib.sha256(content).hexdigest(), TINY.sha256, "delete it"):
        assert part in str(caught.value)
    assert target.read_bytes() == content


def test_offline_says_where_to_put_it(own_cache: Path) -> None:
    with serving(in_turn(Answer(WHOLE))) as server, pytest.raises(NetworkError) as caught:
        fetch_tiny(server.address, offline=True)
    assert server.asked == []
    assert "offline" in str(caught.value)
    assert f"{server.address}/tiny.zip" in str(caught.value)
    assert str(own_cache / "datasets" / "tiny" / "TinyCollection") in str(caught.value)
    assert not (own_cache / "datasets").exists()


def test_unreachable(own_cache: Path) -> None:
    with pytest.raises(
        NetworkError, match="could not fetch tiny: Connection refused; try again later, or download http"
    ):
        fetch_tiny(closed_port())
    assert files_in(own_cache) == []


def test_reason_is_not_what_the_caller_was_handling() -> None:
    try:
        raise FileNotFoundError(errno.ENOENT, "no such folder")
    except FileNotFoundError:
        with pytest.raises(NetworkError, match="could not fetch tiny: Connection refused"):
            fetch_tiny(closed_port())


def test_503_twice_then_whole() -> None:
    with serving(in_turn(Answer(status=503), Answer(status=503), Answer(WHOLE))) as server:
        assert fetch_tiny(server.address).read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_cut_then_whole() -> None:
    cut = Answer(bytes(200_000), announced=300_000)  # longer than the whole that follows: nothing of it may stay
    with serving(in_turn(cut, Answer(WHOLE))) as server:
        assert fetch_tiny(server.address).read_bytes() == CONTENT
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_status_that_may_pass_is_tried_four_times(own_cache: Path, status: int) -> None:
    sentence, server = rejected(own_cache, Answer(status=status))
    assert f"the server answered {status} " in sentence
    assert len(server.asked) == 4


@pytest.mark.parametrize("status", [401, 404, 410])
def test_status_that_stays_is_tried_once(own_cache: Path, status: int) -> None:
    sentence, server = rejected(own_cache, Answer(status=status))
    assert f"the server answered {status} " in sentence
    assert len(server.asked) == 1


def test_waits_double(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(NetworkError):
        fetch_tiny(closed_port(), backoff_s=1.0)
    assert waits == [1.0, 2.0, 4.0]


def test_retry_after_is_respected() -> None:
    with serving(in_turn(Answer(status=503, headers={"Retry-After": "1"}), Answer(WHOLE))) as server:
        start = time.monotonic()
        fetch_tiny(server.address)
    assert time.monotonic() - start >= 1.0


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_beyond_the_bound_is_not_waited_for(own_cache: Path, form: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=7200), usegmt=True)
    header = {"Retry-After": "7200" if form == "seconds" else date}
    sentence, server = rejected(own_cache, Answer(status=429, headers=header))
    assert "429 Too Many Requests and asks to wait 7" in sentence
    assert len(server.asked) == 1


def test_cut_always(own_cache: Path) -> None:
    sentence, server = rejected(own_cache, Answer(WHOLE[:-20], announced=len(WHOLE)))
    assert "truncated" in sentence
    assert len(server.asked) == 4


def test_slow_server(own_cache: Path) -> None:
    sentence, _ = rejected(own_cache, Answer(WHOLE, delay_s=0.4), timeout_s=0.05)
    assert "no answer within 0.05 s" in sentence


def test_silence_in_the_body(own_cache: Path) -> None:
    sentence, server = rejected(own_cache, Answer(WHOLE, chunk_bytes=len(WHOLE) // 2, pause_s=0.4), timeout_s=0.1)
    assert "no answer within 0.1 s" in sentence
    assert len(server.asked) == 4


def test_slow_but_steady_is_not_late() -> None:
    start = time.monotonic()
    with serving(in_turn(Answer(WHOLE, chunk_bytes=len(WHOLE) // 40, pause_s=0.02))) as server:
        assert fetch_tiny(server.address, timeout_s=0.5).read_bytes() == CONTENT
    assert time.monotonic() - start > 0.5


def test_not_a_zip(own_cache: Path) -> None:
    sentence, server = rejected(own_cache, Answer(b"<html>please log in</html>"))
    assert "zip file" in sentence
    assert len(server.asked) == 1


def test_cut_without_a_length(own_cache: Path) -> None:
    sentence, _ = rejected(own_cache, Answer(WHOLE[: len(WHOLE) // 2]))
    assert "zip file" in sentence


def test_wrong_content_is_named_with_both_checksums(own_cache: Path) -> None:
    other = CONTENT[:-1] + b"!"
    sentence, _ = rejected(own_cache, Answer(make_zip(TinyCollection=other)))
    assert f"{len(other):,} bytes and sha256 {hashlib.sha256(other).hexdigest()}" in sentence
    assert f"{len(CONTENT):,} bytes and sha256 {TINY.sha256}" in sentence


def test_short_content_is_named_with_both_sizes(own_cache: Path) -> None:
    sentence, _ = rejected(own_cache, Answer(make_zip(TinyCollection=b"ham\thi\n")))
    assert "has 7 bytes and sha256" in sentence


def test_member_larger_than_published_is_not_unpacked(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def sized(path: Path) -> PublishedFile:
        written.append(path.stat().st_size)
        return PublishedFile(written[-1], "")

    monkeypatch.setattr(PublishedFile, "of", sized)
    sentence, _ = rejected(own_cache, Answer(make_zip(TinyCollection=bytes(50_000_000))))
    assert f"has more than the published {len(CONTENT):,} bytes" in sentence
    assert written == [len(CONTENT) + 1]


def test_member_missing(own_cache: Path) -> None:
    sentence, _ = rejected(own_cache, Answer(make_zip(readme=b"hello")))
    assert "the zip has no file 'TinyCollection', only 'readme'" in sentence


def test_names_in_the_zip_are_not_paths(own_cache: Path) -> None:
    with serving(in_turn(Answer(make_zip(evil=b"boo", TinyCollection=CONTENT)))) as server:
        fetch_tiny(server.address)
    assert files_in(own_cache) == ["datasets/tiny/TinyCollection"]


def test_only_an_evil_name(own_cache: Path) -> None:
    sentence, _ = rejected(own_cache, Answer(make_zip(evil=CONTENT)))
    assert "no file 'TinyCollection', only '../evil'" in sentence


def test_more_than_any_published_zip_is_not_read_to_its_end(own_cache: Path) -> None:
    sentence, _ = rejected(own_cache, Answer(bytes(datasets.ARCHIVE_SLACK_BYTES + len(CONTENT) + 1)))
    assert "the server sends more than 1,0" in sentence


def test_encrypted_member(own_cache: Path) -> None:
    packed = bytearray(WHOLE)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for start in [i for i in range(len(packed)) if packed.startswith(signature, i)]:
            struct.pack_into("<H", packed, start + offset, 1)
    sentence, _ = rejected(own_cache, Answer(bytes(packed)))
    assert "zip file" in sentence
    assert "encrypted" in sentence


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    end=st.integers(0, len(WHOLE)),
    cut=st.booleans(),
    stored=st.booleans(),
)
def test_a_damaged_archive_is_read_whole_or_rejected(
    own_cache: Path, edits: list[tuple[int, int]], end: int, cut: bool, stored: bool
) -> None:
    packed = bytearray(make_zip(zipfile.ZIP_STORED, TinyCollection=CONTENT) if stored else WHOLE)
    for where, value in edits:
        packed[-1 - where] = value  # the directory, where zipfile looks first, is at the end
    target = own_cache / "fuzz"
    target.unlink(missing_ok=True)
    try:
        datasets._extract(io.BytesIO(packed[:end] if cut else packed), TINY, target)
    except RetryableError:
        assert files_in(own_cache) == []
    else:
        assert target.read_bytes() == CONTENT


# ---- the disk


def test_disk_full_while_downloading(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, content: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with serving(in_turn(Answer(WHOLE))) as server, pytest.raises(StorageError, match=r"disk is full.*TinyCollection"):
        fetch_tiny(server.address)
    assert len(server.asked) == 1
    assert files_in(own_cache) == []


def test_disk_full_while_unpacking(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with serving(in_turn(Answer(WHOLE))) as server, pytest.raises(StorageError, match=r"disk is full.*TinyCollection"):
        fetch_tiny(server.address)
    assert files_in(own_cache) == []


def test_cache_that_is_a_file(own_cache: Path) -> None:
    (own_cache / "datasets").write_text("not a folder")
    with pytest.raises(StorageError, match="a file is where a folder is needed"):
        fetch_tiny(closed_port())


def test_folder_where_the_file_belongs(own_cache: Path) -> None:
    target = own_cache / "datasets" / "tiny" / "TinyCollection"
    target.mkdir(parents=True)
    with pytest.raises(StorageError, match=r"TinyCollection cannot be read: Is a directory; move it away"):
        fetch_tiny(closed_port())


def test_killed_while_fetching_a_dataset(own_cache: Path) -> None:
    target = own_cache / "datasets" / "tiny" / "TinyCollection"
    slow = Answer(WHOLE, chunk_bytes=len(WHOLE) // 20, pause_s=0.02)
    with serving(in_turn(slow)) as server:
        script = (
            "from lasttoken.data import catalog\nfrom lasttoken.data.datasets import fetch_dataset\n"
            f"catalog.DATASETS['tiny'] = catalog.{TINY!r}\n"
            f"print(fetch_dataset('tiny', url='{server.address}/tiny.zip'))"
        )
        for delay_s in random.Random(5).choices([0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.43, 0.46, 0.5], k=5):
            kill_after(server, start_fetching(script, own_cache, server.address), delay_s)
            finished = [name for name in files_in(own_cache) if ".tmp-" not in name]
            assert finished in ([], ["datasets/tiny/TinyCollection"])
            if finished:
                assert target.read_bytes() == CONTENT
                target.unlink()
        assert run_to_the_end(script, own_cache, server.address) == target
    assert target.read_bytes() == CONTENT
