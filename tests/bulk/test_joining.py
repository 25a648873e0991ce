"""A folder of parts becomes one file; how far a job is, is told without a classifier."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest
from bulk.conftest import N

from lasttoken.bulk import work
from lasttoken.bulk.job import Source, score_file
from lasttoken.bulk.joining import join_parts, join_to
from lasttoken.bulk.parting import score_part
from lasttoken.bulk.status import Status, status_of
from lasttoken.bulk.store import Store
from lasttoken.bulk.work import Job, JobSettings, open_job
from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import RunError, SettingsError, StorageError

MODEL = {"files": {"model.safetensors": "0"}, "device": "cpu"}


def finished(predictor: Predictor, input: Path, output: str, part_format: str | None = None) -> Job:
    job = open_job(str(input), output, JobSettings(format=part_format), MODEL)
    for number in job.missing():
        score_part(job, number, predictor)
    assert job.finish() is not None
    return job


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "csv.gz"])
def test_the_joined_file_is_that_of_one_process(suffix: str, predictor: Predictor, big: Path, tmp_path: Path) -> None:
    """Windows and parts have the same rows here, as they have by default."""
    job = finished(predictor, big, str(tmp_path / "parts"), suffix)
    assert job.n_parts == 9
    score_file(lambda: predictor, Source(big), tmp_path / f"one.{suffix}")
    joined = join_parts(job.store, tmp_path / f"joined.{suffix}")
    assert joined.counts.n_rows == N
    assert (tmp_path / f"joined.{suffix}").read_bytes() == (tmp_path / f"one.{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_rejected_rows_have_their_numbers_in_the_file(suffix: str, predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / f"in.{suffix}"
    if suffix == "csv":
        rows = [f'{at},"two\nlines {at}"' if at % 8 else f"{at},a,b" for at in range(30)]
        path.write_text("\n".join(["key,text", *rows]) + "\n")
    else:
        path.write_text("".join('{"text": "hi"}\n' if at % 8 else "no JSON\n\n" for at in range(1, 30)))
    job = finished(predictor, path, "memory://rejects")
    score_file(lambda: predictor, Source(path), tmp_path / f"one.{suffix}")
    joined = join_parts(job.store, tmp_path / f"joined.{suffix}")
    assert joined.rejects is not None
    assert joined.rejects.read_bytes() == (tmp_path / "one.rejects.csv").read_bytes()
    assert (tmp_path / f"joined.{suffix}").read_bytes() == (tmp_path / f"one.{suffix}").read_bytes()


def test_rejected_rows_of_several_files_name_their_file(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.csv").write_text("key,text\n1,hi\n2,x,y\n")
    job = finished(predictor, tmp_path / "in", "memory://rejects")
    joined = join_to(job.store, str(tmp_path / "joined.csv"))
    assert joined.rejects is not None
    with joined.rejects.open(newline="") as file:
        assert [(row["file"], row["row"], row["line"]) for row in csv.DictReader(file)] == [
            ("a.csv", "2", "3"),
            ("b.csv", "2", "3"),
        ]


def test_a_remote_file_is_written_whole(predictor: Predictor, big: Path) -> None:
    job = finished(predictor, big, "memory://parts", "csv.gz")
    join_to(job.store, "memory://out/scored.csv.gz")
    content = gzip.decompress(Store("memory://out").read("scored.csv.gz"))
    assert content.count(b"\n") == N + 1


def test_what_cannot_be_joined_is_refused(predictor: Predictor, big: Path, tmp_path: Path) -> None:
    job = open_job(str(big), "memory://out", JobSettings(), MODEL)
    with pytest.raises(RunError, match=r"manifest\.json"):
        join_parts(job.store, tmp_path / "a.csv")
    with pytest.raises(RunError, match=r"job\.json"):
        join_parts(Store(str(tmp_path)), tmp_path / "a.csv")
    finished(predictor, big, "memory://out")
    with pytest.raises(SettingsError, match=r"\.csv.*a\.jsonl"):
        join_parts(job.store, tmp_path / "a.jsonl")
    content = job.store.read("part-000003.csv")
    job.store.write("part-000003.csv", content.replace(b"Win", b"Wyn"))
    with pytest.raises(StorageError, match=r"part-000003\.csv"):
        join_parts(job.store, tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == [big]


def test_the_status_counts_parts_and_estimates_the_time(predictor: Predictor, big: Path) -> None:
    job = open_job(str(big), "memory://state", JobSettings(), MODEL)
    state = status_of(job.store, now=0.0)
    assert (state.n_parts, state.n_done, state.n_rows, state.left_s) == (9, 0, 0, None)
    for number in (0, 5, 7):
        score_part(job, number, predictor)
    latest = max(entry.written_at for entry in job.store.names().values())
    state = status_of(job.store, now=latest + 200)
    assert (state.n_done, state.n_rows) == (3, 21)
    assert state.idle_s == pytest.approx(200)
    assert state.left_s == pytest.approx(6 * 7 / (state.rows_per_s or 0))
    assert "3 of 9 parts" in state.sentence()
    assert "3 min ago" in state.sentence()
    for number in job.missing():
        score_part(job, number, predictor)
    assert "manifest" in status_of(job.store, now=latest).sentence()
    job.finish()
    assert status_of(job.store, now=latest) == Status(9, 9, N, None, None, None, True)
    with pytest.raises(RunError, match="memory://nowhere"):
        status_of(Store("memory://nowhere"), now=0.0)
    assert work.read_job(job.store)[1] == job.key


FOREIGN = ["", "[]", "5", "null", "{}", '{"key": 1, "input": 2}', '{"key": 1, "input": {"files": [{}]}}', "{"]


@pytest.mark.parametrize("content", FOREIGN)
def test_foreign_files_of_the_names_of_a_job_are_refused(content: str, predictor: Predictor, big: Path) -> None:
    job = finished(predictor, big, "memory://out")
    job.store.write("manifest.json", content.encode())
    assert not status_of(job.store, now=0.0).is_finished
    with pytest.raises(RunError, match=r"manifest\.json"):
        join_parts(job.store, Path("a.csv"))
    job.store.write("part-000001.json", content.encode())
    assert status_of(job.store, now=0.0).n_done == 9
    assert list(job.missing()) == [1]
    job.store.write("job.json", content.encode())
    for act in (lambda: status_of(job.store, now=0.0), lambda: join_parts(job.store, Path("a.csv"))):
        with pytest.raises(RunError, match=r"job\.json"):
            act()
    with pytest.raises(RunError, match=r"job\.json"):
        open_job(str(big), "memory://out", JobSettings(), MODEL)


def test_parts_are_not_joined_into_their_own_folder(predictor: Predictor, big: Path, tmp_path: Path) -> None:
    job = finished(predictor, big, str(tmp_path / "out"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for name in ("part-000000.csv", "all.csv"):
        with pytest.raises(SettingsError, match=name):
            join_parts(job.store, tmp_path / "out" / name)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
