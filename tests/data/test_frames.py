"""Tables of every library and lists of every make are read, or say what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lasttoken.core.columns import ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.data.frames import from_frame, from_lists, is_table

TEXTS, LABELS = ["one", "two", "three"], ["a", "b", "a"]
COLUMNS = {"text": TEXTS, "label": LABELS}
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


class PolarsLike:
    """What is used of a frame of polars: names, and series that know `to_list` only."""

    columns = tuple(COLUMNS)

    def collect_schema(self) -> None: ...

    def __getitem__(self, name: str) -> Any:
        class Series:
            def to_list(self) -> list[str]:
                return COLUMNS[name]

        return Series()


class LazyLike:
    """What is used of a lazy frame of polars."""

    def collect_schema(self) -> None: ...

    def collect(self) -> PolarsLike:
        return PolarsLike()


class DatasetLike:
    """What is used of a data set of Hugging Face's library; its columns are iterables."""

    column_names = tuple(COLUMNS)

    def __getitem__(self, name: str) -> Iterator[str]:
        return iter(COLUMNS[name])

    def __len__(self) -> int:
        return len(TEXTS)


TABLES: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "pandas strings": lambda: pd.DataFrame(COLUMNS, dtype="string", index=[9, 8, 7]),
    "categories": lambda: pd.DataFrame(COLUMNS).astype({"label": "category"}),
    "pyarrow table": lambda: pa.table(COLUMNS),
    "pyarrow batch": lambda: pa.RecordBatch.from_pydict(COLUMNS),
    "polars": PolarsLike,
    "polars, lazy": LazyLike,
    "datasets": DatasetLike,
    "dict of lists": lambda: COLUMNS,
    "dict of arrays": lambda: {name: np.array(values) for name, values in COLUMNS.items()},
    "list of dicts": lambda: ROWS,
    "tuple of dicts": lambda: tuple(ROWS),
    "structured array": lambda: np.array(
        list(zip(TEXTS, LABELS, strict=True)), dtype=[("text", "U9"), ("label", "U9")]
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_every_library_are_the_same_examples(name: str) -> None:
    assert is_table(TABLES[name]())
    found = from_frame(TABLES[name]())
    assert (found.texts, found.labels) == (TEXTS, LABELS)


def test_class_labels_of_datasets_are_their_names() -> None:
    class Classes(DatasetLike):
        features: ClassVar = {"text": object(), "label": SimpleNamespace(names=["ham", "spam"])}

        def __getitem__(self, name: str) -> Iterator[Any]:
            return iter([1, 0, -1] if name == "label" else ["one", "two", "three"])

    assert from_frame(Classes()).labels == ["spam", "ham", "-1"]


def test_rows_may_lack_keys() -> None:
    found = from_frame([{"label": "a", "body": "x"}, {"body": "y", "label": "b", "id": 7}], ColumnSpec(id="id"))
    assert (found.texts, found.labels, found.ids) == (["x", "y"], ["a", "b"], ["", "7"])


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"text": "hi", "label": "a"}, "'text'"),
        ({"train": pa.table(COLUMNS), "test": pa.table(COLUMNS)}, "'train'"),
        ({"text": ["a", "b"], "label": ["x"]}, "length"),
        ([*ROWS, "four"], "row 4"),
    ],
)
def test_values_that_resemble_a_table_are_rejected(table: Any, named: str) -> None:
    with pytest.raises(DataError, match=named):
        from_frame(table)


LISTS: dict[str, Callable[[list[str]], Any]] = {
    "tuple": tuple,
    "generator": iter,
    "dict keys": lambda values: dict.fromkeys(values).keys(),
    "strings": np.array,
    "objects": lambda values: np.array(values, dtype=object),
    "series": lambda values: pd.Series(values, index=range(10, 10 + len(values))),
    "arrow array": pa.array,
    "arrow chunks": lambda values: pa.chunked_array([values[:1], values[1:]]),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_every_library(name: str) -> None:
    assert from_lists(LISTS[name](TEXTS)).texts == TEXTS


@pytest.mark.parametrize("values", [{"one", "two"}, frozenset(("one",)), pd.DataFrame(COLUMNS), np.array("x"), 3, b"x"])
@pytest.mark.parametrize("name", ["texts", "labels"])
def test_values_that_are_not_lists_are_named(values: Any, name: str) -> None:
    with pytest.raises(DataError, match=f"^{name} is"):
        from_lists(**{"texts": ["one", "two"], "labels": ["a", "b"], name: values})


def test_values_are_the_same_labels_in_lists_and_in_frames() -> None:
    for labels in ([1.0, 0.5], [1, 0], [True, False], np.array([1.0, 2.0]), np.array([1, 2], dtype="int8")):
        frame = pd.DataFrame({"text": ["x", "y"], "label": labels})
        assert from_lists(["x", "y"], labels).labels == from_frame(frame).labels


def test_frame() -> None:
    frame = pd.DataFrame({"Message": ["a", "b"], "Label": [1, 0], 7: ["k", None], "list": [[1], [2]]})
    found = from_frame(frame, ColumnSpec(id="7"))
    assert (found.texts, found.labels, found.ids) == (["a", "b"], ["1", "0"], ["k", ""])
    assert from_frame(frame[["Message"]], labelled=False).labels is None


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, np.float64("nan"), ""])
def test_missing_values_of_a_frame(missing: object) -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": pd.Series(["x", missing], dtype=object)})
    with pytest.raises(DataError, match=r"row 2 of the table has no label in column 'label'"):
        from_frame(frame, strict=True)
    assert from_frame(frame).texts == ["a"]


def test_numpy_values_of_a_frame() -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": pd.Series([np.int64(3), np.bool_(True)], dtype=object)})
    assert from_frame(frame).labels == ["3", "true"]


def test_broken_frames() -> None:
    with pytest.raises(DataError, match=r"the table has columns 'text', 'label' but no rows"):
        from_frame(pd.DataFrame({"text": [], "label": []}))
    with pytest.raises(DataError, match=r"more than one column named 'text'"):
        from_frame(pd.DataFrame([["a", "b"]], columns=["text", "text"]))
    with pytest.raises(DataError, match=r"row 1 of the table has 2 labels \(\[1, 2\]\).* in column 'label'"):
        from_frame(pd.DataFrame({"text": ["a"], "label": [[1, 2]]}))
    with pytest.raises(DataError, match=r"the table has no column 'nope'"):
        from_frame(pd.DataFrame({"text": ["a"]}), ColumnSpec(label=("nope",)))


def test_lists() -> None:
    found = from_lists(np.array(["a", "b"]), np.array([1, 0]), ids=["x", 2])
    assert (found.texts, found.labels, found.ids) == (["a", "b"], ["1", "0"], ["x", "2"])
    assert type(found.texts[0]) is str
    assert from_lists([""]).texts == [""]
    assert len(from_lists([])) == 0


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["a", "b"], ["x"], "2 texts and 1 labels"),
        (["a", None], ["x", "y"], r"texts\[1\] is None, of type NoneType"),
        (["a", 5], None, r"texts\[1\] is 5, of type int"),
        (["a"], [float("nan")], r"labels\[0\] is nan, of type float"),
        (["a", " "], ["x", "y"], r"index 1 has ' ' as its text"),
        (["a"], [""], r"index 0 has '' as its label"),
        ("abc", ["x"], "texts is one string, 'abc'"),
        ([], [], "texts is empty"),
        (["\ud83d"], None, r"texts\[0\] has half a surrogate pair"),
    ],
)
def test_broken_lists(texts: list[str], labels: list[str] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_lists(texts, labels, strict=True)
