"""No part is missing, and none is another, on a store that fails, delays and loses answers, with one runner or two."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from bulk.conftest import N
from flaky_store import Weather, flaky_store

from lasttoken.bulk import store as stores
from lasttoken.bulk.parting import score_part
from lasttoken.bulk.work import MANIFEST, JobSettings, open_job
from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import StorageError

MODEL = {"files": {"model.safetensors": "0"}, "device": "cpu"}
OUT = "flaky://bucket/out"
LINES = [json.dumps({"key": at, "text": f"Win prize {at} " * (1 + at % 5)}) + "\n" for at in range(N)]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "BACKOFF_S", 0.0005)


def upload(weather: Weather) -> str:
    """Put the input into the store, whatever the weather; its URL."""
    weather.is_fine = True
    fsspec.filesystem("flaky").pipe_file("bucket/in.jsonl", "".join(LINES).encode())
    weather.is_fine = False
    weather.puts.clear()
    return "flaky://bucket/in.jsonl"


def run(place: str, predictor: Predictor, backwards: bool = False) -> int:
    """Score what is missing, as one runner does; how many rows it wrote."""
    job = open_job(place, OUT, JobSettings(part_rows=3), MODEL)
    missing = sorted(job.missing(), reverse=backwards)
    n_rows = sum(score_part(job, number, predictor).counts.n_rows for number in missing)
    job.finish()
    return n_rows


@pytest.fixture
def expected(predictor: Predictor) -> dict[str, bytes]:
    with flaky_store(failing=0.0) as weather:
        assert run(upload(weather), predictor) == N
        return weather.objects(OUT)


def test_a_store_that_fails_at_one_call_in_20(predictor: Predictor, expected: dict[str, bytes]) -> None:
    assert MANIFEST in expected
    with flaky_store(seed=10) as weather:
        assert run(upload(weather), predictor) == N
        assert weather.objects(OUT) == expected
        assert weather.failed.total() >= 3
        assert weather.lost_answers >= 1


def test_a_store_in_a_storm_costs_runs_and_no_part(predictor: Predictor, expected: dict[str, bytes]) -> None:
    with flaky_store(seed=1, failing=0.7, delay_s=0.0) as weather:
        place, n_runs = upload(weather), 1
        while True:
            try:
                run(place, predictor)
                break
            except StorageError:
                n_runs += 1
                listed = weather.objects(OUT)
                assert MANIFEST not in listed
                assert all(expected[name] == content for name, content in listed.items())
        assert n_runs > 1
        assert weather.objects(OUT) == expected


def test_two_runners_at_once_on_one_output(predictor: Predictor, expected: dict[str, bytes]) -> None:
    with flaky_store(seed=6) as weather, ThreadPoolExecutor(2) as pool:
        place = upload(weather)
        runners = [pool.submit(run, place, predictor, backwards) for backwards in (False, True)]
        assert all(runner.result() <= N for runner in runners)
        assert weather.objects(OUT) == expected


def test_a_worker_that_ends_before_the_others_asks_with_one_listing(predictor: Predictor) -> None:
    with flaky_store(failing=0.0) as weather:
        job = open_job(upload(weather), OUT, JobSettings(part_rows=3), MODEL)
        for number in job.missing(0, 2):
            score_part(job, number, predictor)
        weather.calls.clear()
        assert job.finish() is None
        assert weather.calls == {"LIST": 1}


def test_two_runners_at_once_in_one_folder(predictor: Predictor, tmp_path: Path, expected: dict[str, bytes]) -> None:
    source, output = tmp_path / "in.jsonl", str(tmp_path / "out")
    source.write_text("".join(LINES))
    job = open_job(str(source), output, JobSettings(part_rows=3), MODEL)

    def write_all() -> int:
        return sum(score_part(job, number, predictor).counts.n_rows for number in range(job.n_parts))

    with ThreadPoolExecutor(2) as pool:
        assert [runner.result() for runner in [pool.submit(write_all) for _ in range(2)]] == [N, N]
    assert job.finish() is not None
    parts = {path.name: path.read_bytes() for path in Path(output).glob("part-*.jsonl")}
    assert parts == {name: content for name, content in expected.items() if name.endswith(".jsonl")}
