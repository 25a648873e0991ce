"""The store with bad weather that other tests use does what it says."""

from __future__ import annotations

import fsspec
import pytest
from flaky_store import flaky_store

OUT = "flaky://bucket/out"


def put_all(n: int) -> int:
    """Write n objects once each, without retries; return how many calls raised."""
    fs, path = fsspec.core.url_to_fs(OUT)
    n_raised = 0
    for number in range(n):
        try:
            fs.pipe_file(f"{path}/{number:04d}", b"%d" % number)
        except (OSError, TimeoutError):
            n_raised += 1
    return n_raised


def test_one_call_in_20_fails_and_half_of_these_have_written() -> None:
    with flaky_store(seed=1, delay_s=0.0) as store:
        n_raised = put_all(2000)
        assert 60 <= n_raised <= 140
        assert n_raised == store.failed["PUT"] + store.lost_answers
        assert min(store.failed["PUT"], store.lost_answers) >= n_raised // 4
        assert len(store.objects(OUT)) == 2000 - store.failed["PUT"] == sum(store.puts.values())
        assert store.calls == {"PUT": 2000}


def test_a_seed_repeats_the_weather_and_each_store_is_empty() -> None:
    def names(seed: int) -> list[str]:
        with flaky_store(seed, delay_s=0.0) as store:
            assert store.objects(OUT) == {}
            put_all(300)
            return list(store.objects(OUT))

    assert names(3) == names(3) != names(4)


def test_an_object_appears_whole_when_it_is_closed() -> None:
    with flaky_store(failing=0.0) as store:
        with fsspec.open(f"{OUT}/a", "wb") as file:
            file.write(b"half")
            assert store.objects(OUT) == {}
            file.write(b" whole")
        assert store.objects(OUT) == {"a": b"half whole"}


def test_reads_ranges_and_listings_count() -> None:
    with flaky_store(failing=0.0) as store:
        fs, path = fsspec.core.url_to_fs(OUT)
        fs.pipe_file(f"{path}/a", b"0123456789")
        assert fs.cat_file(f"{path}/a", 2, 5) == b"234"
        assert [entry["size"] for entry in fs.ls(path)] == [10]
        assert fs.glob(f"{OUT}/*") == ["/bucket/out/a"]
        assert fs.info(f"{path}/a")["size"] == 10
        with pytest.raises(FileNotFoundError):
            fs.cat_file(f"{path}/b")
        fs.rm_file(f"{path}/a")
        assert store.objects(OUT) == {}
        assert store.calls["GET"] == 2
        assert store.calls["LIST"] >= 2
