"""A job of a folder of parts: the same bytes on any store, in any order, whoever writes a part."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pytest
from bulk.conftest import N
from pyarrow import parquet

from lasttoken.bulk.job import Source, score_file
from lasttoken.bulk.model import Model
from lasttoken.bulk.parting import score_part
from lasttoken.bulk.store import Store
from lasttoken.bulk.work import MANIFEST, Job, JobSettings, open_job
from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import DataError, RunError, SettingsError

MODEL = {"files": {"model.safetensors": "0"}, "device": "cpu"}


def inputs(folder: Path) -> dict[str, Path]:
    """The same 60 rows in three formats."""
    texts = [f"Win prize {at} " * (1 + at % 5) for at in range(N)]
    with (folder / "in.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("key", "text"), *((at, f'{text}\n"é') for at, text in enumerate(texts))])
    lines = [json.dumps({"key": at, "text": text}) + "\n" for at, text in enumerate(texts)]
    (folder / "in.jsonl").write_text("".join(lines))
    table = pyarrow.table({"key": list(range(N)), "text": texts})
    parquet.write_table(table, folder / "in.parquet", row_group_size=9)
    return {path.suffix: path for path in folder.glob("in.*")}


def scored(predictor: Predictor, place: str, output: str, numbers: list[int] | None = None) -> Job:
    job = open_job(place, output, JobSettings(), MODEL)
    for number in numbers if numbers is not None else job.missing():
        score_part(job, number, predictor)
    return job


def contents(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.names()}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_store_holds_the_same_parts(suffix: str, predictor: Predictor, tmp_path: Path) -> None:
    path = inputs(tmp_path)[suffix]
    fsspec.filesystem("memory").pipe_file(f"/in/{path.name}", path.read_bytes())
    local = scored(predictor, str(path), str(tmp_path / "out"))
    (tmp_path / "out" / "part-000001.csv.tmp-12-ab34").touch()  # of a process that was killed
    remote = scored(predictor, f"memory://in/{path.name}", "memory://out")
    assert local.finish() is not None
    assert local.n_parts > 5
    parts = [{name: content for name, content in contents(job.store).items() if not name.endswith(".json")}
             for job in (local, remote)]  # fmt: skip
    assert parts[0] == parts[1]
    assert len(parts[0]) == local.n_parts
    assert len(list((tmp_path / "out").iterdir())) == 2 * local.n_parts + 2


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_parts_hold_the_rows_of_one_file(suffix: str, predictor: Predictor, tmp_path: Path) -> None:
    path = inputs(tmp_path)[suffix]
    job = scored(predictor, str(path), str(tmp_path / "out"))
    score_file(lambda: predictor, Source(path), tmp_path / f"whole{suffix}")
    assert rows(sorted((tmp_path / "out").glob(f"part-*{suffix}"))) == rows([tmp_path / f"whole{suffix}"])
    summary = job.finish()
    assert summary is not None
    assert summary.counts.n_rows == N


def rows(paths: list[Path]) -> list[Any]:
    found: list[Any] = []
    for path in paths:
        if path.suffix == ".parquet":
            found += parquet.read_table(path).to_pylist()
        elif path.suffix == ".jsonl":
            found += map(json.loads, path.read_text().splitlines())
        else:
            with path.open(encoding="utf-8", newline="") as file:
                found += csv.DictReader(file)
    return found


def test_two_workers_in_any_order_write_the_same_bytes(predictor: Predictor, tmp_path: Path) -> None:
    path = inputs(tmp_path)[".csv"]
    first = scored(predictor, str(path), "memory://a")
    assert first.finish() is not None
    second = scored(predictor, str(path), "memory://b", [8, 2, 2, 0])
    assert second.finish() is None
    assert list(second.missing()) == [1, 3, 4, 5, 6, 7]
    assert [list(second.missing(shard, 3)) for shard in range(3)] == [[3, 6], [1, 4, 7], [5]]
    scored(predictor, str(path), "memory://b", [*range(second.n_parts)])
    assert second.finish() is not None
    assert contents(first.store) == contents(second.store)


def test_a_part_that_lost_bytes_or_is_of_another_job_is_missing(predictor: Predictor, tmp_path: Path) -> None:
    job = scored(predictor, str(inputs(tmp_path)[".csv"]), "memory://out")
    whole = job.store.read("part-000003.csv")
    job.store.write("part-000003.csv", whole[:-1])
    job.store.write("part-000005.json", job.store.read("part-000005.json").replace(job.key.encode(), b"another"))
    job.store.remove("part-000006.json")
    assert list(job.missing()) == [3, 5, 6]
    assert job.finish() is None
    assert MANIFEST not in job.store.names()


def test_another_classifier_other_settings_or_a_changed_input_are_refused(tmp_path: Path) -> None:
    path = inputs(tmp_path)[".csv"]
    open_job(str(path), "memory://out", JobSettings(), MODEL)
    with pytest.raises(RunError, match="another classifier"):
        open_job(str(path), "memory://out", JobSettings(), {**MODEL, "device": "cuda"})
    with pytest.raises(RunError, match="top_k"):
        open_job(str(path), "memory://out", replace(JobSettings(), top_k=1), MODEL)
    path.write_text(path.read_text() + "60,late\n")
    with pytest.raises(RunError, match=r"in\.csv has changed"):
        open_job(str(path), "memory://out", JobSettings(), MODEL)
    assert open_job(str(path), "memory://out", JobSettings(), MODEL, restart=True).n_parts == 9
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x.csv").write_text("x\n")
    with pytest.raises(RunError, match=r"x\.csv"):
        open_job(str(path), str(tmp_path / "full"), JobSettings(), MODEL)


def test_a_model_is_identified_without_being_loaded(run_dir: Path, other_run: Path) -> None:
    model = Model(run_dir, "cpu")
    assert model.describe() == Model(other_run, "cpu").describe()  # the same files of weights
    assert model.load(model.describe()).labels == ("ham", "spam")
    with pytest.raises(RunError, match="decision"):
        replace(model, threshold="0.9").load(model.describe())


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_part_of_a_file_that_changes_meanwhile_is_not_written(
    place: str, predictor: Predictor, tmp_path: Path
) -> None:
    path = inputs(tmp_path)[".jsonl"]
    url = str(path)
    if place == "memory":
        url = "memory://in/in.jsonl"
        fsspec.filesystem("memory").pipe_file("/in/in.jsonl", path.read_bytes())
    job = scored(predictor, url, "memory://out", [0])
    if place == "local":
        os.utime(path, (1, 1))
    else:
        fsspec.filesystem("memory").pipe_file("/in/in.jsonl", path.read_bytes() + b'{"text": "late"}\n')
    with pytest.raises(DataError, match=r"in\.jsonl was changed"):
        score_part(job, 1, predictor)
    assert {name for name in job.store.names() if name.startswith("part-")} == {"part-000000.json", "part-000000.jsonl"}


def test_a_worker_of_a_discarded_job_writes_nothing_into_the_new_one(predictor: Predictor, tmp_path: Path) -> None:
    path = inputs(tmp_path)[".csv"]
    old = scored(predictor, str(path), "memory://out", [0])
    open_job(str(path), "memory://out", replace(JobSettings(), top_k=1), MODEL, restart=True)
    with pytest.raises(RunError, match="another job"):
        score_part(old, 0, predictor)
    assert set(old.store.names()) == {"job.json"}


@pytest.mark.parametrize("output", ["in/out", "in/out.csv.parts"])
def test_an_output_in_the_folder_of_the_input_is_refused(output: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("text\nhi\n")
    with pytest.raises(SettingsError, match="--output"):
        open_job(str(tmp_path / "in"), str(tmp_path / output), JobSettings(), MODEL)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.csv"]
