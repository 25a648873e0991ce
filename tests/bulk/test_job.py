"""`lasttoken predict --input … --output …`: formats, rows that cannot be read, and kills at any moment."""

from __future__ import annotations

import csv
import gzip
import io
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from bulk.conftest import WINDOW, N, interrupted
from miniature import run_cli
from pyarrow import parquet

from lasttoken.bulk import job, parts, windows
from lasttoken.bulk.answers import ScoredRows
from lasttoken.bulk.job import Source, score_file
from lasttoken.classifier.predict import Predictor
from lasttoken.core.columns import ColumnSpec
from lasttoken.core.errors import DataError, RunError


def rows_of(path: Path) -> list[dict[str, str]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(
        csv.DictReader(io.StringIO(content.decode(), newline=""), delimiter="\t" if ".tsv" in path.name else ",")
    )


# Formats ------------------------------------------------------------------------------------------------------------


def read_any(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return [{**row, "probs": dict(row["probs"])} for row in parquet.read_table(path).to_pylist()]
    if ".jsonl" in path.name:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return [json.loads(line) for line in content.decode().splitlines()]
    return [
        {
            **row,
            "predicted_score": float(row["predicted_score"]),
            "probs": json.loads(row["probs"]),
            "truncated": row["truncated"] == "true",
        }
        for row in rows_of(path)
    ]


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.csv.gz", "a.tsv.gz", "a.jsonl.gz", "plain"]
)
def test_every_format_holds_all_columns_and_the_same_answers(
    name: str, predictor: Predictor, big: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out" / name
    found = score_file(lambda: predictor, Source(big), output)
    assert found.counts.n_rows == N
    rows = read_any(output)
    assert [row["key"] for row in rows] == [str(at) for at in range(N)]
    assert {row["note"] for row in rows} == {'a "quoted", note'}
    expected = predictor.predict([row["text"] for row in rows_of(big)])
    for row, one in zip(rows, expected, strict=True):
        assert row["predicted_label"] == one.label
        assert row["predicted_score"] == pytest.approx(one.score, abs=2e-6)
        assert row["probs"] == pytest.approx(one.probs, abs=2e-6)
        assert row["truncated"] == one.truncated
    assert [path.name for path in output.parent.iterdir()] == [name]


def test_parquet_keeps_its_types(predictor: Predictor, tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "text": [f"Win {at}" for at in range(20)],
            "n": pyarrow.array(range(20), pyarrow.int16()),
            "day": pyarrow.array([18_000 + at for at in range(20)], pyarrow.date32()),
            "tags": [["a"] * (at % 3) for at in range(20)],
            "late": pyarrow.array([None] * 15 + [1.5] * 5, pyarrow.float32()),
        }
    )
    parquet.write_table(table, tmp_path / "in.parquet")
    score_file(lambda: predictor, Source(tmp_path / "in.parquet"), tmp_path / "out.parquet")
    found = parquet.read_table(tmp_path / "out.parquet")
    assert found.select(table.column_names).equals(table)
    assert found.schema.field("probs").type == pyarrow.map_(pyarrow.string(), pyarrow.float64())


def test_json_keeps_numbers_lists_and_keys_that_come_late(predictor: Predictor, tmp_path: Path) -> None:
    rows = [{"text": f"Win {at}", "n": at, "tags": ["x"], **({"late": None} if at > 150 else {})} for at in range(160)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    score_file(lambda: predictor, Source(tmp_path / "in.jsonl"), tmp_path / "out.jsonl")
    found = read_any(tmp_path / "out.jsonl")
    added = ("predicted_label", "predicted_score", "probs", "truncated")
    assert [{name: value for name, value in row.items() if name not in added} for row in found] == rows


def test_top_k_writes_the_likeliest_first(run_dir: Path, big: Path, tmp_path: Path) -> None:
    answer = run_cli("predict", run_dir, "--input", big, "--output", tmp_path / "a.csv", "--top-k", 1)
    assert answer.code == 0, answer.err
    for row in rows_of(tmp_path / "a.csv"):
        assert list(json.loads(row["probs"]).items()) == [(row["predicted_label"], float(row["predicted_score"]))]


# Rows that cannot be read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "bad"),
    [
        (
            "a.csv",
            b'text,n\nhi,1\ntwo,fields,3\n"a"b,4\nbad \xff byte,5\nend,6\n',
            {2: "has 3 fields", 3: "text after a closing quote", 4: "0xff"},
        ),
        ("a.tsv", b"text\tn\nhi\t1\nlonely\nend\t2\n", {2: "has 1 field"}),
        (
            "a.jsonl",
            b'{"text": "hi"}\n{"text": \n[1]\n{"text": ["a"]}\n{"text": "\\ud83d"}\n{"text": "end"}\n',
            {2: "is not JSON", 3: "not a JSON object", 4: "a list", 5: "half a surrogate pair"},
        ),
    ],
)
def test_bad_rows_go_to_a_side_file_with_their_reason(
    name: str, content: bytes, bad: dict[int, str], run_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    output = tmp_path / "scored.csv"
    answer = run_cli("predict", run_dir, "--input", tmp_path / name, "--output", output)
    assert answer.code == 0, answer.err
    assert f"{len(bad)} rows could not be read" in answer.err
    assert [row["text"] for row in rows_of(output)] == ["hi", "end"]
    rejected = rows_of(tmp_path / "scored.rejects.csv")
    assert [int(row["row"]) for row in rejected] == list(bad)
    for row, reason in zip(rejected, bad.values(), strict=True):
        assert reason in row["reason"]
        assert row["line"]
    strict = run_cli("predict", run_dir, "--input", tmp_path / name, "--output", tmp_path / "b.csv", "--strict")
    assert strict.code == 2
    assert len(strict.err.splitlines()[-1]) > 20
    assert not (tmp_path / "b.csv").exists()


def test_a_later_job_without_bad_rows_leaves_no_side_file(predictor: Predictor, big: Path, tmp_path: Path) -> None:
    (tmp_path / "scored.rejects.csv").write_text("old")
    score_file(lambda: predictor, Source(big), tmp_path / "scored.csv")
    assert not (tmp_path / "scored.rejects.csv").exists()


def test_only_bad_rows(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,n\n" + "a,b,c\n" * 20)
    found = score_file(lambda: predictor, Source(tmp_path / "a.csv"), tmp_path / "out.csv")
    assert (found.counts.n_rows, found.counts.n_rejected) == (0, 20)
    assert (tmp_path / "out.csv").read_text().splitlines() == ["text,n,predicted_label,predicted_score,probs,truncated"]


def test_a_job_without_one_readable_row_fails(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,n\n" + "a,b,c\n" * 20)
    answer = run_cli("predict", run_dir, "--input", tmp_path / "a.csv", "--output", tmp_path / "out.csv")
    assert answer.code == 2
    assert "out.rejects.csv" in answer.err


# Killed and resumed ------------------------------------------------------------------------------------------------


def die_at(step: int, folder: Path, predictor: Predictor, big: Path, output: Path) -> None:
    """Score in this process, and kill it at the `step`th of the places where something is written or computed."""
    left = step

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    places: list[tuple[Any, str]] = [
        (job, "classify"), (parts, "write_text"), (parts, "new_file"), (os, "replace"), (Path, "unlink")
    ]  # fmt: skip
    for owner, name in places:
        setattr(owner, name, counted(getattr(owner, name)))
    score_file(lambda: predictor, Source(big), output)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".jsonl.gz", ".parquet"])
def test_a_job_killed_at_any_moment_ends_as_if_it_had_not_been(
    suffix: str, predictor: Predictor, big: Path, tmp_path: Path
) -> None:
    with big.open("a") as file:
        file.write("too,many,fields,here\n")
    whole = tmp_path / "whole" / f"scored{suffix}"
    score_file(lambda: predictor, Source(big), whole)
    rejects = whole.with_name("scored.rejects.csv").read_bytes()
    context = multiprocessing.get_context("fork")
    steps = range(0, 75, 4 if suffix == ".csv" else 11)
    n_killed = 0
    for step in steps:
        output = tmp_path / f"at{step}" / f"scored{suffix}"
        process = context.Process(target=die_at, args=(step, tmp_path, predictor, big, output))
        process.start()
        process.join(60)
        n_killed += process.exitcode == -signal.SIGKILL
        if process.exitcode == -signal.SIGKILL and output.exists():
            assert output.read_bytes() == whole.read_bytes()  # whole or absent
        found = score_file(lambda: predictor, Source(big), output)
        assert found.counts.n_rows == N
        assert output.read_bytes() == whole.read_bytes()
        assert output.with_name("scored.rejects.csv").read_bytes() == rejects
        assert not parts.Parts.beside(output, None).folder.exists()  # type: ignore[arg-type]
    assert n_killed >= len(steps) // 2


def test_finished_parts_are_not_computed_again(
    predictor: Predictor, big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "scored.csv"
    interrupted(predictor, big, output)
    seen: list[int] = []
    real = job.classify

    def spy(predictor: Predictor, window: windows.Window, top_k: int | None) -> ScoredRows:
        seen.append(len(window.rows))
        return real(predictor, window, top_k)

    monkeypatch.setattr(job, "classify", spy)
    found = score_file(lambda: predictor, Source(big), output)
    assert found.resumed_at == 3 * WINDOW
    assert sum(seen) == N - 3 * WINDOW
    assert [row["key"] for row in rows_of(output)] == [str(at) for at in range(N)]


@pytest.mark.parametrize("what", ["input", "classifier", "settings"])
def test_parts_of_another_job_are_rejected_without_restart(
    what: str, predictor: Predictor, run_dir: Path, big: Path, tmp_path: Path
) -> None:
    output = tmp_path / "scored.csv"
    interrupted(predictor, big, output)
    other, top_k = predictor, 1 if what == "settings" else None
    if what == "input":
        big.write_text(big.read_text() + "61,one more,row\n")
    if what == "classifier":
        other = Predictor.load(run_dir, "cpu")
        other.answer_by("0.9", None)
    with pytest.raises(RunError, match=f"unfinished job with another {what}; .* --restart"):
        score_file(lambda: other, Source(big), output, top_k=top_k)
    found = score_file(lambda: other, Source(big), output, top_k=top_k, restart=True)
    assert found.resumed_at == 0
    assert found.counts.n_rows == N + (what == "input")


def test_a_folder_that_is_not_a_job_is_not_removed(predictor: Predictor, big: Path, tmp_path: Path) -> None:
    precious = tmp_path / "scored.csv.parts"
    precious.mkdir()
    (precious / "thesis.txt").write_text("mine")
    for restart in (False, True):
        with pytest.raises(RunError, match=r"scored\.csv\.parts"):
            score_file(lambda: predictor, Source(big), tmp_path / "scored.csv", restart=restart)
    assert (precious / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--output", "a.xlsx"], ".csv"),
        (["--output", "a.parquet.gz"], "a.parquet.gz"),
        (["--output", "a.csv", "--top-k", "0"], "--top-k is 0"),
        (["--output", "a.csv", "--json"], "--json writes .jsonl"),
        (["--output", "nowhere/a.csv"], "there is no folder"),
    ],
)
def test_an_invalid_output_is_an_error_before_the_classifier_is_loaded(
    flags: list[str], message: str, run_dir: Path, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(big.parent)
    answer = run_cli("predict", run_dir, "--input", big, *flags)
    assert answer.code == 2
    assert message in answer.err.replace("'", "")
    assert sorted(path.name for path in big.parent.iterdir()) == ["big.csv"]


def test_a_pipe_is_read_once(predictor: Predictor, big: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "rows.csv"
    os.mkfifo(pipe)
    writer = multiprocessing.get_context("fork").Process(target=lambda: pipe.write_bytes(big.read_bytes()))
    writer.start()
    found = score_file(lambda: predictor, Source(pipe), tmp_path / "scored.csv")
    writer.join(20)
    assert found.counts.n_rows == N


# Values that no format holds as they are --------------------------------------------------------------------------

OUTPUTS = ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.csv.gz"]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    "bad",
    ['{"text": "b", "user": {"name": "ana \\ud83d"}}', '{"text": "b", "tags": [["\\udc00"]]}',
     '{"text": "b", "user": {"\\ud83d": 1}}', '{"text": "b", "\\ud83d": 1}',
     '{"text": "b", "u": ' + "[" * 500 + "]" * 500 + "}"],
)  # fmt: skip
def test_half_a_character_anywhere_spoils_its_row_only(
    predictor: Predictor, tmp_path: Path, output: str, bad: str
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a", "user": {"name": "x"}}\n' + bad + '\n{"text": "c", "user": null}\n')
    done = score_file(lambda: predictor, Source(source), tmp_path / output)
    assert (done.counts.n_rows, done.counts.n_rejected) == (2, 1)
    assert done.rejects is not None
    assert rows_of(done.rejects)[0]["row"] == "2"


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("id", [None, "uid"])
def test_bytes_and_unique_ids_are_written(predictor: Predictor, tmp_path: Path, output: str, id: str | None) -> None:
    source = tmp_path / "in.parquet"
    uid = pyarrow.array([bytes(range(16))] * 2, pyarrow.binary(16))
    columns = {
        "text": ["hi", "ho"],
        "thumb": [b"\x89PNG", b"abcd"],
        "uid": pyarrow.ExtensionArray.from_storage(pyarrow.uuid(), uid),
        "nested": [{"bytes": b"\xff", "path": "x"}] * 2,
    }
    parquet.write_table(pyarrow.table(columns), source)
    done = score_file(lambda: predictor, Source(source, ColumnSpec(id=id)), tmp_path / output)
    assert (done.counts.n_rows, done.counts.n_rejected) == (2, 0)
    if output == "a.parquet":
        found = parquet.read_table(tmp_path / output)
        assert found["uid"].to_pylist() == pyarrow.table(columns)["uid"].to_pylist()
        return
    rows = read_any(tmp_path / output)
    assert rows[0]["uid"] == "00010203-0405-0607-0809-0a0b0c0d0e0f"
    if id is None:
        assert [row["thumb"] for row in rows] == ["iVBORw==", "YWJjZA=="]
        assert '"/w=="' in json.dumps(rows[0]["nested"]).replace('\\"', '"')


TEMPORAL = {
    "duration": pyarrow.array([90_500, None], pyarrow.duration("ms")),
    "nanos": pyarrow.array([1, 2], pyarrow.timestamp("ns", "Europe/Vienna")),
    "time": pyarrow.array([1, None], pyarrow.time64("ns")),
    "date": pyarrow.array([1, 2], pyarrow.date32()),
    "decimal": pyarrow.array([None, None], pyarrow.decimal128(30, 5)),
    "times": pyarrow.array([[1], None], pyarrow.list_(pyarrow.timestamp("ns"))),
    "map": pyarrow.array([[("a", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int8())),
    "words": pyarrow.array(["a", "b"]).dictionary_encode(),
    "float": pyarrow.array([float("nan"), float("inf")], pyarrow.float32()),
    "struct": pyarrow.array([{"d": 5}, None], pyarrow.struct([("d", pyarrow.duration("us"))])),
}


@pytest.mark.parametrize("name", TEMPORAL)
def test_parquet_to_parquet_keeps_values_and_types(predictor: Predictor, tmp_path: Path, name: str) -> None:
    table = pyarrow.table({"text": ["hi", "ho"], name: TEMPORAL[name]})
    parquet.write_table(table, tmp_path / "in.parquet")
    score_file(lambda: predictor, Source(tmp_path / "in.parquet"), tmp_path / "out.parquet")
    found = parquet.read_table(tmp_path / "out.parquet")
    original = parquet.read_table(tmp_path / "in.parquet")
    assert found.schema.field(name).type == original.schema.field(name).type
    assert str(found[name].combine_chunks()) == str(original[name].combine_chunks())


@pytest.mark.parametrize("output", ["a.csv", "a.tsv", "a.jsonl"])
def test_values_of_every_type_are_written_as_text(predictor: Predictor, tmp_path: Path, output: str) -> None:
    parquet.write_table(pyarrow.table({"text": ["hi", "ho"], **TEMPORAL}), tmp_path / "in.parquet")
    done = score_file(lambda: predictor, Source(tmp_path / "in.parquet"), tmp_path / output)
    assert (done.counts.n_rows, done.counts.n_rejected) == (2, 0)
    rows = read_any(tmp_path / output)
    assert rows[0]["duration"] == "PT90.5S"
    if output == "a.jsonl":
        for line in (tmp_path / output).read_text().splitlines():
            json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert rows[0]["float"] is None


def test_json_that_is_not_finite_becomes_null(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "hi", "price": NaN, "f": [1e400]}\n')
    score_file(lambda: predictor, Source(tmp_path / "in.jsonl"), tmp_path / "out.jsonl")
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert (row["price"], row["f"]) == (None, [None])


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz", "a.tsv.gz"])
@pytest.mark.parametrize("kept", [11, 60, -30, -4])
def test_a_gzip_file_that_breaks_off_is_one_sentence(
    predictor: Predictor, tmp_path: Path, name: str, kept: int
) -> None:
    lines = [f'{{"text": "word {i}"}}' if "json" in name else f"word {i}" for i in range(300)]
    content = "\n".join([] if "json" in name else ["text"]) + "\n" + "\n".join(lines) + "\n"
    (tmp_path / name).write_bytes(gzip.compress(content.encode(), mtime=0)[:kept])
    with pytest.raises(DataError, match=rf"{name} is .* gzip file"):
        score_file(lambda: predictor, Source(tmp_path / name, ColumnSpec(("text",))), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_cells_that_a_spreadsheet_would_run(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('text,note\n"=1+1",-5\n@x,-x\n+a,"\tb"\n')
    flags = ["predict", run_dir, "--input", tmp_path / "in.csv", "--text", "text", "--quiet"]
    assert run_cli(*flags, "--output", tmp_path / "out.csv", "--spreadsheet-safe").code == 0
    rows = rows_of(tmp_path / "out.csv")
    assert [(row["text"], row["note"]) for row in rows] == [("'=1+1", "-5"), ("'@x", "'-x"), ("'+a", "'\tb")]
    assert run_cli(*flags, "--output", tmp_path / "plain.csv").code == 0
    assert rows_of(tmp_path / "plain.csv")[0]["text"] == "=1+1"
    rejected = run_cli(*flags, "--output", tmp_path / "out.jsonl", "--spreadsheet-safe")
    assert rejected.code == 2
    assert "--spreadsheet-safe" in rejected.err


def test_rows_of_another_encoding_are_hinted_at(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"text\ncaf\xe9\nplain\n")
    done = run_cli("predict", run_dir, "--input", tmp_path / "in.csv", "--text", "text", "--output", tmp_path / "o.csv")
    assert done.code == 0
    assert "--encoding cp1252" in done.err
    (tmp_path / "in.csv").write_bytes(b"text\n" + "你好吗\n".encode("gb18030") * 5)
    done = run_cli("predict", run_dir, "--input", tmp_path / "in.csv", "--text", "text", "--output", tmp_path / "o.csv")
    assert "gb18030" in done.err
    assert "cp1252" not in done.err
    (tmp_path / "in.csv").write_bytes(b"text\n" + "caf\u00e9 “x”\n".encode() * 20 + b"caf\xe9\n")
    done = run_cli("predict", run_dir, "--input", tmp_path / "in.csv", "--text", "text", "--output", tmp_path / "o.csv")
    assert (done.code, "utf-8" in done.err, "--encoding" in done.err) == (0, True, False)


def test_other_options_are_another_job(predictor: Predictor, big: Path, tmp_path: Path) -> None:
    from lasttoken.data.tables.options import ReadOptions

    output = tmp_path / "o.csv"
    interrupted(predictor, big, output)
    with pytest.raises(RunError, match="settings"):
        score_file(lambda: predictor, Source(big, options=ReadOptions(max_row_bytes=10**6)), output)


@pytest.mark.parametrize("value", [{}, {"a": {}}, [{}], [{"a": 1}, {"a": None, "b": {}}]])
def test_json_objects_without_keys_are_text_in_parquet(predictor: Predictor, tmp_path: Path, value: object) -> None:
    rows = [{"text": f"Win {at}", "meta": value if at else None} for at in range(4)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    score_file(lambda: predictor, Source(tmp_path / "in.jsonl"), tmp_path / "out.parquet")
    kept = parquet.read_table(tmp_path / "out.parquet").column("meta").to_pylist()
    assert kept[0] is None
    assert [json.loads(cell) for cell in kept[1:]] == [value] * 3


def test_json_values_of_several_types_fit_one_parquet_column(predictor: Predictor, tmp_path: Path) -> None:
    odd = [1, 2.5, "three", None, [1, "a"], {"k": 2**70}, True, 2**60 + 1]
    rows: list[dict[str, Any]] = [
        {"text": f"word {i}", "odd": odd[i // 10] if i % 10 == 0 else 1, "n": i if i < 50 else i + 0.5}
        for i in range(80)
    ]
    rows[-1]["late"] = "x"
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = score_file(lambda: predictor, Source(tmp_path / "in.jsonl"), tmp_path / "out.parquet")
    assert (done.counts.n_rows, done.counts.n_rejected) == (80, 0)
    found = parquet.read_table(tmp_path / "out.parquet")
    assert found["odd"].to_pylist()[20] == "three"
    assert found["n"].to_pylist() == [float(row["n"]) for row in rows]
    assert found["late"].to_pylist()[-1] == "x"


def test_a_file_is_scored_with_the_n_grams_of_the_classifier(blended_run: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(blended_run, "cpu")
    texts = ["Win prize number 3 now", "see you at 5 then", "see you " * 100, "prize"]
    source = tmp_path / "texts.csv"
    source.write_text("text\n" + "\n".join(texts) + "\n", "utf-8")
    score_file(lambda: predictor, Source(source, ColumnSpec(("text",))), tmp_path / "out.csv")
    expected = predictor.predict(texts)
    for row, prediction in zip(rows_of(tmp_path / "out.csv"), expected, strict=True):
        assert row["predicted_label"] == prediction.label
        assert float(row["predicted_score"]) == pytest.approx(prediction.score, abs=1e-5)


def test_a_job_belongs_to_the_n_grams_of_its_classifier(blended_run: Path) -> None:
    predictor = Predictor.load(blended_run, "cpu")
    before = parts.describe_classifier(predictor)
    assert predictor.classifier.ngrams
    predictor.classifier.ngrams.tensors["bias"].add_(1)
    assert parts.describe_classifier(predictor) != before
