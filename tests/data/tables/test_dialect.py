"""Separators and quotes are detected from the first lines."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from table_files import ROWS, frame, pairs, read

from lasttoken.core.columns import UNNAMED, ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.data.tables.opening import open_table


@pytest.mark.parametrize("separator", [";", "|", "\t", ","])
@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.csv.gz"])
def test_the_separator_of_a_file_is_detected(tmp_path: Path, separator: str, name: str) -> None:
    content = frame().to_csv(sep=separator, index=False).encode()
    found = read(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    assert pairs(found) == ROWS
    usual = "\t" if name == "a.txt" else ","
    assert separator == usual or any("--separator" in note for note in found.notes)


def test_one_long_row_does_not_hide_the_separator(tmp_path: Path) -> None:
    lines = ["text;label", *(f"word {i};x" for i in range(30)), "a;b;c"]
    with pytest.raises(DataError, match=r"row 31 \(line 32\).*3 fields where 2"):
        read(tmp_path / "a.csv", "\n".join(lines), ColumnSpec(text=("text",), label=("label",)))


@pytest.mark.parametrize("name", ["text;label", "text|label"])
def test_a_column_that_is_named_with_the_sign_stays_one_column(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text(f"{name}\na;b\nc;d\n")
    with open_table(tmp_path / "a.csv", asked=[name], labelled=False) as table:
        assert [row.values for row in table.rows()] == [{name: "a;b"}, {name: "c;d"}]


@pytest.mark.parametrize(("given", "separator"), [(";", ";"), ("~", "~"), ("\t", "\t")])
def test_the_separator_can_be_named(tmp_path: Path, given: str, separator: str) -> None:
    found = read(tmp_path / "a.dat.csv", frame().to_csv(sep=separator, index=False), separator=given)
    assert pairs(found) == ROWS


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "sep=;\r"])
def test_excels_own_first_line(tmp_path: Path, first: str) -> None:
    found = read(tmp_path / "a.csv", f"{first}\ntext;label\nhi, you;x\nho;y\n")
    assert pairs(found) == [("hi, you", "x"), ("ho", "y")]
    assert pairs(read(tmp_path / "b.csv", "sep=,\ntext,label\nhi,x\nho,y\n")) == [("hi", "x"), ("ho", "y")]
    with pytest.raises(DataError, match=r"row 1 \(line 3\)"):
        read(tmp_path / "c.csv", "sep=,\ntext,label\nhi,x,z\n")


@pytest.mark.parametrize("content", ['text, label\n"a, b", "x, y"\n"c", "z"\n', 'text, label\n"ab", "x"\n"cd", "z"\n'])
def test_a_space_before_a_quote(tmp_path: Path, content: str) -> None:
    assert not any('"' in label for _, label in pairs(read(tmp_path / "a.csv", content)))


def test_a_text_table_without_a_known_name_is_not_split_at_commas(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("anything, or so\nhi, you\n")
    with open_table(tmp_path / "a.txt", asked=["anything, or so"], labelled=False) as table:
        assert table.header == ["anything, or so"]


def excel(rows: list[tuple[str, str]]) -> str:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\t\n') else text

    return "".join("\t".join(map(cell, row)) + "\r\n" for row in rows)


@pytest.mark.parametrize(
    "content",
    [
        frame().to_csv(sep="\t", index=False),
        frame().to_csv(sep="\t", index=False, quoting=1),
        frame().to_csv(sep="\t", index=False, quoting=2),
        excel([("text", "label"), *ROWS]),
    ],
    ids=["pandas", "all", "nonnumeric", "excel"],
)
def test_quotes_as_programs_write_them_are_quotes(tmp_path: Path, content: str) -> None:
    found = read(tmp_path / "a.tsv", content)
    assert pairs(found) == ROWS
    assert any("quotes" in note for note in found.notes)


@pytest.mark.parametrize(
    "text",
    ['"Free" entry', '"never closed', 'say "hi"', '"Hello, there"', 'end "', '"a" and "b"'],
)
def test_quotes_that_are_text_stay(tmp_path: Path, text: str) -> None:
    lines = ["text\tlabel", f"{text}\tspam", "one, two\tham", 'a 5" nail\tham']
    assert read(tmp_path / "a.tsv", "\n".join(lines)).texts == [text, "one, two", 'a 5" nail']


def test_a_quote_late_in_the_file_decides_too(tmp_path: Path) -> None:
    lines = ["text\tlabel", '"a, b"\tx', *["plain\ty"] * 5000, 'say "hi"\tx']
    assert read(tmp_path / "a.tsv", "\n".join(lines)).texts[0] == '"a, b"'


@pytest.mark.parametrize("mark", ["^", "~", "\x01"])
def test_a_rarer_separator_is_hinted_at(tmp_path: Path, mark: str) -> None:
    content = "".join(f"{text}{mark}{label}\n" for text, label in [("text", "label"), ("hi", "a"), ("ho", "b")])
    for asked in (UNNAMED, ColumnSpec(("text",), ("label",))):
        with pytest.raises(DataError, match="--separator"):
            read(tmp_path / "a.csv", content, asked)
