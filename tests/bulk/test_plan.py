"""The plan of an input: every row belongs to one part, wherever quotes and line ends are."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import fsspec
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from lasttoken.bulk.inputs import check_unchanged, list_inputs, would_name
from lasttoken.bulk.parting import _table as table_of
from lasttoken.bulk.pieces import fetch_piece
from lasttoken.bulk.plan import Plan, make_plan
from lasttoken.bulk.work import JobSettings
from lasttoken.core.errors import DataError
from lasttoken.data.tables.opening import open_table
from lasttoken.data.tables.options import DEFAULT, ReadOptions

CELLS = st.text(st.sampled_from('ab,"\n\r é;\t'), max_size=6)


def pieces(place: str, options: ReadOptions = DEFAULT, every: int = 3) -> list[list[dict[str, object]]]:
    """The rows of each part."""
    plan, _ = make_plan(place, options, ["text"], every)
    found = []
    for number in range(plan.n_parts):
        piece = plan.piece(number)
        with TemporaryDirectory() as name, ExitStack() as stack:
            path = fetch_piece(piece.file, piece.plan, piece.start, piece.end, Path(name))
            table = table_of(piece, path, plan.header, JobSettings(options=options), lambda _: None, stack)
            found.append([dict(row.values) for row in table.read(table.header)])
    return found


def whole(path: Path, options: ReadOptions = DEFAULT) -> list[dict[str, object]]:
    with open_table(path, options=options, asked=["text"], on_bad=lambda _: None, labelled=False) as table:
        return [dict(row.values) for row in table.read(table.header)]


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12), mark=st.booleans(), crlf=st.booleans())
def test_the_parts_of_a_csv_file_are_its_rows(rows: list[tuple[str, str]], mark: bool, crlf: bool) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n" if crlf else "\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("key", "text"), *rows])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_text(("\ufeff" if mark else "") + text.getvalue(), "utf-8", newline="")
        parts = pieces(str(path))
        assert [row for part in parts for row in part] == whole(path)
        assert all(len(part) == 3 for part in parts[:-1])


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(CELLS, min_size=1, max_size=12), blank=st.booleans(), ended=st.booleans(), every=st.integers(1, 4)
)
def test_the_parts_of_json_lines_are_its_rows(texts: list[str], blank: bool, ended: bool, every: int) -> None:
    lines = [json.dumps({"text": text}, ensure_ascii=False) + ("\n\n" if blank else "\n") for text in texts]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_text("".join(lines) if ended else "".join(lines).rstrip("\n"), "utf-8", newline="")
        assert [row for part in pieces(str(path), every=every) for row in part] == whole(path)


def test_other_encodings_quotes_and_compression(tmp_path: Path) -> None:
    rows = "".join(f"{at};déjà {at}\n" for at in range(9))
    (tmp_path / "a.csv").write_bytes(f"key;text\n{rows}".encode("cp1252"))
    options = ReadOptions(encoding="cp1252")
    assert [len(part) for part in pieces(str(tmp_path / "a.csv"), options)] == [3, 3, 3]
    (tmp_path / "b.csv").write_bytes(f"key;text\n{rows}".encode("utf-16"))
    assert [len(part) for part in pieces(str(tmp_path / "b.csv"))] == [9]
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(f"key;text\n{rows}".encode()))
    assert [len(part) for part in pieces(str(tmp_path / "c.csv.gz"))] == [9]
    (tmp_path / "d.csv").write_text(f"key;text\n{rows}1;2;3\n")  # a row that cannot be read counts as one
    assert [len(part) for part in pieces(str(tmp_path / "d.csv"))] == [3, 3, 3, 0]


def test_a_file_is_not_cut_behind_a_row_that_is_too_long_to_be_counted(tmp_path: Path) -> None:
    lines = [f"{at},{'long ' * 40 if at == 4 else 'short'}\n" for at in range(12)]
    (tmp_path / "a.csv").write_text("".join(["key,text\n", *lines]))
    assert [len(part) for part in pieces(str(tmp_path / "a.csv"), ReadOptions(max_row_bytes=100))] == [3, 8]


def test_parquet_is_cut_at_row_groups_where_they_are_small(tmp_path: Path) -> None:
    table = pyarrow.table({"text": [f"t{at}" for at in range(100)]})
    parquet.write_table(table.slice(0, 12), tmp_path / "small.parquet", row_group_size=2)
    parquet.write_table(table, tmp_path / "large.parquet", row_group_size=100)
    assert [len(part) for part in pieces(str(tmp_path / "small.parquet"))] == [4, 4, 4]
    assert [len(part) for part in pieces(str(tmp_path / "large.parquet"))] == [3] * 33 + [1]


def test_several_files_are_taken_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/1.csv", "a/2.csv", "a/_tmp/3.csv", "a/.hidden.csv", "a/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text\n{name}\n")
    assert [file.name for file in list_inputs(str(tmp_path))] == ["a/2.csv", "b/1.csv"]
    assert [file.name for file in list_inputs(str(tmp_path / "*" / "*.csv"))][-1] == "b/1.csv"
    assert [[row["text"] for row in part] for part in pieces(str(tmp_path))] == [["a/2.csv"], ["b/1.csv"]]
    plan, _ = make_plan(str(tmp_path), DEFAULT, [])
    assert Plan.from_json(json.loads(json.dumps(plan.to_json())), list_inputs(str(tmp_path)), "x") == plan


@pytest.mark.parametrize(
    ("other", "named"), [("text,more\nhi,1\n", r"b\.csv.*more"), ("", r"b\.csv is empty"), ('text\n"open\n', "closed")]
)
def test_files_that_do_not_go_together_are_refused(other: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nhi\n")
    (tmp_path / "b.csv").write_text(other)
    with pytest.raises(DataError, match=named):
        make_plan(str(tmp_path), DEFAULT, [], 1)


def test_inputs_that_are_not_there_are_refused(tmp_path: Path) -> None:
    for place, named in (("none-*.csv", "no file matches"), ("none.csv", "there is no file"), ("", "holds no table")):
        with pytest.raises(DataError, match=named):
            list_inputs(str(tmp_path / place))
    with pytest.raises(DataError, match=r"memory://in/none\.csv"):
        list_inputs("memory://in/none.csv")


def test_a_remote_input_has_the_rows_of_a_local_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lasttoken.bulk.pieces.START_BYTES", 4096)  # of a file, from which its columns are known
    rows = [{"key": str(at), "text": f"Win prize {at} " * 9} for at in range(200)]
    delimited = "key\ttext\n" + "".join(f"{row['key']}\t{row['text']}\n" for row in rows)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    contents = {
        "a.tsv": delimited.encode(),
        "a.csv.gz": gzip.compress(delimited.replace("\t", ",").encode()),
        "a.jsonl": lines.encode(),
        "a.jsonl.gz": gzip.compress(lines.encode()),
        "a.json": json.dumps(rows).encode(),
        "a.parquet": _parquet(rows, tmp_path / "a.parquet"),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        fsspec.filesystem("memory").pipe_file(f"/in/{name}", content)
        remote, local = (pieces(place, every=50) for place in (f"memory://in/{name}", str(tmp_path / name)))
        assert remote == local
        assert [row for part in local for row in part] == rows
        assert len(local) > 2 or name.endswith((".gz", ".json"))


def _parquet(rows: list[dict[str, str]], path: Path) -> bytes:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=30)
    return path.read_bytes()


def test_globs_match_as_in_a_shell(tmp_path: Path) -> None:
    for name in ("a.csv", ".hidden.csv", ".git/b.csv", "c/.d.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text\nhi\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    (tmp_path / "folder.csv").symlink_to(tmp_path / "c")
    for pattern, names in (("*.csv", ["a.csv", "link.csv"]), (".*.csv", [".hidden.csv"]), ("**/b.csv", [])):
        if names:
            assert [file.name for file in list_inputs(str(tmp_path / pattern))] == names
        else:
            with pytest.raises(DataError, match=r"b\.csv"):
                list_inputs(str(tmp_path / pattern))


def test_a_link_changes_with_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("text\nhi\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").symlink_to(tmp_path / "target")
    (before,) = list_inputs(str(tmp_path / "in"))
    check_unchanged(before)
    os.utime(tmp_path / "target", (1, 1))
    assert list_inputs(str(tmp_path / "in")) != [before]
    with pytest.raises(DataError, match=r"a\.csv was changed"):
        check_unchanged(before)
    (tmp_path / "in" / "a.csv").unlink()
    with pytest.raises(DataError, match=r"a\.csv is no longer there"):
        check_unchanged(before)


@pytest.mark.parametrize(
    ("place", "other", "is_named"),
    [
        ("in", "in/out/job.json", True),
        ("in", "in/_out/job.json", False),
        ("in", "in/out/part-000000.csv", True),
        ("in", "out/job.json", False),
        ("link", "in/out.csv", True),
        ("in/*.csv", "in/out.csv", True),
        ("in/*.csv", "in/out.jsonl", False),
        ("in/*.csv", "in/out/part-000000.csv", False),
        ("in/*/*.csv", "in/out/part-000000.csv", True),
        ("in/**/*.csv", "in/out/part-000000.csv", True),
        ("in/a.csv", "in/out/job.json", False),
        ("in/a.csv", "in/../in/a.csv", True),
        ("in", "memory://in/out.csv", False),
        ("memory://in/*.csv", "memory://in/out.csv", True),
    ],
)
def test_an_output_among_the_inputs_is_recognized(
    place: str, other: str, is_named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/a.csv").write_text("text\nhi\n")
    Path("link").symlink_to("in")
    assert would_name(place, other) == is_named


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_the_start_of_a_remote_file_may_break_off_in_a_cell(
    encoding: str, strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lasttoken.bulk.pieces.START_BYTES", 4096)
    for last in range(7):  # so that the start ends at another place of a row
        rows = "".join(f'{at},"a ""free"" {"prize " * 30}\n\nline, {"now" * last}"\n' for at in range(60))
        fsspec.filesystem("memory").pipe_file("/in/q.csv", f"key,text\n{rows}".encode(encoding))
        plan, _ = make_plan("memory://in/q.csv", ReadOptions(encoding=encoding), ["text"], 3, strict)
        assert plan.header == ("key", "text")
        assert plan.n_parts == (20 if encoding == "utf-8" else 1)


def test_a_line_may_be_longer_than_the_start_of_a_remote_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lasttoken.bulk.pieces.START_BYTES", 4096)
    lines = [json.dumps({"key": at, "text": "Win prize " * 600}) + "\n" for at in range(9)]
    fsspec.filesystem("memory").pipe_file("/in/long.jsonl", "".join(lines).encode())
    assert [len(part) for part in pieces("memory://in/long.jsonl")] == [3, 3, 3]
