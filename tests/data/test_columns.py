"""Columns are named, remembered or guessed, and a guess is stated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lasttoken.core.columns import ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.data.columns import choose_columns
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.tables.opening import open_table

Make = Callable[[str, str | bytes], Path]


def test_a_note_names_each_guessed_column(make: Make) -> None:
    found = read_examples(make("a.csv", "Id,Message,Category\n1,hello,x\n"))
    assert (found.texts, found.labels, found.ids) == (["hello"], ["x"], None)
    assert found.notes == (
        "the text is read from column 'Message' of a.csv (--text names another)",
        "the label is read from column 'Category' of a.csv (--label names another)",
    )


def test_named_columns_are_not_reported_as_guesses(make: Make) -> None:
    path = make("a.csv", "v1,v2,key,user,,\nspam,win,k1,u1,,\nham,hi,k2,u2,,\n")
    found = read_examples(path, ColumnSpec(("v2",), ("v1",), "key", "user"))
    assert found == Examples(["win", "hi"], ["spam", "ham"], ["k1", "k2"], ["u1", "u2"], "a.csv", ())


@pytest.mark.parametrize("header", ["text,whatever", "whatever,label", "text,label,other,title", "title,target,n,m"])
def test_obvious_columns(make: Make, header: str) -> None:
    with open_table(make("a.csv", header + "\n")) as table:
        columns = choose_columns(table)
    first = header.split(",")
    assert columns.spec.text[0] in ("text", "whatever", "title")
    assert columns.spec.label[0] in ("label", "whatever", "target")
    assert columns.spec.names == [*columns.spec.text, *columns.spec.label]
    assert set(columns.spec.names) <= set(first)


def test_the_one_column_left_is_the_other(make: Make) -> None:
    path = make("a.csv", "foo,bar\nhi,x\n")
    found = read_examples(path, ColumnSpec(("foo",)))
    assert (found.texts, found.labels) == (["hi"], ["x"])
    assert read_examples(path, ColumnSpec(label=("bar",))).texts == ["hi"]


def test_text_columns_are_joined_by_a_blank_line(make: Make) -> None:
    path = make("a.csv", "title,body,label\nHi,there,x\n,only body,y\n")
    assert read_examples(path, ColumnSpec(("title", "body"))).texts == ["Hi\n\nthere", "only body"]


def test_wrong_columns(make: Make) -> None:
    path = make("a.csv", "Text,Label\nhi,x\n")
    with pytest.raises(DataError, match=r"a.csv has no column 'text'; it has 'Text', 'Label'; did you mean 'Text'\?"):
        read_examples(path, ColumnSpec(("text",)))
    with pytest.raises(DataError, match=r"a.csv has no column 'Lable'; .* did you mean 'Label'\?"):
        read_examples(path, ColumnSpec(label=("Lable",)))
    with pytest.raises(DataError, match=r"a.csv has no column 'key'; it has 'Text', 'Label'$"):
        read_examples(path, ColumnSpec(id="key"))
    with pytest.raises(DataError, match=r"--text and --label both name column 'Text'"):
        read_examples(path, ColumnSpec(("Text",), ("Text",)))
