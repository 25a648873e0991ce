"""`lasttoken predict`: texts, files and stdin in; predictions out, in the same order."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from miniature import messages, run_cli
from pyarrow import parquet

from lasttoken.bulk import windows

TEXTS, _ = messages(12)
ADDED = ["predicted_label", "predicted_score", "probs", "truncated"]


def predict(run: Path, *arguments: object, stdin: bytes = b"") -> str:
    answer = run_cli("predict", run, *arguments, stdin=stdin)
    assert answer.code == 0, answer.err
    return answer.out


def predict_json(run: Path, *arguments: object, stdin: bytes = b"") -> list[dict[str, Any]]:
    lines = predict(run, *arguments, "--json", stdin=stdin).split("\n")  # not splitlines: U+2028 may stand in JSON
    assert lines.pop() == ""
    return [json.loads(line) for line in lines]


def csv_rows(text: str) -> list[dict[str, str]]:
    rows = list(csv.reader(text.splitlines(keepends=True), strict=True))
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    """Rows as the file that the suffix asks for."""
    names = list(rows[0])
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    if ".jsonl" in path.name:
        content = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        mark = "\t" if ".tsv" in path.name else ","
        content = "".join(mark.join(line) + "\n" for line in [names, *(list(row.values()) for row in rows)])
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


# Texts ------------------------------------------------------------------------------------------------------------


def test_a_text_answers_with_label_score_and_all_probabilities(run_dir: Path) -> None:
    (found,) = predict_json(run_dir, "Win a prize now!")
    assert found.keys() == {"text", "label", "labels", "score", "probs", "n_tokens", "truncated"}
    assert found["text"] == "Win a prize now!"
    assert found["probs"].keys() == {"ham", "spam"}
    assert sum(found["probs"].values()) == pytest.approx(1, abs=1e-6)
    assert found["label"] == max(found["probs"], key=found["probs"].__getitem__)
    assert found["score"] == max(found["probs"].values())
    label, score, probs, text = predict(run_dir, "Win a prize now!").rstrip("\n").split("\t")
    assert (label, text) == (found["label"], "Win a prize now!")
    assert float(score) == pytest.approx(found["score"], abs=5e-4)
    assert all(name in probs for name in found["probs"])


def test_several_texts_are_answered_in_order_and_as_if_alone(run_dir: Path) -> None:
    found = predict_json(run_dir, *TEXTS)
    assert [row["text"] for row in found] == TEXTS
    for row in found:
        (alone,) = predict_json(run_dir, row["text"])
        assert alone["label"] == row["label"]
        assert alone["probs"] == pytest.approx(row["probs"], abs=1e-5)


def test_training_messages_get_their_own_labels(run_dir: Path) -> None:
    """This does not measure quality: the labels are not swapped."""
    labels = [row["label"] for row in predict_json(run_dir, *TEXTS)]
    assert labels == ["spam", "ham"] * 6


def test_a_text_that_starts_with_a_dash_is_a_text_after_two_dashes(run_dir: Path) -> None:
    (found,) = (json.loads(predict(run_dir, "--json", "--", "--win now")),)
    assert found["text"] == "--win now"


STRANGE = {
    "empty": "",
    "space": "   ",
    "end of text": "<|endoftext|>",
    "right to left": "مرحبا، لقد فزت بجائزة",
    "emoji": "👩‍👩‍👧 🎉🎉",
    "two lines": "one\ntwo\ttab\r\nthree",
    "carriage return": "one\rtwo",
    "control": "bell \x07 escape \x1b[31m",
    "NUL": "a\x00b",
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_texts_are_answered_and_come_back_unchanged(name: str, run_dir: Path, tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"  # the one format that can hold them all
    data.write_text(json.dumps({"text": STRANGE[name]}) + "\n", "utf-8")
    (found,) = predict_json(run_dir, "--input", data)
    assert found["text"] == STRANGE[name]
    assert found["predicted_label"] in ("ham", "spam")
    assert not found["truncated"]
    predict(run_dir, "--input", data, "--output", tmp_path / "b.csv")
    with (tmp_path / "b.csv").open(encoding="utf-8", newline="") as file:
        assert [row["text"] for row in csv.DictReader(file, strict=True)] == [STRANGE[name]]


def test_an_end_of_text_inside_a_text_is_text(run_dir: Path) -> None:
    (found,) = predict_json(run_dir, "<|endoftext|>")
    assert found["n_tokens"] > 1


def test_the_empty_text_is_answered_with_a_warning(run_dir: Path) -> None:
    answer = run_cli("predict", run_dir, "")
    assert answer.code == 0
    assert "empty" in answer.err


def test_half_a_surrogate_in_jsonl_is_rejected_with_its_row(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "ok"}\n{"text": "\\ud83d"}\n', "utf-8")
    answer = run_cli("predict", run_dir, "--input", tmp_path / "a.jsonl", "--quiet")
    assert answer.code == 2
    assert "row 2 (line 2) of a.jsonl" in answer.err
    assert "surrogate" in answer.err


def test_a_text_past_the_context_is_cut_and_flagged(run_dir: Path) -> None:
    answer = run_cli("predict", run_dir, "win " * 50_000, "short", "--json")
    long, short = (json.loads(line) for line in answer.out.splitlines())
    assert (long["truncated"], long["n_tokens"]) == (True, 64)
    assert not short["truncated"]
    assert "64 tokens" in answer.err


def test_tabs_and_line_ends_in_labels_do_not_break_the_line(backbone: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{('win', 'meet')[n % 2]} {n * 7919}", "label": ("a\tb", "c\nd")[n % 2]} for n in range(40)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trained = ("--backbone", backbone, "--epochs", 1, "--no-cache", "--out", tmp_path / "run")
    assert run_cli("train", tmp_path / "data.jsonl", *trained).code == 0
    lines = predict(tmp_path / "run", "win", "meet").splitlines()
    assert len(lines) == 2
    assert all(len(fields) == 4 and fields[0] in (r"a\tb", r"c\nd") for fields in (line.split("\t") for line in lines))
    assert {row["label"] for row in predict_json(tmp_path / "run", "win", "meet")} <= {"a\tb", "c\nd"}


# stdin ------------------------------------------------------------------------------------------------------------


def test_stdin_is_one_text_a_line(run_dir: Path) -> None:
    lines = "".join(f"{text}\r\n" for text in TEXTS) + "no newline at the end"
    found = predict_json(run_dir, "--input", "-", stdin=lines.encode())
    assert [row["text"] for row in found] == [*TEXTS, "no newline at the end"]


@pytest.mark.parametrize("flags", [("--format", "csv"), ("--separator", ";"), ("--no-header",)])
def test_flags_of_tables_are_not_ignored_on_stdin(run_dir: Path, flags: tuple[str, ...]) -> None:
    answer = run_cli("predict", run_dir, "--input", "-", *flags, stdin=b"text\nhi\n")
    assert (answer.code, answer.out) == (2, "")
    assert flags[0] in answer.err
    assert "/dev/stdin" in answer.err


def test_an_empty_stdin_gives_no_prediction(run_dir: Path) -> None:
    assert predict(run_dir, "--input", "-") == ""


def test_a_line_separator_inside_a_line_is_text(run_dir: Path) -> None:
    found = predict_json(run_dir, "--input", "-", stdin="a\u2028b\x0bc\rd\n".encode())
    assert [row["text"] for row in found] == ["a\u2028b\x0bc\rd"]


# Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.csv.gz", "a.jsonl.gz"])
def test_every_format_gives_the_same_predictions(name: str, run_dir: Path, tmp_path: Path) -> None:
    rows = [{"key": f"k{at}", "message": text.replace(",", ";")} for at, text in enumerate(TEXTS)]
    out = predict(run_dir, "--input", write_rows(tmp_path / name, rows))
    found = csv_rows(out)
    assert list(found[0]) == ["key", "message", *ADDED]
    assert [{"key": row["key"], "message": row["message"]} for row in found] == rows
    expected = predict_json(run_dir, *(row["message"] for row in rows))
    assert [row["predicted_label"] for row in found] == [row["label"] for row in expected]
    for row, one in zip(found, expected, strict=True):
        assert float(row["predicted_score"]) == pytest.approx(one["score"], abs=1e-5)
        assert row["truncated"] == "false"


def test_an_output_file_has_the_rows_of_stdout_and_stdout_stays_empty(run_dir: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "a.tsv", [{"text": text} for text in TEXTS])
    for suffix, flags in ((".csv", ()), (".jsonl", ("--json",))):
        output = tmp_path / f"scored{suffix}"
        answer = run_cli("predict", run_dir, "--input", data, "--output", output)
        assert answer.out == ""
        assert "12 rows classified" in answer.err
        assert output.read_text("utf-8") == predict(run_dir, "--input", data, *flags)
    rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert all(sum(row["probs"].values()) == pytest.approx(1, abs=1e-5) for row in rows)
    assert not list(tmp_path.rglob("*.tmp-*"))


def test_id_keeps_that_column_alone(run_dir: Path, tmp_path: Path) -> None:
    rows = [{"key": f"k{at}", "text": text, "more": "x"} for at, text in enumerate(TEXTS)]
    data = write_rows(tmp_path / "a.tsv", rows)
    found = csv_rows(predict(run_dir, "--input", data, "--id", "key"))
    assert list(found[0]) == ["key", *ADDED]
    assert [row["key"] for row in found] == [row["key"] for row in rows]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_columns_of_the_same_name_are_kept(suffix: str, run_dir: Path, tmp_path: Path) -> None:
    row = {"text": "hi", "predicted_label": "mine", "truncated": "t", "truncated_": "t_", "probs": "p", "label": "eggs"}
    data = write_rows(tmp_path / "a.csv", [row])
    predict(run_dir, "--input", data, "--output", tmp_path / f"b{suffix}")
    content = (tmp_path / f"b{suffix}").read_text("utf-8")
    found: dict[str, Any] = json.loads(content) if suffix == ".jsonl" else csv_rows(content)[0]
    assert {name: found[name] for name in row} == row
    added = ["predicted_label_", "predicted_score", "truncated__", "probs_"]
    assert sorted(found.keys() - row.keys()) == sorted(added)


def test_several_text_columns_are_joined_as_in_training(run_dir: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "a.csv", [{"a": "Win", "b": "a prize"}])
    (found,) = predict_json(run_dir, "--input", data, "--text", "a", "--text", "b")
    (expected,) = predict_json(run_dir, "Win\n\na prize")
    assert found["probs"] == pytest.approx(expected["probs"], abs=1e-6)


def test_a_text_that_is_missing_is_answered_not_dropped(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": null, "n": 1}\n{"text": "hi", "n": 2}\n', "utf-8")
    found = predict_json(run_dir, "--input", tmp_path / "a.jsonl")
    assert [(row["text"], row["n"]) for row in found] == [(None, 1), ("hi", 2)]
    for target in ([], ["--output", tmp_path / "out.csv"]):
        answer = run_cli("predict", run_dir, "--input", tmp_path / "a.jsonl", *target)
        assert "1 rows have an empty text" in answer.err


def test_cut_rows_are_flagged_and_counted(run_dir: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "a.csv", [{"text": "w" * 65}, {"text": "w" * 64}])
    answer = run_cli("predict", run_dir, "--input", data)
    assert [row["truncated"] for row in csv_rows(answer.out)] == ["true", "false"]
    assert "2 rows classified" in answer.err
    assert "1 of them cut to 64 tokens" in answer.err


def test_predictions_do_not_depend_on_the_window(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rows(tmp_path / "a.tsv", [{"text": text} for text in TEXTS])
    whole = predict_json(run_dir, "--input", data)
    monkeypatch.setattr(windows, "WINDOW", 5)
    parts = predict_json(run_dir, "--input", data)
    assert [row["text"] for row in parts] == TEXTS
    for one, other in zip(parts, whole, strict=True):
        assert one["predicted_label"] == other["predicted_label"]
        assert one["probs"] == pytest.approx(other["probs"], abs=1e-5)


def test_quiet_says_nothing(run_dir: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "a.csv", [{"text": "w" * 65}])
    for arguments in (["--input", data], ["", "w" * 65]):
        assert run_cli("predict", run_dir, *arguments, "--quiet").err == ""


def start(*arguments: object, stdout: int) -> subprocess.Popen[bytes]:
    """The program in a process of its own, with stdout buffered as it is for users."""
    command = [sys.executable, "-c", "from lasttoken.cli.main import main; main()", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, env=environment)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes")
@pytest.mark.parametrize("n_rows", [1, 10_000])
def test_a_reader_that_leaves_early_ends_it_without_noise(n_rows: int, run_dir: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "a.tsv", [{"text": f"hello {at}"} for at in range(n_rows)])
    reader, writer = os.pipe()
    with start("predict", run_dir, "--input", data, "--quiet", stdout=writer) as process:
        os.close(reader)
        os.close(writer)
        _, said = process.communicate(timeout=120)
    assert said == b""
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_behind_stdout_is_one_sentence(run_dir: Path) -> None:
    with Path("/dev/full").open("wb") as full, start("predict", run_dir, "hello", stdout=full.fileno()) as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    (line,) = said.decode().splitlines()
    assert line.startswith("error: ")
    assert "disk is full" in line
