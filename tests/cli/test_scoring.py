"""`lasttoken predict` into folders of parts: flags that do not fit, shards, status and join."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.sentences import sentence_of
from miniature import run_cli

from lasttoken.bulk import windows
from lasttoken.core.locks import exclusive
from lasttoken.core.machine import LEAST_BYTES

ROWS = "key,text\n" + "".join(f"{at},Win prize {at}\n" for at in range(20))


@pytest.fixture(autouse=True)
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(windows, "WINDOW", 7)
    (tmp_path / "in").mkdir()
    (tmp_path / "in.csv").write_text(ROWS)
    (tmp_path / "in" / "a.csv").write_text(ROWS)
    (tmp_path / "in" / "b.csv").write_text(ROWS)


FLAGS: list[tuple[list[str], list[str]]] = [
    (["--input", "in.csv", "--output", "o/", "--shard", "2/2"], ["--shard", "2/2", "1/2"]),
    (["--input", "in.csv", "--output", "o/", "--shard", "1 of 2"], ["--shard", "1 of 2", "0/8"]),
    (["--input", "in.csv", "--output", "o.csv", "--shard", "0/2"], ["--shard", "o.csv", "/"]),
    (["--input", "in.csv", "--output", "o/", "--shard", "0/2", "--restart"], ["--restart", "--shard"]),
    (["--input", "in.csv", "--output", "o.csv", "--part-rows", "9"], ["--part-rows", "o.csv"]),
    (["--input", "in.csv", "--output", "o/", "--part-rows", "0"], ["--part-rows", "0"]),
    (["--input", "in.csv", "--output", "o/", "--part-format", "xlsx"], ["xlsx", ".parquet"]),
    (["--input", "in.csv", "--output", "o/", "--part-format", "csv", "--json"], ["--json", "--part-format"]),
    (["--input", "in.csv", "--output", "o.csv", "--workers", "0"], ["--workers", "0"]),
    (["--input", "in.csv", "--workers", "2"], ["--workers", "--output"]),
    (["--input", "in/*.csv"], ["in/*.csv", "--output"]),
    (["--input", "none/*.csv", "--output", "o/"], ["none/*.csv", "pattern"]),
    (["--input", "s3://bucket/in.csv", "--output", "o/"], ["s3://bucket/in.csv", ".[s3]"]),
    (["--input", "in.csv", "--output", "gs://bucket/o"], ["gs://bucket/o", ".[gcs]"]),
    (["--input", "in.csv", "--output", "in"], ["--output in", "a.csv"]),
    (["--input", "in.csv", "--output", "o/", "--part-format", "foo"], ["--part-format foo", ".parquet"]),
    (["--input", "in.csv", "--output", "o/", "--part-format", "../csv"], ["--part-format ../csv", ".parquet"]),
    (["--input", "", "--output", "o/"], ["--input is ''"]),
    (["--input", "in.csv", "--output", " "], ["--output is ' '"]),
    (["--input", "/dev/null", "--output", "o/"], ["/dev/null", "pipe"]),
    (["--input", "in.csv", "--output", "memory://o/", "--workers", "2", "--part-rows", "5"], ["memory://o/"]),
    (["--input", "in", "--output", "in/o/"], ["--output in/o/", "--input in"]),
    (["--input", "in", "--output", "in/o.csv"], ["--output in/o.csv", "--input in"]),
    (["--input", "in/*.csv", "--output", "in/o.csv"], ["--output in/o.csv", "in/*.csv"]),
    (["--input", "in/*.csv", "--output", "in/o.jsonl", "--workers", "0"], ["--workers"]),
]


@pytest.mark.parametrize(("flags", "names"), FLAGS, ids=lambda value: "-".join(map(str, value)))
def test_flags_that_do_not_fit_leave_nothing(flags: list[str], names: list[str], run_dir: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.rglob("*"))
    sentence = sentence_of(run_cli("predict", run_dir, *flags), 2)
    assert all(name in sentence for name in names), sentence
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--status", "in"], ["in", "job.json"]),
        (["--join", "in", "--output", "a.csv"], ["in", "job.json"]),
        (["--join", "in"], ["--join", "--output"]),
        (["--status", "in", "--input", "in.csv"], ["--status", "--input"]),
        (["--status", "in", "--join", "in"], ["--status", "--join"]),
        ([], ["run directory"]),
    ],
    ids=lambda value: "-".join(map(str, value)),
)
def test_status_and_join_need_a_job_and_nothing_else(flags: list[str], names: list[str]) -> None:
    sentence = sentence_of(run_cli("predict", *flags), 2)
    assert all(name in sentence for name in names), sentence


def test_shards_status_and_join(run_dir: Path, tmp_path: Path) -> None:
    assert run_cli("predict", run_dir, "--input", "in.csv", "--output", "one.csv").code == 0
    job = ("predict", run_dir, "--input", "in.csv", "--output", "o/")
    assert "parts of other shards" in run_cli(*job, "--shard", "1/2").err
    assert run_cli("predict", "--status", "o").out.startswith("1 of 3 parts are finished (33%), about 7 rows")
    answer = run_cli(*job, "--shard", "0/2")
    assert "20 rows classified, in 3 parts" in answer.err
    assert run_cli("predict", "--status", "o/").out == "finished: 20 rows in 3 parts\n"
    assert '"is_finished": true' in run_cli("predict", "--status", "o/", "--json").out
    assert run_cli("predict", "--join", "o", "--output", "joined.csv").code == 0
    assert (tmp_path / "joined.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    (tmp_path / "in.csv").write_text(ROWS + "20,more\n")
    assert "in.csv has changed" in sentence_of(run_cli(*job), 2)
    assert run_cli(*job, "--restart", "--part-format", "jsonl").code == 0
    assert {path.suffix for path in (tmp_path / "o").glob("part-*")} == {".json", ".jsonl"}


def test_several_files_become_one(run_dir: Path, tmp_path: Path) -> None:
    answer = run_cli("predict", run_dir, "--input", "in/*.csv", "--output", "o.jsonl", "--id", "key")
    assert answer.code == 0, answer.err
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "in.csv", "o.jsonl"]


@pytest.mark.parametrize("output", ["o/", "o.csv"])
def test_more_workers_than_fit_into_the_memory_leave_nothing(
    output: str, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lasttoken.core.machine.free_bytes", lambda: 2 * LEAST_BYTES)
    before = sorted(path.name for path in tmp_path.iterdir())
    answer = run_cli("predict", run_dir, "--input", "in.csv", "--output", output, "--workers", 3)
    assert "--workers 2" in sentence_of(answer, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_second_job_with_one_output_is_refused(run_dir: Path, tmp_path: Path) -> None:
    with exclusive(Path("o.jsonl.parts")):
        before = sorted(path.name for path in tmp_path.iterdir())
        sentence = sentence_of(run_cli("predict", run_dir, "--input", "in/*.csv", "--output", "o.jsonl"), 2)
        assert "another process is working on o.jsonl.parts" in sentence
        assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert run_cli("predict", run_dir, "--input", "in/*.csv", "--output", "o.jsonl").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "in.csv", "o.jsonl"]
