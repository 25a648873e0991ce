"""A header is told from a first line of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from table_files import pairs, read

from lasttoken.core.columns import ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.data.tables.opening import open_table

BODY = [("y", "Our toaster makes soup"), ("n", "A bag of soil"), ("y", "A copper pot"), ("n", "The hedge trimmer")]


@pytest.mark.parametrize("labels", [("y", "n"), ("question", "review"), ("1", "0"), ("__y", "tag")])
@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t"), ("a.csv", ";")])
@pytest.mark.parametrize("label_first", [True, False])
def test_a_file_without_a_header_keeps_its_first_row(
    tmp_path: Path, labels: tuple[str, str], name: str, separator: str, label_first: bool
) -> None:
    rows = [(labels["yn".index(label)], text) for label, text in BODY]
    lines = [separator.join(row if label_first else row[::-1]) for row in rows]
    found = read(tmp_path / name, "\n".join(lines) + "\n")
    assert pairs(found) == [(text, label) for label, text in rows]
    assert any("no header" in note for note in found.notes)


def test_more_columns_without_a_header_are_rejected(tmp_path: Path) -> None:
    lines = [f"{i},{label},{text}" for i, (label, text) in enumerate(BODY)]
    with pytest.raises(DataError, match=r"a.csv.*'y'.*--no-header"):
        read(tmp_path / "a.csv", "\n".join(lines))


@pytest.mark.parametrize(
    "content",
    [
        "text,label\nhi,x\ntext,label\nho,y\n",
        "message,spam\nwin,spam\nhi,ham\nyo,ham\n",
        "text,label\ntext,a\nhi,label\n",
        "text,label,kitchen\nhi,x,kitchen\nho,y,\n",
    ],
)
def test_a_header_whose_name_is_also_a_value_is_a_header(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with open_table(tmp_path / "a.csv") as table:
        assert not table.headerless


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_no_header_names_columns_by_number(tmp_path: Path, name: str) -> None:
    sign = "," if name == "a.csv" else "\t"
    found = read(
        tmp_path / name,
        f"7{sign}ham{sign}hi\n8{sign}spam{sign}win\n",
        ColumnSpec(text=("3",), label=("2",)),
        header=False,
    )
    assert pairs(found) == [("hi", "ham"), ("win", "spam")]


Make = Callable[[str, str | bytes], Path]


@pytest.mark.parametrize(
    ("content", "headerless"),
    [
        ("ham\thi\nspam\twin\nham\tok\n", True),
        ("label\tmessage\nham\thi\nham\tok\n", False),
        ("foo\tbar\nham\thi\nham\tok\n", False),
        ("ham\tham I am\nspam\tx\nham\ttext\n", True),
        ("good film\t1\nbad film\t0\ngood film\t1\n", False),
    ],
)
def test_a_first_line_of_data_is_distinguished_from_a_header(make: Make, content: str, headerless: bool) -> None:
    path = make("messages", content)
    with open_table(path) as table:
        assert table.headerless == headerless
    with open_table(path, asked=["ham"]) as table:
        assert not table.headerless
